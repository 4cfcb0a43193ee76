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

/* Pre-tokenizers by name (model/pretokenizer_names.c has their patterns). */
enum pretokenizer {
    PRETOKENIZE_GPT2,   /* ByteLevel(use_regex) */
    PRETOKENIZE_SMOLLM, /* Digits(individual) + ByteLevel(use_regex) */
    PRETOKENIZE_LLAMA3, /* Split(llama-bpe pattern) + ByteLevel */
    PRETOKENIZE_QWEN2,
    PRETOKENIZE_TEKKEN, /* Mistral Nemo */
    PRETOKENIZE_GPT4O,
    PRETOKENIZE_DEEPSEEK_CODER,
    PRETOKENIZE_DEEPSEEK_V3,
    PRETOKENIZE_FALCON,
    PRETOKENIZE_DEFAULT, /* llama.cpp's, for GGUF files that name none */
    PRETOKENIZE_STEPS,   /* the spec's own steps */
};

/* One step of a pre-tokenizer: a pattern that cuts each piece of the step before, in the words of
 * Hugging Face's tokenizers. */
enum split_behavior {
    SPLIT_ISOLATED, /* matches and what is between them are pieces */
    SPLIT_REMOVED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS, /* neighbouring matches are one piece */
};

struct split_step {
    const char *pattern; /* NULL: no split, only the space */
    size_t length;
    bool literal; /* the text itself; else a regular expression in Oniguruma's syntax */
    bool invert;  /* what does not match counts as the match */
    enum split_behavior behavior;
    bool prefix_space; /* a piece without a leading space gets one before it is cut */
};

#define PRETOKENIZE_MAX_STEPS 8

struct tokenizer_token {
    const char
        *text; /* normal tokens in GPT-2's printable byte alphabet, others as they are; UTF-8 */
    uint32_t length;
    enum token_kind kind;
};

/* What a tokenizer.json says of an added token (kind TOKEN_SPECIAL or TOKEN_ADDED). */
struct added_token {
    int32_t id;
    bool in_vocab;       /* also a token of the model: merges may give it */
    bool single_word;    /* matched only where no letter or digit stands beside it */
    bool lstrip, rstrip; /* a match takes the white space before, behind it */
    bool normalized; /* matched after normalization (its text is in that form), after the others */
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
    struct split_step steps[PRETOKENIZE_MAX_STEPS]; /* of PRETOKENIZE_STEPS */
    int32_t step_count;
    bool nfc;
    bool ignore_merges; /* a piece that is itself a token is taken whole (Llama 3) */
    bool add_bos;       /* by default, where special tokens are added */
    bool add_last;      /* `last` goes behind a text where BOS goes before it */
    int32_t last;
    int32_t bos, eos;          /* -1: none */
    struct added_token *added; /* [added_count]; NULL: the kinds say all, no flags */
    int32_t added_count;
    const char *every_byte; /* the field because of which every byte must have a token, or NULL */
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
    bool may_fail, failed; /* as of a strbuf; the ids that had no place are missing */
};
void token_list_append(struct token_list *list, int32_t id);

/* Appends the ids of text[length] (UTF-8; broken bytes are tokenized as the bytes they are).
 * `parse_special`: special-token text inside becomes the special id (prompts of /v1/completions and
 * templates do; a chat message's content never). BOS is the caller's business. Thread-safe.
 * ST_NO_MEMORY, or ST_UNSUPPORTED where the model's own pattern needs too long for this text;
 * nothing is appended then. */
enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                             bool parse_special, struct token_list *out, struct error *err);

/* The same, and with `add_special` what the model wants before and behind a text. */
enum status tokenizer_encode_text(const struct tokenizer *tokenizer, const char *text,
                                  size_t length, bool parse_special, bool add_special,
                                  struct token_list *out, struct error *err);

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
