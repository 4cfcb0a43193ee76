/* Tokens to bytes: the JSON of an answer, or its server-sent events.
 *
 * A renderer reads the records of a token log. For a stream each sampled token becomes one event of
 * one choice; otherwise the texts are gathered and renderer_answer writes one document.
 * Detokenizing and stop strings run here, per sequence; the engine's thread runs the same matcher
 * on the same tokens to decide when a sequence ends, so both agree on where that is.
 *
 * Stages: records are taken in reading order, so a branch waits in the log until those before it
 * have ended; with `branch_events` as they come. What was given (the prompts of stages and
 * branches) leaves with the next sampled token. Token ids are those of the context: together they
 * are the text, so an EOS and what a stop string cut are not among them.
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

/* "timings": what the request met on its way. */
struct timings {
    double queue_ms, ttft_ms, tpot_ms, e2e_ms; /* NAN: null, it was never reached */
    int64_t steps, deferred_branch_steps;
    bool has_slo, slo_met; /* slo_met: null without */
    /* Shown where they apply only. */
    bool malformed_branching, empty_outline;
    int32_t outline_beyond; /* items that no branch was made of */
};

struct stop_set {
    const char *const *stops; /* [count] */
    size_t count;
};

struct render_options {
    const struct tokenizer *tokenizer;
    const char *id; /* "cmpl-..." or "chatcmpl-..." */
    const char *model;
    int64_t created; /* seconds since 1970 */
    bool chat, stream, include_usage, continuous_usage, return_token_ids, echo, include_stop;
    bool branch_events; /* stream: each event says its stage and branch, as they were sampled */
    bool logprobs;
    int32_t choices;    /* sequences over all prompts */
    int32_t n;          /* sequences for one prompt: choice c belongs to prompt c / n */
    int32_t min_tokens; /* stop strings are not looked for in these */
    const char *const *stops;
    size_t stop_count;
    const struct stop_set *stop_sets; /* of the stages (token_record.stops) */
    const int32_t *stop_ids;          /* tokens that end a sequence and are not shown */
    size_t stop_id_count;
    const struct token_list *prompts; /* [choices / n] */
    int64_t prompt_tokens;            /* of all prompts, for continuous usage */
};

struct renderer;

/* Everything `options` points at is borrowed until renderer_free. */
struct renderer *renderer_create(const struct render_options *options);
void renderer_free(struct renderer *renderer);

/* Reads on in the log, until `out` holds `enough` bytes or nothing is left. A stream's events are
 * appended to `out` (NULL where there is no stream). true: everything the log has was read. */
bool renderer_read(struct renderer *renderer, struct token_log *log, size_t enough,
                   struct strbuf *out);

/* renderer_read has something to do. */
bool renderer_has_news(const struct renderer *renderer, struct token_log *log);

/* The first failure among the finished choices: FINISH_ERROR or FINISH_ABORT, else FINISH_STOP. */
enum finish_reason renderer_failure(const struct renderer *renderer);

/* The end of a stream: an event without choices for the usage and the timings (NULL: not asked
 * for), or the error event when `error` is not NULL; then [DONE]. */
void renderer_stream_end(struct renderer *renderer, const struct usage *usage,
                         const struct timings *timings, const struct api_error *error,
                         struct strbuf *out);

/* The whole answer as one document, once every choice has finished. `timings` may be NULL. */
void renderer_answer(struct renderer *renderer, const struct usage *usage,
                     const struct timings *timings, struct strbuf *out);

/* "text" with its quotes. Bytes that are no UTF-8 become U+FFFD, so the result is valid JSON
 * always. */
void render_json_string(struct strbuf *out, const char *text, size_t length);

/* The words of the API: "stop", "length", "abort", "error". */
const char *finish_reason_name(enum finish_reason reason);

#endif
