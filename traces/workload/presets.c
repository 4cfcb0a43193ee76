/* The study's workloads, and what a specification may say. */
#include "traces/workload/generate.h"
#include "base/base.h"

#include <math.h>
#include <string.h>

struct workload_spec workload_default(void)
{
    struct workload_spec spec = {
        .lengths = {.kind = LENGTHS_QUANTILES,
                    .prompt = azure_conv_prompt,
                    .output = azure_conv_output},
        .prompt_scale = 1,
        .prompt = {1, 1000000},
        .output = {1, 1000000},
        .arrival_cv = 1,
        .classes = {{.name = "", .share = 1}},
        .class_count = 1,
    };
    /* The study's numbers end below the limits that it names: 20 + (int)(u * 60). */
    spec.branching = (struct workload_branching){.width = {2, 8},
                                                 .stages = {1, 3},
                                                 .lead = {20, 79},
                                                 .tail = {50, 199},
                                                 .branch_median = 130,
                                                 .branch_sigma = 0.6,
                                                 .branch = {50, 400}};
    return spec;
}

/* ../shared/reference/controller.md, "The workloads". */
static const struct preset {
    const char *name;
    double share;
    struct workload_range width;
    double prompt_scale, cached_share; /* 0: 1 and 0 */
    bool azure_arrivals, code;
} presets[] = {
    {"W1", 0.5, {2, 8}, 0, 0, false, false},    {"W2", 0.3, {4, 16}, 0, 0, false, false},
    {"W3", 0.7, {2, 16}, 0, 0, false, false},   {"W4", 0.5, {8, 16}, 0, 0, false, false},
    {"W5", 0.5, {2, 4}, 0, 0, false, false},    {"W6", 0.5, {2, 8}, 6, 0.9, false, false},
    {"W7", 0.5, {2, 16}, 0, 0, true, false},    {"W8", 0.3, {2, 8}, 0, 0, false, true},
    {"W9", 0.5, {2, 16}, 0, 0.8, false, false}, {"W10", 0.1, {16, 24}, 0, 0, false, false},
};

/* taper_sim.c, fillreq: prompts are cut to 16 to 60,000 tokens, outputs have at least 2. */
static void fill_preset(const struct preset *preset, struct workload_spec *spec)
{
    *spec = workload_default();
    spec->prompt = (struct workload_range){16, 60000};
    spec->output.least = 2;
    spec->branching.share = preset->share;
    spec->branching.width = preset->width;
    if (preset->prompt_scale > 0) spec->prompt_scale = preset->prompt_scale;
    spec->cached_share = preset->cached_share;
    if (preset->azure_arrivals) spec->arrivals = ARRIVALS_AZURE;
    if (preset->code) {
        spec->lengths.prompt = azure_code_prompt;
        spec->lengths.output = azure_code_output;
    }
    spec->classes[0].ttft_ms = 2000;
    spec->classes[0].tpot_ms = 50;
}

enum status workload_preset(const char *name, struct workload_spec *spec, struct error *err)
{
    for (size_t i = 0; i < COUNT_OF(presets); i++) {
        if (strcmp(presets[i].name, name)) continue;
        fill_preset(&presets[i], spec);
        return ST_OK;
    }
    return fail(err, ST_USAGE, "found '%s', allowed is W1 to W10", name);
}

/* --- what a specification may say */

static enum status check_share(const char *name, double share, struct error *err)
{
    if (share >= 0 && share <= 1) return ST_OK;
    return fail(err, ST_USAGE, "%s: found %g, allowed is 0 to 1", name, share);
}

static enum status check_range(const char *name, const struct workload_range *range, int32_t most,
                               struct error *err)
{
    if (range->least >= 1 && range->least <= range->most && range->most <= most) return ST_OK;
    return fail(err, ST_USAGE, "%s: found %d to %d, allowed is a range within 1 to %d", name,
                range->least, range->most, most);
}

/* Share of a lognormal's draws within the range. */
static double share_within(const struct workload_branching *b)
{
    if (b->branch_sigma == 0)
        return b->branch_median >= b->branch.least && b->branch_median <= b->branch.most;
    double spread = b->branch_sigma * sqrt(2);
    double low = log(b->branch.least / b->branch_median) / spread;
    double high = log(b->branch.most / b->branch_median) / spread;
    return (erf(high) - erf(low)) / 2;
}

