#include "traces/workload/spec_text.h"
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct workload_texts workload_texts_none(void)
{
    return (struct workload_texts){.branching = NAN, .cached = NAN};
}

bool workload_texts_idle(const struct workload_texts *t)
{
    return !t->preset && !isfinite(t->branching) &&
           (t->width || t->stages || t->branch_tokens || t->lead || t->tail);
}

/* --- parts between colons */

#define MAX_PARTS 5

struct parts {
    const char *text[MAX_PARTS];
    size_t length[MAX_PARTS];
    int count; /* MAX_PARTS + 1: more */
};

static struct parts split(const char *text)
{
    struct parts parts = {0};
    for (;; text++) {
        size_t length = strcspn(text, ":");
        if (parts.count == MAX_PARTS) {
            parts.count++;
            return parts;
        }
        parts.text[parts.count] = text;
        parts.length[parts.count++] = length;
        text += length;
        if (!*text) return parts;
    }
}

/* A number without a sign, up to 1e9. */
static bool part_number(const struct parts *parts, int index, double *number)
{
    char text[32], *end;
    size_t length = parts->length[index];
    if (length == 0 || length >= sizeof text) return false;
    memcpy(text, parts->text[index], length);
    text[length] = 0;
    if (strspn(text, "0123456789.") != length) return false;
    *number = strtod(text, &end);
    return end == text + length && *number <= 1e9;
}

static bool part_whole(const struct parts *parts, int index, int32_t *number)
{
    double value;
    if (!part_number(parts, index, &value) || value != floor(value)) return false;
    *number = (int32_t)value;
    return true;
}

static enum status parse_range(const char *option, const char *text, struct workload_range *range,
                               struct error *err)
{
    if (!text) return ST_OK;
    struct parts parts = split(text);
    bool good = parts.count <= 2 && part_whole(&parts, 0, &range->least) &&
                part_whole(&parts, parts.count - 1, &range->most) && range->least >= 1 &&
                range->least <= range->most;
    if (good) return ST_OK;
    return fail(err, ST_USAGE,
                "--%s: found '%s', allowed is MIN:MAX such as 2:8, or one number, from 1 on",
                option, text);
}

static enum status parse_branch_tokens(const char *text, struct workload_branching *branching,
                                       struct error *err)
{
    if (!text) return ST_OK;
    struct parts parts = split(text);
    bool good = (parts.count == 2 || parts.count == 4) &&
                part_number(&parts, 0, &branching->branch_median) &&
                part_number(&parts, 1, &branching->branch_sigma);
    branching->branch = (struct workload_range){1, 1000000};
    if (good && parts.count == 4)
        good = part_whole(&parts, 2, &branching->branch.least) &&
               part_whole(&parts, 3, &branching->branch.most);
    if (good) return ST_OK;
    return fail(err, ST_USAGE,
                "--branch-tokens: found '%s', allowed is MEDIAN:SIGMA or MEDIAN:SIGMA:MIN:MAX such "
                "as 130:0.6:50:400",
                text);
}

static enum status parse_arrivals(const char *text, struct workload_spec *spec, struct error *err)
{
    if (!text) return ST_OK;
    struct parts parts = split(text);
    bool one = parts.count == 1, two = parts.count == 2;
    if (one && !strcmp(text, "poisson"))
        spec->arrivals = ARRIVALS_POISSON;
    else if (one && !strcmp(text, "azure"))
        spec->arrivals = ARRIVALS_AZURE;
    else if (two && !strncmp(text, "gamma:", 6) && part_number(&parts, 1, &spec->arrival_cv))
        spec->arrivals = ARRIVALS_GAMMA;
    else
        return fail(
            err, ST_USAGE,
            "--arrivals: found '%s', allowed is poisson, azure, or gamma:CV such as gamma:2", text);
    return ST_OK;
}

static enum status parse_prefixes(const char *text, struct workload_spec *spec, struct error *err)
{
    if (!text) return ST_OK;
    struct parts parts = split(text);
    spec->prefixes.share = 1;
    bool good = (parts.count == 2 || parts.count == 3) &&
                part_whole(&parts, 0, &spec->prefixes.count) &&
                part_whole(&parts, 1, &spec->prefixes.tokens);
    if (good && parts.count == 3) good = part_number(&parts, 2, &spec->prefixes.share);
    if (good) return ST_OK;
    return fail(err, ST_USAGE,
                "--prefixes: found '%s', allowed is COUNT:TOKENS or COUNT:TOKENS:SHARE such as "
                "4:512:0.8",
                text);
}

