/* Pre-tokenizers by the names that GGUF files give them (tokenizer.ggml.pre). */
#ifndef MODEL_PRETOKENIZER_NAMES_H
#define MODEL_PRETOKENIZER_NAMES_H

#include "model/tokenizer.h"

/* What a name says of a tokenizer beside its pattern; a file's own keys come first. */
struct pretokenizer_name {
    const char *name;
    enum pretokenizer kind;
    bool nfc, ignore_merges, add_bos;
};

/* NULL: not known. */
const struct pretokenizer_name *pretokenizer_by_name(const char *name, size_t length);
const char *pretokenizer_name(enum pretokenizer kind); /* for people */

/* Every name with commas between, for messages; a view of static memory. */
const char *pretokenizer_names_list(void);

/* The steps of a kind other than PRETOKENIZE_STEPS, into steps[PRETOKENIZE_MAX_STEPS]; how many. */
int32_t pretokenizer_steps(enum pretokenizer kind, struct split_step *steps);

/* Whether it is one of those patterns: linear whatever the text. */
bool pretokenizer_knows_pattern(const char *pattern, size_t length);

/* The patterns of ByteLevel and of Digits, which tokenizer.json only names. */
extern const char pretokenizer_gpt2_pattern[];
extern const char pretokenizer_digit_pattern[];

#endif
