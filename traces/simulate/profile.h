/* A step-latency profile: what a step costs by its composition, for simulation and, later, as a
 * predictor's prior. docs/workloads.md has the JSON format.
 *
 *   step = fixed + gemm(decode rows + prefill tokens) + context_us * context read
 *        + row_us * decode rows + prefill_context_us * sum over prefill rows(tokens * mean context)
 *
 * with lognormal noise of mean 1. A decode row is a row of one token; any other row is prefill.
 */
#ifndef TRACES_SIMULATE_PROFILE_H
#define TRACES_SIMULATE_PROFILE_H

#include "base/status.h"
#include "scheduler/executor.h"

#include <jansson.h>

/* What a step is made of, as far as its latency goes. */
struct step_load {
    int32_t decode_rows, prefill_tokens;
    int64_t context_read; /* slots that decode rows attend to, shared ones as the profile says */
    double prefill_attention; /* sum over prefill rows of tokens * mean context */
};

enum shared_prefix {
    SHARED_NONE,     /* every row reads its own context */
    SHARED_SIBLINGS, /* the branches of one stage read what they share once */
    SHARED_BLOCKS,   /* every KV block is read once a step, whoever shares it */
};

struct profile; /* name, coefficients, noise, KV capacity, limits */

/* A built-in name (controller.md, branches-and-slo.md section 5; each with its -noshare twin) or a
 * file. ST_NOT_FOUND / ST_INVALID: what was found, what is allowed (for a file: where in it). */
enum status profile_find(const char *name_or_path, struct profile **out, struct error *err);
void profile_free(struct profile *profile);
const char *profile_name(const struct profile *profile);
json_t *profile_json(const struct profile *profile); /* as a file has it */
const char *const *profile_builtin_names(size_t *count);

enum shared_prefix profile_shared_prefix(const struct profile *profile);
double profile_noise(const struct profile *profile); /* sigma of the logarithm */
void profile_capacity(const struct profile *profile, struct executor_capacity *capacity);

/* The mean. */
double profile_step_us(const struct profile *profile, const struct step_load *load);

#endif
