/* Text to pieces: tokens never cross the border between two pieces.
 *
 * Each pre-tokenizer is one regular expression (PCRE2, compiled with its JIT where the machine
 * allows) that matches at every position, so the pieces tile the text. Broken UTF-8 is cut out
 * before: each run of bytes that are no characters is a piece of its own.
 */
#ifndef MODEL_PRETOKENIZE_H
#define MODEL_PRETOKENIZE_H

#include "base/status.h"
#include "model/tokenizer.h"

struct pretokenize;

/* Thread-safe once created. ST_INTERNAL when PCRE2 refuses the pattern (a PCRE2 without Unicode).
 */
enum status pretokenize_create(enum pretokenizer kind, struct pretokenize **out, struct error *err);
void pretokenize_free(struct pretokenize *pretokenize);

/* A walk over the pieces of text[length], which is borrowed until pieces_end. One thread's. */
struct pieces {
    const struct pretokenize *pretokenize;
    void *match; /* pcre2_match_data */
    const char *text;
    size_t length;
    size_t at;        /* the next piece begins here */
    size_t valid_end; /* whole characters from `at` to here */
};

/* False when out of memory. `text` is given by pieces_start, as often as wanted. */
bool pieces_begin(struct pieces *pieces, const struct pretokenize *pretokenize);
void pieces_start(struct pieces *pieces, const char *text, size_t length);
void pieces_end(struct pieces *pieces);

/* 1: *piece, *piece_length is the next. 0: no more. -1: PCRE2 gave up (out of memory). */
int pieces_next(struct pieces *pieces, const char **piece, size_t *piece_length);

#endif
