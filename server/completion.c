#include "base/alloc.h"
#include "server/completion_private.h"

#include <stdlib.h>

static bool refuse_late(const struct ttft_verdict *verdict, const struct error *err,
                        struct api_error *error)
{
    refuse(error, REFUSAL_LATE, "slo.ttft_ms", "%s", err->text);
    error->retry_after = verdict->retry_s;
    return false;
}

static bool refuse_submission(enum status status, const struct error *err, struct completion *c,
                              struct api_error *error)
{
    switch (status) {
    case ST_FULL:
        return refuse(error, REFUSAL_QUEUE_FULL, NULL, "the queue is full; try again in a moment");
    case ST_CLOSED:
        return refuse(error, REFUSAL_DRAINING, NULL, "the server is shutting down");
    case ST_INVALID:
        return refuse(error, REFUSAL_TOO_LARGE_FOR_CACHE, completion_prompt_field(c), "%s",
                      err->text);
    case ST_NO_MEMORY:
        return refuse_memory(error);
    default:
        return refuse(error, REFUSAL_INTERNAL, NULL, "%s", err->text);
    }
}

static struct request_params params_of(struct completion *c, int32_t index)
{
    const struct api_request *r = &c->request;
    struct part *part = &c->parts[index];
    struct request_params params = {
        .prompt = c->prompts[index].ids,
        .prompt_count = (int32_t)c->prompts[index].count,
        .n = r->n,
        .max_tokens = part->max_tokens,
        .min_tokens = r->min_tokens,
        .ignore_eos = r->ignore_eos,
        .score_prompt = completion_scores_prompt(r),
        .stop_ids = c->stop_ids,
        .stop_count = c->stop_count,
        .eos_count = c->eos_count,
        .sample = r->sample,
        .priority = r->priority,
        .slo = c->slo,
        .arrival_us = c->exchange->received_us,
        .cache_salt = r->cache_salt,
        .cache_salt_length = r->cache_salt_length,
        .events = part->driver ? completion_stage_events(part) : completion_events(part),
    };
    if (part->driver) stage_driver_first(part->driver, &params);
    return params;
}

/* All parts or none: a request that is refused has started nothing. */
static bool submit(struct completion *c, struct api_error *error)
{
    struct request_params *params = must_alloc((size_t)c->part_count * sizeof *params);
    uint64_t *ids = must_alloc((size_t)c->part_count * sizeof *ids);
    for (int32_t i = 0; i < c->part_count; i++) {
        params[i] = params_of(c, i);
        exchange_ref(c->exchange); /* given back by on_done, which may come before submit returns */
    }
    struct error err = {0};
    struct ttft_verdict verdict;
    enum status status = engine_submit_all(c->exchange->server->model.engine, params, c->part_count,
                                           ids, &verdict, &err);
    for (int32_t i = 0; i < c->part_count; i++) {
        if (status)
            exchange_unref(c->exchange);
        else
            atomic_store(&c->parts[i].id, ids[i]);
    }
    free(params);
    free(ids);
    if (status == ST_LATE) return refuse_late(&verdict, &err, error);
    return status == ST_OK || refuse_submission(status, &err, c, error);
}

bool completion_start(struct exchange *exchange, struct api_request *request,
                      struct api_error *error)
{
    struct completion *c = must_alloc(sizeof *c);
    c->exchange = exchange;
    c->request = *request;
    *request = (struct api_request){0};
    completion_set_slo(c);
    if (!completion_prepare(c, error)) {
        completion_count_refusal(c, error);
        completion_free(c);
        return false;
    }
    completion_find_class(c);
    atomic_store(&exchange->completion, c); /* from here on it can be cancelled */
    if (!submit(c, error)) {
        completion_count_refusal(c, error);
        return false;
    }
    if (atomic_load(&exchange->abandoned)) completion_cancel(c);
    return true;
}

void completion_cancel(struct completion *c)
{
    for (int32_t i = 0; i < c->part_count; i++) {
        uint64_t id = atomic_load(&c->parts[i].id);
        if (id) engine_cancel(c->exchange->server->model.engine, id);
    }
}

/* --- from the log to the client */

bool completion_finished(struct completion *c)
{
    return atomic_load(&c->parts_left) == 0;
}

bool completion_has_news(struct completion *c)
{
    return completion_finished(c) || renderer_has_news(c->renderer, &c->log);
}

static struct usage usage_of(const struct completion *c)
{
    /* What the first stage is given may have been cached too. */
    int64_t cached = c->cached_tokens < c->prompt_tokens ? c->cached_tokens : c->prompt_tokens;
    return (struct usage){c->prompt_tokens, c->output_tokens, cached};
}

static const struct timings *timings_of(const struct completion *c)
{
    return c->request.timings ? &c->timings : NULL;
}

static bool failure_of(const struct completion *c, struct api_error *error)
{
    enum finish_reason reason = renderer_failure(c->renderer);
    if (reason < FINISH_ABORT) return false;
    if (reason == FINISH_ABORT)
        refuse(error, REFUSAL_DRAINING, NULL, "the server stopped before the answer was complete");
    else
        refuse(error, REFUSAL_INTERNAL, NULL, "the model failed while it wrote the answer");
    return true;
}

void completion_stream(struct completion *c, size_t enough, struct strbuf *out, bool *ended)
{
    bool finished = completion_finished(c); /* first this, then the log: it is complete if so */
    bool read = renderer_read(c->renderer, &c->log, enough, out);
    *ended = finished && read;
    if (!*ended || c->ended) return;
    c->ended = true;
    struct usage usage = usage_of(c);
    struct api_error error = {0};
    bool failed = failure_of(c, &error);
    renderer_stream_end(c->renderer, &usage, timings_of(c), failed ? &error : NULL, out);
}

void completion_answer(struct completion *c)
{
    struct exchange *exchange = c->exchange;
    struct api_error error = {0};
    renderer_read(c->renderer, &c->log, 0, NULL);
    if (failure_of(c, &error)) {
        exchange_refuse(exchange, &error);
        return;
    }
    struct strbuf text = {.may_fail = true};
    struct usage usage = usage_of(c);
    renderer_answer(c->renderer, &usage, timings_of(c), &text);
    exchange_answer(exchange, MHD_HTTP_OK, &text);
}

void completion_free(struct completion *c)
{
    if (!c) return;
    renderer_free(c->renderer);
    for (int32_t i = 0; c->watches && !c->stages && i < c->choices; i++)
        choice_text_release(&c->watches[i].text);
    for (int32_t i = 0; c->parts && i < c->part_count; i++)
        stage_driver_free(c->parts[i].driver);
    stage_plan_free(c->stages);
    free(c->stop_sets);
    for (int32_t i = 0; c->prompts && i < c->part_count; i++)
        free(c->prompts[i].ids);
    free(c->watches);
    free(c->prompts);
    free(c->parts);
    free(c->stop_ids);
    strbuf_free(&c->scratch);
    token_log_release(&c->log);
    atomic_fetch_sub(&c->exchange->server->answer_bytes, c->reserved);
    api_request_release(&c->request);
    free(c);
}
