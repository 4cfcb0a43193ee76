/* Text to pieces: tokens never cross the border between two pieces.
 *
 * A pre-tokenizer is a list of steps. The first cuts the text, each of the others cuts the pieces
 * of the one before (most models have one step). A step is a regular expression (PCRE2, compiled
 * with its JIT where the machine allows) and a rule for matches and for what lies between them.
 * Broken UTF-8 is cut out before: each run of bytes that are no characters is a piece of its own.
 *
 * Patterns come from model files, so a match may need any time. The published ones (all that
 * pretokenizer_names.c has) are linear; any other is watched: one walk has a limit of processor
 * time, past which pieces_next says so. It never takes a border that the pattern did not give.
 */
#ifndef MODEL_PRETOKENIZE_H
#define MODEL_PRETOKENIZE_H

#include "base/status.h"
#include "base/strbuf.h"
#include "model/tokenizer.h"

struct pretokenize;

/* The steps of `spec` (its pretokenizer, steps and step_count; nothing is kept of it). Thread-safe
 * once created. ST_UNSUPPORTED for a pattern that cannot be translated or compiled. */
enum status pretokenize_create(const struct tokenizer_spec *spec, struct pretokenize **out,
                               struct error *err);
void pretokenize_free(struct pretokenize *pretokenize);

/* Where one step stands in the piece that it cuts. */
struct piece_level {
    const char *text;
    size_t length;
    size_t spans_to;    /* spans [0, spans_to) were read */
    size_t search_from; /* the next search begins here */
    size_t last_end;    /* of the last match; SIZE_MAX before the first */
    size_t match_start, match_end;
    bool match_waits;    /* read, but the gap before it was given first */
    bool searched_all;   /* no further match */
    bool holding;        /* [held_start, held_end) may grow by the next span */
    bool previous_match; /* the last span was a match */
    size_t held_start, held_end;
    struct strbuf spaced; /* the piece with a space before it */
};

/* A walk over the pieces of text[length], which is borrowed until the next pieces_start or
 * pieces_end. One thread's. */
struct pieces {
    const struct pretokenize *pretokenize;
    void *match;     /* pcre2_match_data */
    void *context;   /* pcre2_match_context */
    void *jit_stack; /* pcre2_jit_stack, made when a match first needs it */
    const char *text;
    size_t length;
    size_t at;      /* the next stretch for the first step begins here */
    int32_t depth;  /* the step that cuts now; -1: the next stretch is due */
    size_t total;   /* bytes of all texts since pieces_begin: the limit of time grows with them */
    uint64_t steps; /* that watched patterns took on them */
    int64_t watched_since; /* processor time (ns) of the first look at the clock; 0: none yet */
    struct piece_level levels[PRETOKENIZE_MAX_STEPS];
};

/* False when out of memory. `text` is given by pieces_start, as often as wanted. */
bool pieces_begin(struct pieces *pieces, const struct pretokenize *pretokenize);
void pieces_start(struct pieces *pieces, const char *text, size_t length);
void pieces_end(struct pieces *pieces);

/* 1: *piece, *piece_length is the next, valid until the next call. 0: no more. Below 0: */
enum { PIECES_NO_MEMORY = -1, PIECES_NO_TIME = -2 };
int pieces_next(struct pieces *pieces, const char **piece, size_t *piece_length);

#endif
