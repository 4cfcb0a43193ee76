#include "traces/workload/generate.h"
#include "traces/workload/arrivals.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Streams of a seed: what a request is like and when it comes are independent of each other. */
#define CONTENT_STREAM 0x636f6e74656e7473u
#define ARRIVAL_STREAM 0x6172726976616c73u

struct workload {
    struct workload_spec spec;
    double rate;
    uint64_t content_seed, index;
    struct arrivals arrivals;
    double class_shares; /* their sum */
    struct trace_request request;
    struct trace_prefix prefix;
    struct trace_stage *stages;
    int32_t *tokens;
};

/* --- branches */

static int32_t draw_range(const struct workload_range *range, struct rng *rng)
{
    return range->least + (int32_t)rng_below(rng, (uint64_t)(range->most - range->least) + 1);
}

/* workload_check has seen that at least one draw in a hundred lies within. */
static int32_t draw_branch(const struct workload_branching *branching, struct rng *rng)
{
    for (;;) {
        double tokens = branching->branch_median * exp(branching->branch_sigma * rng_normal(rng));
        if (tokens >= branching->branch.least && tokens <= branching->branch.most)
            return (int32_t)tokens;
    }
}

size_t workload_branching_tokens(const struct workload_branching *branching)
{
    return (size_t)branching->stages.most * (1 + (size_t)branching->width.most) + 1;
}

static int32_t *add_serial(const struct workload_range *range, struct rng *rng,
                           struct trace_stage *stage, int32_t *tokens)
{
    *tokens = draw_range(range, rng);
    *stage = (struct trace_stage){.branch_count = 1, .branch_tokens = tokens};
    return tokens + 1;
}

int32_t workload_draw_stages(const struct workload_branching *branching, struct rng *rng,
                             struct trace_stage *stages, int32_t *tokens)
{
    int32_t times = draw_range(&branching->stages, rng), count = 0;
    for (int32_t i = 0; i < times; i++) {
        tokens = add_serial(&branching->lead, rng, &stages[count++], tokens);
        int32_t width = draw_range(&branching->width, rng);
        stages[count++] =
            (struct trace_stage){.parallel = true, .branch_count = width, .branch_tokens = tokens};
        for (int32_t b = 0; b < width; b++)
            *tokens++ = draw_branch(branching, rng);
    }
    add_serial(&branching->tail, rng, &stages[count++], tokens);
    return count;
}

/* --- the stream */

enum status workload_open(const struct workload_spec *spec, double rate, uint64_t seed,
                          struct workload **out, struct error *err)
{
    *out = NULL;
    enum status status = workload_check(spec, err);
    if (status) return status;
    if (!(rate > 0 && rate <= 1e6))
        return fail(err, ST_USAGE,
                    "--rate: found %g, allowed is above 0, to 1000000 requests a second", rate);
    struct workload *w = must_alloc(sizeof *w);
    *w = (struct workload){.spec = *spec, .rate = rate};
    w->content_seed = mix64(seed ^ CONTENT_STREAM);
    arrivals_start(&w->arrivals, spec->arrivals, spec->arrival_cv, mix64(seed ^ ARRIVAL_STREAM));
    for (int32_t i = 0; i < spec->class_count; i++)
        w->class_shares += spec->classes[i].share;
    w->stages = must_alloc(((size_t)spec->branching.stages.most * 2 + 1) * sizeof *w->stages);
    w->tokens = must_alloc(workload_branching_tokens(&spec->branching) * sizeof *w->tokens);
    *out = w;
    return ST_OK;
}

void workload_close(struct workload *workload)
{
    if (!workload) return;
    free(workload->stages);
    free(workload->tokens);
    free(workload);
}

static int32_t cut_to(const struct workload_range *range, double tokens)
{
    return (int32_t)fmin(fmax(tokens, range->least), range->most);
}

static const struct workload_class *draw_class(const struct workload *w, struct rng *rng)
{
    double at = rng_unit(rng) * w->class_shares;
    int32_t i = 0;
    while (i + 1 < w->spec.class_count && at >= w->spec.classes[i].share)
        at -= w->spec.classes[i++].share;
    return &w->spec.classes[i];
}

static void draw_prefix(struct workload *w, struct rng *rng)
{
    struct trace_request *request = &w->request;
    double decides = rng_unit(rng), which = rng_unit(rng);
    if (decides >= w->spec.prefixes.share || request->prompt_tokens < 2) return;
    w->prefix = (struct trace_prefix){
        .id = (uint64_t)(which * w->spec.prefixes.count),
        .tokens = min_i32(w->spec.prefixes.tokens, request->prompt_tokens - 1)};
    request->prefixes = &w->prefix;
    request->prefix_count = 1;
}

/* In whole 0.1 us, as a file has it: a trace that is written and read again is the same. */
static double arrival_ms(struct workload *w)
{
    double ms = rate_levels_time(&w->spec.levels, w->rate, arrivals_next(&w->arrivals)) * 1000;
    return fmin(nearbyint(ms * 1e4) / 1e4, TRACE_MAX_MS);
}

/* What is drawn first does not depend on what is drawn behind it: the same prompts with and without
 * branches. */
const struct trace_request *workload_next(struct workload *w)
{
    const struct workload_spec *spec = &w->spec;
    struct rng rng = {rng_at(w->content_seed, w->index++)};
    struct length_pair lengths = lengths_draw(&spec->lengths, &rng);
    const struct workload_class *slo = draw_class(w, &rng);
    w->request = (struct trace_request){
        .arrival_ms = arrival_ms(w),
        .prompt_tokens = cut_to(&spec->prompt, lengths.prompt * spec->prompt_scale),
        .stages = w->stages,
        .ttft_ms = slo->ttft_ms,
        .tpot_ms = slo->tpot_ms,
        .class_name = slo->name};
    w->request.cached_tokens = (int32_t)(w->request.prompt_tokens * spec->cached_share);
    draw_prefix(w, &rng);
    if (rng_unit(&rng) < spec->branching.share) {
        w->request.stage_count = workload_draw_stages(&spec->branching, &rng, w->stages, w->tokens);
        return &w->request;
    }
    w->tokens[0] = cut_to(&spec->output, lengths.output);
    w->stages[0] = (struct trace_stage){.branch_count = 1, .branch_tokens = w->tokens};
    w->request.stage_count = 1;
    return &w->request;
}

#define MOST_IN_MEMORY 50e6 /* requests: some gigabytes */

enum status workload_generate(const struct workload_spec *spec, double rate, double duration_s,
                              uint64_t seed, struct trace **out, struct error *err)
{
    struct workload *w;
    *out = NULL;
    if (!(duration_s >= 0 && duration_s * rate <= MOST_IN_MEMORY))
        return fail(err, ST_USAGE,
                    "--duration: found %g s at %g requests/s, at most %.0f requests fit",
                    duration_s, rate, MOST_IN_MEMORY);
    enum status status = workload_open(spec, rate, seed, &w, err);
    if (status) return status;
    struct trace *trace = trace_create();
    double end_ms = fmin(duration_s * 1000, TRACE_MAX_MS); /* no arrival is later */
    for (;;) {
        const struct trace_request *request = workload_next(w);
        if (request->arrival_ms >= end_ms) break;
        trace_add(trace, request);
    }
    workload_close(w);
    *out = trace;
    return ST_OK;
}
