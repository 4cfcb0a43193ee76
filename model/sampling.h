/* Logits to a token.
 *
 * Order, as in vLLM. First the logits change: withheld tokens to minus infinity, biases added, then
 * for each token of the history
 *     repetition (prompt and answer, CTRL 1909.05858 section 4.1)   l > 0 ? l / r : l * r
 *     frequency, presence (answer only, as OpenAI defines them)     l - count * f - p
 * Then the filters: temperature, min_p (relative to the most likely token), top_k, top_p over what
 * is left; at least one token always stays. Temperature 0 is greedy: the largest logit, the lowest
 * id among equals. The draw uses rng_at(seed, index), so a request's tokens depend on its own
 * logits and nothing that ran beside it.
 *
 * Log probabilities are those of the model: of the plain softmax, before any of this.
 */
#ifndef MODEL_SAMPLING_H
#define MODEL_SAMPLING_H

#include "scheduler/executor.h"

struct sampler; /* scratch for one thread */

struct sampler *sampler_create(int32_t vocab);
void sampler_free(struct sampler *sampler);

/* The tokens before the one to be drawn; the last `answer_count` of the last run were drawn for the
 * same sequence. */
struct token_history {
    const struct token_run *runs; /* [run_count] */
    int32_t run_count, answer_count;
};

/* The index-th token of a sequence from logits[vocab], which are scratch after the call. */
struct token_score sampler_draw(struct sampler *sampler, float *logits,
                                const struct sample_spec *spec, struct token_history history,
                                uint64_t index);

/* How likely `token` was, and the `top` likeliest. */
struct token_score sampler_score(const float *logits, int32_t vocab, int32_t token, int32_t top);

/* log(sum(exp(logits))), in double over f32 exponentials in a fixed order. */
double logits_logsumexp(const float *logits, int32_t count);

#endif
