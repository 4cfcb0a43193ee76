#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenize.h"
#include "base/base.h"
#include "model/utf8.h"

#include <pcre2.h>
#include <stdlib.h>

/* The patterns were written for Oniguruma, whose \s is Unicode's White_Space. PCRE2's \s also takes
 * U+180E, so the class is spelled out: W inside brackets, and what is not a space (\S) as [^W]. */
#define W                                                                                       \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"

#define GPT2_WORDS "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+"
#define GPT2_OTHER " ?[^" W "\\p{L}\\p{N}]+"

/* Digits(individual) cuts the text at every digit before the GPT-2 pattern sees it, so a run of
 * spaces before a digit ends its text: there the lookahead holds, and no space is kept back for the
 * digit. */
#define SMOLLM "\\p{N}|" GPT2_WORDS "|" GPT2_OTHER "|[" W "]+(?![^" W "\\p{N}])|[" W "]+"

#define GPT2 GPT2_WORDS "| ?\\p{N}+|" GPT2_OTHER "|[" W "]+(?![^" W "])|[" W "]+"

/* Llama 3 and Qwen2 differ in how many digits make a piece. */
#define CL100K(digits)                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" W \
    "\\p{L}\\p{N}]+[\\r\\n]*|[" W "]*[\\r\\n]+|[" W "]+(?![^" W "])|[" W "]+"

static const char *const patterns[] = {
    [PRETOKENIZE_GPT2] = GPT2,
    [PRETOKENIZE_SMOLLM] = SMOLLM,
    [PRETOKENIZE_LLAMA3] = CL100K("\\p{N}{1,3}"),
    [PRETOKENIZE_QWEN2] = CL100K("\\p{N}"),
};

struct pretokenize {
    pcre2_code *code;
    bool jit;
};

enum status pretokenize_create(enum pretokenizer kind, struct pretokenize **out, struct error *err)
{
    invariant((size_t)kind < COUNT_OF(patterns), "pre-tokenizer %d", (int)kind);
    int code;
    size_t offset;
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)patterns[kind], PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &offset, NULL);
    if (!compiled) {
        PCRE2_UCHAR words[128] = "";
        pcre2_get_error_message(code, words, sizeof words);
        return fail(err, ST_INTERNAL, "PCRE2 refuses the pre-tokenizer's pattern at %zu: %s",
                    offset, (const char *)words);
    }
    *out = must_alloc(sizeof **out);
    (*out)->code = compiled;
    (*out)->jit = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
    return ST_OK;
}

void pretokenize_free(struct pretokenize *pretokenize)
{
    if (!pretokenize) return;
    pcre2_code_free(pretokenize->code);
    free(pretokenize);
}

bool pieces_begin(struct pieces *pieces, const struct pretokenize *pretokenize)
{
    *pieces = (struct pieces){.pretokenize = pretokenize};
    pieces->match = pcre2_match_data_create(1, NULL); /* one pair: where the match is */
    return pieces->match != NULL;
}

void pieces_start(struct pieces *pieces, const char *text, size_t length)
{
    pieces->text = text;
    pieces->length = length;
    pieces->at = pieces->valid_end = 0;
}

void pieces_end(struct pieces *pieces)
{
    pcre2_match_data_free(pieces->match);
    pieces->match = NULL;
}

/* The run of broken bytes at `at` ends where the next whole character begins. */
static size_t broken_run(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        struct utf8_step step = utf8_step(text + at, length - at);
        if (step.kind == UTF8_WHOLE) break;
        at += step.length;
    }
    return at;
}

/* The end of the piece that begins at `at`, or PCRE2's error. The subject ends where the valid run
 * ends, and it was checked already: pcre2_jit_match never looks, pcre2_match is told not to. */
static int match_at(const struct pieces *pieces, size_t *end)
{
    const struct pretokenize *pretokenize = pieces->pretokenize;
    PCRE2_SPTR subject = (PCRE2_SPTR)pieces->text;
    int rc = pretokenize->jit ? pcre2_jit_match(pretokenize->code, subject, pieces->valid_end,
                                                pieces->at, 0, pieces->match, NULL)
                              : pcre2_match(pretokenize->code, subject, pieces->valid_end,
                                            pieces->at, PCRE2_NO_UTF_CHECK, pieces->match, NULL);
    if (rc > 0) *end = pcre2_get_ovector_pointer(pieces->match)[1];
    return rc;
}

int pieces_next(struct pieces *pieces, const char **piece, size_t *piece_length)
{
    if (pieces->at == pieces->length) return 0;
    size_t at = pieces->at, end = at;
    if (at == pieces->valid_end)
        pieces->valid_end += utf8_valid_prefix(pieces->text + at, pieces->length - at);
    if (at == pieces->valid_end) {
        end = at + broken_run(pieces->text + at, pieces->length - at);
        pieces->valid_end = end;
    } else {
        int rc = match_at(pieces, &end);
        if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT) return -1;
        /* Every pattern matches any character and repeats only single classes, so nothing else can
         * happen, whatever the text; a piece too long would still be safe, an endless loop not. */
        if (rc <= 0 || end <= at) end = pieces->valid_end;
    }
    *piece = pieces->text + at;
    *piece_length = end - at;
    pieces->at = end;
    return 1;
}
