/* What a refused client is told: an HTTP status and {"error":{"message","type","param","code"}},
 * all four fields always present (param is null where no field is to blame). */
#ifndef SERVER_API_ERROR_H
#define SERVER_API_ERROR_H

#include "base/strbuf.h"

#include <stdbool.h>

/* Why a request was refused; the label of espalier_refusals_total. X(name, HTTP status, code) */
#define REFUSAL_MAP(X)                                \
    X(BAD_HTTP, 400, "invalid_http")                  \
    X(INVALID_JSON, 400, "invalid_json")              \
    X(INVALID_TYPE, 400, "invalid_type")              \
    X(INVALID_VALUE, 400, "invalid_value")            \
    X(UNSUPPORTED, 400, "unsupported_parameter")      \
    X(CONTEXT_LENGTH, 400, "context_length_exceeded") \
    X(TOO_LARGE_FOR_CACHE, 400, "kv_cache_too_small") \
    X(BAD_KEY, 401, "invalid_api_key")                \
    X(UNKNOWN_PATH, 404, "unknown_path")              \
    X(UNKNOWN_MODEL, 404, "model_not_found")          \
    X(WRONG_METHOD, 405, "method_not_allowed")        \
    X(BODY_TOO_LARGE, 413, "body_too_large")          \
    X(HEADER_TOO_LARGE, 431, "header_too_large")      \
    X(LATE, 429, "ttft_unattainable")                 \
    X(INTERNAL, 500, "internal_error")                \
    X(QUEUE_FULL, 503, "queue_full")                  \
    X(NO_MEMORY, 503, "no_memory")                    \
    X(LOADING, 503, "loading")                        \
    X(DRAINING, 503, "draining")

enum refusal {
#define X(name, status, code) REFUSAL_##name,
    REFUSAL_MAP(X)
#undef X
        REFUSALS,
};

struct api_error {
    enum refusal refusal;
    int retry_after; /* seconds; 0: no Retry-After */
    char param[64];  /* "" where no field is to blame */
    char message[512];
};

/* Fills `error`; returns false, so that a check reads `return refuse(error, ...)`. `param` may be
 * NULL. */
bool refuse(struct api_error *error, enum refusal refusal, const char *param, const char *format,
            ...) __attribute__((format(printf, 4, 5)));

bool refuse_memory(struct api_error *error); /* "the server is short of memory" */

int refusal_status(enum refusal refusal);
const char *refusal_code(enum refusal refusal);

/* Appends {"error":{...}}. */
void api_error_render(const struct api_error *error, struct strbuf *out);

#endif
