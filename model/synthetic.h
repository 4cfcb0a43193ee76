/* Known shapes on random weights, for tests and for benchmarks without a download.
 *
 * A weight depends on (seed, tensor, row, column) alone, so rows can be read in any order by any
 * thread. Values are nearly normal (a sum of four uniform numbers, cut at 3.46 standard
 * deviations), rounded to bf16 in matrices. Gains per role keep activations and logits of a trained
 * model's size. The tokenizer has every byte, three special tokens (ChatML) and made-up words, so
 * that each id below the vocabulary decodes to text.
 */
#ifndef MODEL_SYNTHETIC_H
#define MODEL_SYNTHETIC_H

#include "model/checkpoint.h"

/* Row `row` of a synthetic tensor, as f32 into out[cols]. */
void synthetic_row(const struct checkpoint_tensor *tensor, int64_t row, float *out);

/* Fills the tokenizer of a vocabulary of `count` ids (at least 259); freed by
 * synthetic_tokenizer_free. */
void synthetic_tokenizer(int32_t count, enum pretokenizer pretokenizer,
                         struct tokenizer_spec *spec);
void synthetic_tokenizer_free(struct tokenizer_spec *spec);

#endif
