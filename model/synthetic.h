/* Known shapes on random weights, for tests, for benchmarks without a download, and for planning:
 * opening one allocates no weights, so the largest can be inspected anywhere.
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

/* What can stand behind "synthetic:". */
#define SYNTHETIC_SHAPES "tiny, smollm2-135m, qwen3-0.6b, llama3-8b, qwen3-8b, qwen3-32b"

/* Row `row` of a synthetic tensor, as f32 into out[cols]. */
void synthetic_row(const struct checkpoint_tensor *tensor, int64_t row, float *out);

/* Fills the tokenizer of a vocabulary of `count` ids (at least 259); freed by
 * synthetic_tokenizer_free. */
void synthetic_tokenizer(int32_t count, enum pretokenizer pretokenizer,
                         struct tokenizer_spec *spec);
void synthetic_tokenizer_free(struct tokenizer_spec *spec);

#endif
