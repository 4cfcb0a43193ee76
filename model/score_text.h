/* How well a model predicts a text, scored as llama-perplexity does.
 *
 * The text is cut into windows of C tokens that do not overlap; each starts on an empty context,
 * with BOS in place of its first token where the model asks for one. Logits at positions C/2 .. C-2
 * predict tokens C/2+1 .. C-1, so every scored token has at least half a window before it.
 */
#ifndef MODEL_SCORE_TEXT_H
#define MODEL_SCORE_TEXT_H

#include "model/model.h"

/* Tokens of a window computed in one step: bounds the memory for logits (128 x vocabulary). A model
 * to be scored is loaded with this many max_tokens and max_logits. The results do not depend on it
 * (kernels.h, "One numeric definition"). */
#define SCORE_STEP_TOKENS 128

struct text_score {
    double sum, sum_squares; /* of negative log probabilities */
    int64_t tokens;
    int32_t windows;
};

double text_perplexity(const struct text_score *score);
/* Its standard error, from the spread of the tokens' log probabilities. */
double text_perplexity_stderr(const struct text_score *score);

/* Adds `windows` windows of `window` tokens each, one behind the other in `tokens` (whose first of
 * each window becomes BOS where the model has one), to a score that begins as {0}. */
void score_text_windows(struct model *model, int32_t *tokens, int32_t window, int32_t windows,
                        bool progress, struct text_score *score);

#endif
