/* Claims about a checkpoint that was opened. */
#ifndef TESTS_FUZZ_SUPPORT_CHECKPOINT_H
#define TESTS_FUZZ_SUPPORT_CHECKPOINT_H

#include "model/checkpoint.h"
#include "tests/fuzz/support_input.h"

/* Opens it and checks what came out: every row of every tensor can be read, the rotary frequencies
 * are computed, the tokenizer is built or refused, and encodes. A refusal has words that begin with
 * a path inside `path`. */
void check_checkpoint(const char *path);

/* The tokenizer of a file: built or refused with words, then used on a fixed text and on `text`. */
void check_spec(const struct tokenizer_spec *spec, struct input text);

/* A refusal says something. */
void check_words(enum status status, const struct error *err);

#endif