/* --- SLO */

static bool parse_limit(const char *text, size_t length, double *ms)
{
    char copy[32];
    int64_t us = 0;
    if (length >= sizeof copy) return false;
    memcpy(copy, text, length);
    copy[length] = 0;
    if (strcmp(copy, "none") && (parse_time(copy, &us, NULL) || us == 0)) return false;
    *ms = (double)us / 1000;
    return true;
}

static enum status parse_slo(const char *option, const char *text, double *ms, struct error *err)
{
    if (!text || parse_limit(text, strlen(text), ms)) return ST_OK;
    return fail(err, ST_USAGE,
                "--%s: found '%s', allowed is a time with its unit such as 50ms or 2s, or none",
                option, text);
}

static enum status parse_class(const char *text, struct workload_class *slo, char name[64],
                               struct error *err)
{
    struct parts parts = split(text);
    bool good = parts.count == 4 && parts.length[0] > 0 && parts.length[0] < 64 &&
                part_number(&parts, 1, &slo->share) &&
                parse_limit(parts.text[2], parts.length[2], &slo->ttft_ms) &&
                parse_limit(parts.text[3], parts.length[3], &slo->tpot_ms);
    if (!good)
        return fail(err, ST_USAGE,
                    "--class: found '%s', allowed is NAME:SHARE:TTFT:TPOT such as chat:0.7:1s:40ms "
                    "or batch:0.3:none:none",
                    text);
    memcpy(name, parts.text[0], parts.length[0]);
    name[parts.length[0]] = 0;
    slo->name = name;
    return ST_OK;
}

static enum status parse_classes(const struct workload_texts *texts, struct workload_spec *spec,
                                 char names[][64], struct error *err)
{
    if (texts->classes.count > WORKLOAD_MAX_CLASSES)
        return fail(err, ST_USAGE, "--class: given %zu times, at most %d are allowed",
                    texts->classes.count, WORKLOAD_MAX_CLASSES);
    if (texts->classes.count > 0 && (texts->slo_ttft || texts->slo_tpot))
        return fail(err, ST_USAGE,
                    "--class names the limits of each class: give it, or --slo-ttft "
                    "and --slo-tpot, not both");
    for (size_t i = 0; i < texts->classes.count; i++) {
        enum status status =
            parse_class(texts->classes.values[i], &spec->classes[i], names[i], err);
        if (status) return status;
        spec->class_count = (int32_t)i + 1;
    }
    enum status status = parse_slo("slo-ttft", texts->slo_ttft, &spec->classes[0].ttft_ms, err);
    return status ? status : parse_slo("slo-tpot", texts->slo_tpot, &spec->classes[0].tpot_ms, err);
}

/* --- the whole */

static enum status parse_preset(const char *name, struct workload_spec *spec, struct error *err)
{
    *spec = workload_default();
    if (!name || !workload_preset(name, spec, err)) return ST_OK;
    return fail_prefix(err, "--preset");
}

enum status workload_from_texts(const struct workload_texts *texts, struct workload_spec *spec,
                                char names[][64], struct error *err)
{
    struct workload_branching *branching = &spec->branching;
    enum status status = parse_preset(texts->preset, spec, err);
    if (!status) status = parse_range("width", texts->width, &branching->width, err);
    if (!status) status = parse_range("stages", texts->stages, &branching->stages, err);
    if (!status) status = parse_range("lead", texts->lead, &branching->lead, err);
    if (!status) status = parse_range("tail", texts->tail, &branching->tail, err);
    if (!status) status = parse_branch_tokens(texts->branch_tokens, branching, err);
    if (!status) status = parse_arrivals(texts->arrivals, spec, err);
    if (!status && texts->levels) status = rate_levels_parse(texts->levels, &spec->levels, err);
    if (!status) status = parse_prefixes(texts->prefixes, spec, err);
    if (!status) status = parse_classes(texts, spec, names, err);
    if (isfinite(texts->branching)) branching->share = texts->branching;
    if (isfinite(texts->cached)) spec->cached_share = texts->cached;
    if (!status) status = workload_check(spec, err);
    if (status || !texts->lengths) return status;
    status = lengths_parse(texts->lengths, &spec->lengths, err);
    return status ? fail_prefix(err, "--lengths") : ST_OK;
}
