/* What the fuzz targets share: an input taken apart, inputs as files, and claims that must hold.
 *
 * A target is one file, fuzz_NAME.c, with a dictionary NAME.dict, a corpus in corpus/NAME, and a
 * function LLVMFuzzerTestOneInput that reads hostile bytes the way the program does and then checks
 * what must be true of every result. Whatever a target accepts must also be usable.
 */
#ifndef TESTS_FUZZ_SUPPORT_INPUT_H
#define TESTS_FUZZ_SUPPORT_INPUT_H

#include "base/base.h"
#include "model/tokenizer.h"

/* libFuzzer's interface. 0: the input may join the corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* What is left of an input. */
struct input {
    const char *text;
    size_t left;
};

uint8_t input_byte(struct input *input); /* 0 when nothing is left */

/* Up to the next line that is "@@NAME" or to the end: the part's name and text. False: no part is
 * left. Text before the first such line is a part without a name. */
struct input_part {
    const char *name, *text; /* views of the input */
    size_t name_length, length;
};
bool input_part(struct input *input, struct input_part *part);
bool part_is(const struct input_part *part, const char *name);

/* The bytes up to the next newline, or to the end. */
struct input input_line(struct input *input);

/* A NUL-terminated copy; the caller frees. A byte 0 becomes a space. */
char *input_string(struct input input);

/* The bytes as a file that exists in memory only; the same path every time. */
const char *file_in_memory(const void *bytes, size_t size);

/* A directory of this process below TMPDIR (run.sh removes it), and a file in it. */
const char *scratch_directory(void);
void scratch_file(const char *name, const void *bytes, size_t size);
void scratch_remove(const char *name);

/* A vocabulary in the making: ids 0 to 255 are the bytes, then come merges, specials and words. */
struct vocabulary {
    struct tokenizer_spec spec; /* tokens and merges are owned */
    int32_t token_room, merge_room;
};
void vocabulary_begin(struct vocabulary *vocabulary);
void vocabulary_add(struct vocabulary *vocabulary, const char *text, enum token_kind kind);
/* One more merge; its token is made unless that text has one. Returns the token's id. */
int32_t vocabulary_merge(struct vocabulary *vocabulary, int32_t left, int32_t right);
void vocabulary_release(struct vocabulary *vocabulary);

/* Bytes, a few merges, and the special tokens of the known chat families. Lives as long as the
 * process. */
const struct tokenizer *chat_tokenizer(void);

/* Encodes the text with and without special tokens and checks what comes back. `whole`: every byte
 * has a token. */
void check_tokenizer(const struct tokenizer *tokenizer, struct input text, bool whole, bool nfc);

/* Whether text[length] is UTF-8 throughout. */
bool is_utf8(const char *text, size_t length);

#endif
