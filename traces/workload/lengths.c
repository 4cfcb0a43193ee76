#include "traces/workload/lengths.h"
#include "traces/trace.h"
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 100000000.0

static int32_t bounded(double tokens)
{
    return (int32_t)fmin(fmax(tokens, 1), LONGEST);
}

static double quantile_at(const struct quantiles *quantiles, double unit)
{
    const struct quantile *at = quantiles->points;
    double percent = 100 * unit;
    while (at[1].percent < percent)
        at++;
    double share = (percent - at[0].percent) / (at[1].percent - at[0].percent);
    return at[0].tokens + share * (at[1].tokens - at[0].tokens);
}

struct length_pair lengths_draw(const struct lengths *lengths, struct rng *rng)
{
    if (lengths->kind == LENGTHS_SAMPLES)
        return lengths->pairs[rng_below(rng, lengths->pair_count)];
    double prompt, output;
    if (lengths->kind == LENGTHS_QUANTILES) {
        prompt = quantile_at(&lengths->prompt, rng_unit(rng));
        output = quantile_at(&lengths->output, rng_unit(rng));
    } else {
        prompt = lengths->prompt_lognormal.median *
                 exp(lengths->prompt_lognormal.sigma * rng_normal(rng));
        output = lengths->output_lognormal.median *
                 exp(lengths->output_lognormal.sigma * rng_normal(rng));
    }
    return (struct length_pair){bounded(prompt), bounded(output)};
}

static enum status parse_lognormal(const char *text, struct lengths *lengths, struct error *err)
{
    double *const values[] = {&lengths->prompt_lognormal.median, &lengths->prompt_lognormal.sigma,
                              &lengths->output_lognormal.median, &lengths->output_lognormal.sigma};
    const char *at = text + strlen("lognormal");
    bool good = true;
    for (size_t i = 0; i < COUNT_OF(values) && good; i++) {
        char *end = NULL;
        good = *at == ':' && at[1] >= '0' && at[1] <= '9';
        *values[i] = good ? strtod(at + 1, &end) : 0;
        good = good && *values[i] >= (i % 2 ? 0 : 1) && *values[i] <= (i % 2 ? 5 : LONGEST);
        at = good ? end : at;
    }
    if (good && !*at) return ST_OK;
    return fail(err, ST_USAGE,
                "found '%s', allowed is lognormal:PROMPT_MEDIAN:SIGMA:OUTPUT_MEDIAN:SIGMA such as "
                "lognormal:1000:0.8:150:0.7, medians at least 1, sigmas 0 to 5",
                text);
}

static enum status load_pairs(const char *path, struct lengths *lengths, struct error *err)
{
    struct trace_read_options options = {0};
    struct trace *trace;
    enum status status = trace_load(path, &options, &trace, NULL, err);
    if (status == ST_NOT_FOUND)
        return fail(err, ST_USAGE,
                    "found '%s', allowed is azure-conv, azure-code, lognormal:... or the path of a "
                    "trace, and there is no such file",
                    path);
    if (status) return status;
    if (trace->count == 0)
        status = fail(err, ST_INVALID, "%s: has no requests to take lengths from", path);
    lengths->pairs = must_alloc(trace->count * sizeof *lengths->pairs);
    lengths->pair_count = trace->count;
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_request *request = &trace->requests[i];
        lengths->pairs[i] = (struct length_pair){bounded(request->prompt_tokens),
                                                 bounded((double)trace_request_output(request))};
    }
    trace_free(trace);
    return status;
}

enum status lengths_parse(const char *text, struct lengths *lengths, struct error *err)
{
    *lengths = (struct lengths){
        .kind = LENGTHS_QUANTILES, .prompt = azure_conv_prompt, .output = azure_conv_output};
    if (!strcmp(text, "azure-conv")) return ST_OK;
    if (!strcmp(text, "azure-code")) {
        lengths->prompt = azure_code_prompt;
        lengths->output = azure_code_output;
        return ST_OK;
    }
    if (!strncmp(text, "lognormal", strlen("lognormal"))) {
        lengths->kind = LENGTHS_LOGNORMAL;
        return parse_lognormal(text, lengths, err);
    }
    lengths->kind = LENGTHS_SAMPLES;
    return load_pairs(text, lengths, err);
}

void lengths_release(struct lengths *lengths)
{
    free(lengths->pairs);
    *lengths = (struct lengths){0};
}
