/* A step-latency profile: what a step costs by its composition, for simulation and, later, as a
 * predictor's prior. docs/workloads.md has the JSON format.
 *
 *   step = fixed + gemm(decode rows + prefill tokens) + context_us * context read
 *        + row_us * decode rows + prefill_context_us * sum over prefill rows(tokens * mean context)
 *
 * with lognormal noise of mean 1. What counts as decode, prefill and context read:
 * scheduler/step_load.h.
 */
#ifndef TRACES_SIMULATE_PROFILE_H
#define TRACES_SIMULATE_PROFILE_H

#include "base/rng.h"
#include "base/status.h"
#include "scheduler/predictor.h"

#include <jansson.h>

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
double profile_draw_noise(const struct profile *profile, struct rng *rng); /* lognormal, mean 1 */
#define PROFILE_NOISE_MOST 2 /* that a file may have */
int64_t profile_kv_tokens(const struct profile *profile);

/* Another noise, another room, to see what they change; as a file may have them. */
void profile_set_noise(struct profile *profile, double noise);
void profile_set_kv_tokens(struct profile *profile, int64_t kv_tokens);
#define PROFILE_KV_TOKENS_LEAST 16
#define PROFILE_KV_TOKENS_MOST  ((int64_t)16 << 24)
void profile_capacity(const struct profile *profile, struct executor_capacity *capacity);

/* The mean. */
double profile_step_us(const struct profile *profile, const struct step_load *load);

/* What a server would guess of it from bytes and operations: a straight line. */
struct step_prior profile_prior(const struct profile *profile);

/* It as a predictor that is never wrong but for the noise. The profile is borrowed. */
struct step_predictor profile_predictor(const struct profile *profile);

#endif
