/* Compares a model with golden numbers (tests/data/golden/README.md): log probabilities of given
 * tokens, top-5 lists and greedy paths. */
#ifndef TESTS_MODEL_SUPPORT_GOLDEN_H
#define TESTS_MODEL_SUPPORT_GOLDEN_H

#include "tests/model/support_forward.h"

/* How far a log probability may be off, and how far one was. The requirement is 2e-3. A float32
 * engine is within about 2e-4 of the reference, and the subtlest error the data can see
 * (rms_norm_eps) moves them by 5e-4 and more, so the tests ask for 3e-4. */
extern double golden_tolerance, golden_worst;

void check_logprobs(const double *found, const json_t *expected, const char *what);
void check_top(struct context *c, int32_t count, const json_t *top);

/* Continues by argmax after a push of `count` tokens; every id must be the expected one. The last
 * id is pushed too, so the context holds the whole path. */
void check_greedy(struct context *c, int32_t count, const json_t *greedy, const json_t *logprobs);

/* One prompt (top and greedy may be NULL), and the `prompts` of a golden.json. */
void check_prompt(struct model *model, const json_t *ids, const json_t *logprobs, const json_t *top,
                  const json_t *greedy, const json_t *greedy_logprobs);
void check_prompts(struct model *model, const json_t *golden);

#endif
