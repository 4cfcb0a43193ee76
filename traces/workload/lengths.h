/* How long prompts and answers are: from quantiles of a production trace, from a lognormal, or
 * drawn from the requests of a file.
 */
#ifndef TRACES_WORKLOAD_LENGTHS_H
#define TRACES_WORKLOAD_LENGTHS_H

#include "base/rng.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* A point of an inverse distribution function; between two points it is linear. */
struct quantile {
    double percent; /* 0 first, 100 last, rising */
    int32_t tokens;
};

struct quantiles {
    const struct quantile *points;
    size_t count;
};

/* "azure-conv" and "azure-code" (lengths_azure.c says where the figures come from). */
extern const struct quantiles azure_conv_prompt, azure_conv_output;
extern const struct quantiles azure_code_prompt, azure_code_output;

struct length_pair {
    int32_t prompt, output;
};

enum lengths_kind { LENGTHS_QUANTILES, LENGTHS_LOGNORMAL, LENGTHS_SAMPLES };

struct lengths {
    enum lengths_kind kind;
    struct quantiles prompt, output; /* QUANTILES: drawn independently of each other */
    struct {
        double median, sigma; /* of the logarithm; tokens */
    } prompt_lognormal, output_lognormal;
    struct length_pair *pairs; /* SAMPLES, [pair_count]: a request's two lengths stay together */
    size_t pair_count;
};

/* "azure-conv", "azure-code", "lognormal:PROMPT_MEDIAN:SIGMA:OUTPUT_MEDIAN:SIGMA", or the path of a
 * trace in any format. Release it with lengths_release. ST_USAGE: what was found, what is allowed;
 * for a file what trace_load says. */
enum status lengths_parse(const char *text, struct lengths *lengths, struct error *err);
void lengths_release(struct lengths *lengths);

/* Both at least 1 and at most 100,000,000. */
struct length_pair lengths_draw(const struct lengths *lengths, struct rng *rng);

#endif