static enum status check_branching(const struct workload_branching *b, struct error *err)
{
    enum status status = check_share("--branching", b->share, err);
    if (!status) status = check_range("--width", &b->width, WORKLOAD_MAX_WIDTH, err);
    if (!status) status = check_range("--stages", &b->stages, WORKLOAD_MAX_STAGES, err);
    if (!status) status = check_range("--lead", &b->lead, 1000000, err);
    if (!status) status = check_range("--tail", &b->tail, 1000000, err);
    if (!status) status = check_range("--branch-tokens", &b->branch, 1000000, err);
    if (status) return status;
    if (!(b->branch_median >= 1 && b->branch_median <= 1e6 && b->branch_sigma >= 0 &&
          b->branch_sigma <= 5))
        return fail(err, ST_USAGE,
                    "--branch-tokens: found median %g and sigma %g, allowed is 1 to 1000000 and 0 "
                    "to 5",
                    b->branch_median, b->branch_sigma);
    if (!(share_within(b) >= 0.01))
        return fail(err, ST_USAGE,
                    "--branch-tokens: of a lognormal with median %g and sigma %g only %.2g %% lie "
                    "within %d to %d, at least 1 %% must",
                    b->branch_median, b->branch_sigma, 100 * share_within(b), b->branch.least,
                    b->branch.most);
    double most = b->stages.most * ((double)b->width.most * b->branch.most + b->lead.most);
    if (most + b->tail.most > TRACE_MAX_TOKENS / 2)
        return fail(
            err, ST_USAGE,
            "a request could have %.0f output tokens, at most %d are allowed: lower --stages, "
            "--width, --branch-tokens, --lead or --tail",
            most + b->tail.most, TRACE_MAX_TOKENS / 2);
    return ST_OK;
}

static enum status check_classes(const struct workload_spec *spec, struct error *err)
{
    double sum = 0;
    if (spec->class_count < 1 || spec->class_count > WORKLOAD_MAX_CLASSES)
        return fail(err, ST_USAGE, "--class: found %d, allowed is 1 to %d", spec->class_count,
                    WORKLOAD_MAX_CLASSES);
    for (int32_t i = 0; i < spec->class_count; i++) {
        const struct workload_class *slo = &spec->classes[i];
        if (!(slo->share >= 0 && slo->share <= 1e9))
            return fail(err, ST_USAGE, "--class %s: found a share of %g, allowed is 0 or more",
                        slo->name, slo->share);
        if (!(slo->ttft_ms >= 0 && slo->ttft_ms <= TRACE_MAX_MS && slo->tpot_ms >= 0 &&
              slo->tpot_ms <= TRACE_MAX_MS))
            return fail(err, ST_USAGE,
                        "--class %s: found an SLO of %g and %g ms, allowed is 0 (none) to %.13g",
                        slo->name, slo->ttft_ms, slo->tpot_ms, TRACE_MAX_MS);
        sum += slo->share;
    }
    return sum > 0 ? ST_OK : fail(err, ST_USAGE, "--class: all shares are 0");
}

enum status workload_check(const struct workload_spec *spec, struct error *err)
{
    enum status status = check_branching(&spec->branching, err);
    if (!status) status = check_range("prompt tokens", &spec->prompt, TRACE_MAX_TOKENS / 2, err);
    if (!status) status = check_range("output tokens", &spec->output, TRACE_MAX_TOKENS / 2, err);
    if (!status) status = check_share("--prefixes", spec->prefixes.share, err);
    if (!status) status = check_classes(spec, err);
    if (status) return status;
    if (!(spec->cached_share >= 0 && spec->cached_share < 1))
        return fail(err, ST_USAGE, "--cached: found %g, allowed is 0 to below 1",
                    spec->cached_share);
    if (!(spec->prompt_scale > 0 && spec->prompt_scale <= 1e6))
        return fail(err, ST_USAGE, "prompt scale: found %g, allowed is above 0, to 1000000",
                    spec->prompt_scale);
    if (spec->prefixes.share > 0 && (spec->prefixes.count < 1 || spec->prefixes.tokens < 1))
        return fail(err, ST_USAGE,
                    "--prefixes: found %d of %d tokens, allowed is 1 or more of 1 or more",
                    spec->prefixes.count, spec->prefixes.tokens);
    if (spec->arrivals == ARRIVALS_GAMMA && !(spec->arrival_cv >= 0.05 && spec->arrival_cv <= 20))
        return fail(err, ST_USAGE, "--arrivals gamma: found CV %g, allowed is 0.05 to 20",
                    spec->arrival_cv);
    return ST_OK;
}
