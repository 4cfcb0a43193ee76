/* The server that a trace is replayed against: what it says of itself, asked before a run, one call
 * after another. */
#ifndef TRACES_REPLAY_TARGET_H
#define TRACES_REPLAY_TARGET_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct target {
    char *base;            /* "http://host:port", without /v1 and without a slash at the end */
    char *model;           /* as given, else the first of /v1/models; NULL: neither */
    char *version;         /* "NAME VERSION" as far as /version says; NULL: it does not */
    char *key;             /* NULL: none is sent */
    int32_t max_model_len; /* 0: not said */
    int64_t patience_us;   /* of each call */
};

/* No call takes longer than `timeout_us`, nor than a minute. Reads --url, --api-key-file (the first
 * line that is none of comment; without it the variable OPENAI_API_KEY, where it is set), asks
 * /v1/models and /version. `model` and `key_file` may be NULL. ST_USAGE: no such URL can be; ST_IO:
 * nobody answers; ST_INVALID: an answer that is none, or no model to be found. */
enum status target_open(const char *url, const char *model, const char *key_file,
                        int64_t timeout_us, struct target *out, struct error *err);
void target_free(struct target *target);

struct token_count {
    int64_t count;
    int32_t *ids; /* [count], caller frees; NULL: the server counts only */
};

enum tokenize_result { TOKENIZE_OK, TOKENIZE_MISSING, TOKENIZE_FAILED };

/* POST /tokenize. `chat`: as the one message of a user. MISSING: there is no such path; FAILED: it
 * did not answer as one. `err` says what was answered. */
enum tokenize_result target_tokenize(const struct target *target, const char *text, size_t length,
                                     bool chat, struct token_count *out, struct error *err);

#endif
