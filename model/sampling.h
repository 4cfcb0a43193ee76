/* Logits to a token.
 *
 * Order of the filters, as in vLLM: temperature, then min_p (relative to the most likely token),
 * then top_k, then top_p over what is left; at least one token always stays. Temperature 0 is
 * greedy: the largest logit, the lowest id among equals. The draw uses rng_at(seed, index), so a
 * request's tokens depend on its own logits and nothing that ran beside it.
 */
#ifndef MODEL_SAMPLING_H
#define MODEL_SAMPLING_H

#include "scheduler/executor.h"

struct sampler; /* scratch for one thread */

struct sampler *sampler_create(int32_t vocab);
void sampler_free(struct sampler *sampler);

/* One token from logits[vocab]; logprob is the natural log of its probability under the plain
 * softmax. */
struct row_result sampler_draw(struct sampler *sampler, const float *logits,
                               const struct sample_spec *spec, uint64_t index);

/* log(sum(exp(logits))), in double over f32 exponentials in a fixed order. */
double logits_logsumexp(const float *logits, int32_t count);

#endif
