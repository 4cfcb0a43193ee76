/* Byte-level BPE: text to ids and back.
 *
 * A tokenizer_spec is what a file says (checkpoint.h fills it from GGUF metadata or tokenizer.json
 * + tokenizer_config.json); tokenizer_create builds the tables. Tokenizing is near-linear in the
 * text: special tokens are cut out first (only when asked), the rest is split by the
 * pre-tokenizer's pattern (PCRE2, JIT), each piece is merged by rank with a heap over a linked
 * list.
 */
#ifndef MODEL_TOKENIZER_H
#define MODEL_TOKENIZER_H

#include "base/status.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum token_kind {
    TOKEN_NORMAL,
    TOKEN_SPECIAL, /* control token: matched in prompts when asked, not shown in answers */
    TOKEN_ADDED,   /* user-defined: matched whole in any text, shown */
    TOKEN_UNUSED,
};

enum pretokenizer {
    PRETOKENIZE_GPT2,   /* ByteLevel(use_regex) */
    PRETOKENIZE_SMOLLM, /* Digits(individual) + ByteLevel(use_regex) */
    PRETOKENIZE_LLAMA3, /* Split(llama-bpe pattern) + ByteLevel */
    PRETOKENIZE_QWEN2,
};

struct tokenizer_token {
    const char
        *text; /* normal tokens in GPT-2's printable byte alphabet, others as they are; UTF-8 */
    uint32_t length;
    enum token_kind kind;
};

struct tokenizer_merge {
    const char *left, *right; /* same alphabet */
    uint32_t left_length, right_length;
};

struct tokenizer_spec {
    struct tokenizer_token *tokens; /* [token_count]; text NULL where an id has no token */
    int32_t token_count;
    struct tokenizer_merge *merges; /* [merge_count], by rank */
    int32_t merge_count;
    enum pretokenizer pretokenizer;
    bool nfc;
    bool ignore_merges;        /* a piece that is itself a token is taken whole (Llama 3) */
    bool add_bos;              /* by default, where special tokens are added */
    int32_t bos, eos;          /* -1: none */
    const char *chat_template; /* Jinja source or NULL */
    struct text_arena *texts;  /* holds the texts when tokenizer_json.c made the spec, else NULL */
};

struct tokenizer;

/* Copies what it needs from `spec`. ST_BAD_FILE when merges or tokens contradict each other. */
enum status tokenizer_create(const struct tokenizer_spec *spec, struct tokenizer **out,
                             struct error *err);
void tokenizer_free(struct tokenizer *tokenizer);

int32_t tokenizer_size(const struct tokenizer *tokenizer);
int32_t tokenizer_bos(const struct tokenizer *tokenizer); /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *tokenizer); /* -1: none */
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);

/* A growing list of ids. Zero-initialise; free(list->ids). */
struct token_list {
    int32_t *ids;
    size_t count, capacity;
};
void token_list_append(struct token_list *list, int32_t id);

/* Appends the ids of text[length] (UTF-8; broken bytes are tokenized as the bytes they are).
 * `parse_special`: special-token text inside becomes the special id (prompts of /v1/completions and
 * templates do; a chat message's content never). BOS is the caller's business. Thread-safe.
 * ST_NO_MEMORY only. */
enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                             bool parse_special, struct token_list *out, struct error *err);

/* The raw bytes of one token, a view of the tokenizer; none for an id without a token, and for a
 * special token unless `show_special`. */
const char *tokenizer_token_view(const struct tokenizer *tokenizer, int32_t id, bool show_special,
                                 size_t *length);

/* Appends the raw bytes of one token; a special token's text only when `show_special`. */
void tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, bool show_special,
                           struct strbuf *out);

/* The id of a special or added token by its text, or -1. */
int32_t tokenizer_find_special(const struct tokenizer *tokenizer, const char *text);

/* All bytes of ids[count] as valid UTF-8: each maximal broken part becomes one U+FFFD. */
void tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                      bool show_special, struct strbuf *out);

/* --- incremental: bytes in, only whole characters out (model/detokenizer.c) */
struct detokenizer {
    unsigned char held[4]; /* an unfinished character */
    uint32_t held_count;
};
void detokenizer_push(struct detokenizer *state, const struct tokenizer *tokenizer, int32_t id,
                      bool show_special, struct strbuf *out);
/* U+FFFD for what is held */
void detokenizer_finish(struct detokenizer *state, struct strbuf *out);

/* --- stop strings over a stream of text (model/stop_matcher.c) */
struct stop_matcher;
/* Copies the strings; empty ones are not allowed. NULL when count is 0. */
struct stop_matcher *stop_matcher_create(const char *const *strings, size_t count);
void stop_matcher_free(struct stop_matcher *matcher);
/* Feeds text; appends to `out` what can be shown for certain (everything that cannot be the
 * beginning of a stop string). true: a stop string is complete; `out` ends before it (or after it:
 * include). */
bool stop_matcher_push(struct stop_matcher *matcher, const char *text, size_t length, bool include,
                       struct strbuf *out);
void stop_matcher_finish(struct stop_matcher *matcher, struct strbuf *out); /* what was held back */

#endif
