/* Tokens to bytes: the JSON of an answer, or its server-sent events.
 *
 * A renderer is fed the records of a token log in order. For a stream each token becomes one event
 * of one choice; otherwise the texts are gathered and renderer_answer writes one document.
 * Detokenizing and stop strings run here, per choice; the engine's thread runs the same matcher on
 * the same tokens to decide when a sequence ends, so both agree on where that is.
 *
 * SSE bytes: LF only, "data: " with one space, events end in "\n\n", the stream in "data:
 * [DONE]\n\n". Ordinary events omit usage. There is no role chunk before the first token: clients
 * take the first chunk with a choice as the time to first token.
 */
#ifndef SERVER_RENDER_H
#define SERVER_RENDER_H

#include "base/strbuf.h"
#include "model/tokenizer.h"
#include "scheduler/request.h"
#include "server/api_error.h"
#include "server/token_log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct usage {
    int64_t prompt_tokens, completion_tokens, cached_tokens;
};

struct render_options {
    const struct tokenizer *tokenizer;
    const char *id; /* "cmpl-..." or "chatcmpl-..." */
    const char *model;
    int64_t created; /* seconds since 1970 */
    bool chat, stream, include_usage, continuous_usage, return_token_ids, echo, include_stop;
    bool logprobs;
    int32_t choices;    /* sequences over all prompts */
    int32_t n;          /* sequences for one prompt: choice c belongs to prompt c / n */
    int32_t min_tokens; /* stop strings are not looked for in these */
    const char *const *stops;
    size_t stop_count;
    const int32_t *stop_ids; /* tokens that end a sequence and are not shown */
    size_t stop_id_count;
    const struct token_list *prompts; /* [choices / n] */
    int64_t prompt_tokens;            /* of all prompts, for continuous usage */
};

struct renderer;

/* Everything `options` points at is borrowed until renderer_free. */
struct renderer *renderer_create(const struct render_options *options);
void renderer_free(struct renderer *renderer);

/* One record and its alternatives (token_log_top); a stream's events are appended to `out` (NULL
 * allowed when not streaming). */
void renderer_record(struct renderer *renderer, const struct token_record *record,
                     const struct token_logprob *top, struct strbuf *out);

/* The first failure among the finished choices: FINISH_ERROR or FINISH_ABORT, else FINISH_STOP. */
enum finish_reason renderer_failure(const struct renderer *renderer);

/* The end of a stream: the usage event when asked for, or the error event when `error` is not NULL;
 * then [DONE]. */
void renderer_stream_end(struct renderer *renderer, const struct usage *usage,
                         const struct api_error *error, struct strbuf *out);

/* The whole answer as one document, once every choice has finished. */
void renderer_answer(struct renderer *renderer, const struct usage *usage, struct strbuf *out);

/* "text" with its quotes. Bytes that are no UTF-8 become U+FFFD, so the result is valid JSON
 * always. */
void render_json_string(struct strbuf *out, const char *text, size_t length);

/* The words of the API: "stop", "length", "abort", "error". */
const char *finish_reason_name(enum finish_reason reason);

#endif
