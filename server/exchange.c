#include "server/exchange.h"
#include "base/alloc.h"
#include "server/completion.h"
#include "server/server_internal.h"
#include "server/watcher.h"

#include <stdlib.h>

struct exchange *exchange_create(struct server *server)
{
    struct exchange *exchange = must_alloc(sizeof *exchange);
    exchange->server = server;
    atomic_fetch_add(&server->exchanges, 1);
    atomic_init(&exchange->refs, 1);
    exchange->body.may_fail = true;
    return exchange;
}

void exchange_ref(struct exchange *exchange)
{
    atomic_fetch_add_explicit(&exchange->refs, 1, memory_order_relaxed);
}

void exchange_unref(struct exchange *exchange)
{
    if (atomic_fetch_sub(&exchange->refs, 1) != 1) return;
    struct server *server = exchange->server;
    completion_free(atomic_load(&exchange->completion));
    exchange_drop_body(exchange);
    strbuf_free(&exchange->text);
    free(exchange);
    atomic_fetch_sub(&server->exchanges, 1); /* last: server_free waits for it */
}

void exchange_drop_body(struct exchange *exchange)
{
    strbuf_free(&exchange->body);
    atomic_fetch_sub(&exchange->server->body_bytes, exchange->body_reserved);
    exchange->body_reserved = 0;
}

void exchange_unpark(struct exchange *exchange)
{
    if (atomic_exchange(&exchange->parked, false)) MHD_resume_connection(exchange->connection);
}

void exchange_park(struct exchange *exchange, bool (*news)(struct exchange *exchange))
{
    MHD_suspend_connection(exchange->connection);
    atomic_store(&exchange->parked, true);
    if (news(exchange)) exchange_unpark(exchange);
}

void exchange_notify(struct exchange *exchange)
{
    if (atomic_load(&exchange->parked)) watcher_wake(exchange->server->watcher, exchange);
}

static void answer_ready(struct exchange *exchange)
{
    atomic_store(&exchange->answered, true);
    exchange_unpark(exchange);
}

void exchange_answer(struct exchange *exchange, int status, struct strbuf *text)
{
    if (text->failed) {
        struct api_error error;
        refuse_memory(&error);
        strbuf_free(text);
        exchange_refuse(exchange, &error);
        return;
    }
    exchange->status = status;
    exchange->text = *text;
    *text = (struct strbuf){0};
    answer_ready(exchange);
}

void exchange_answer_stream(struct exchange *exchange)
{
    exchange->status = MHD_HTTP_OK;
    exchange->stream = true;
    answer_ready(exchange);
}

void exchange_refuse(struct exchange *exchange, const struct api_error *error)
{
    struct strbuf text = {0};
    api_error_render(error, &text);
    metrics_count_refusal(&exchange->server->metrics, error->refusal);
    exchange->retry_after = error->retry_after;
    exchange_answer(exchange, refusal_status(error->refusal), &text);
}

void exchange_abandon(struct exchange *exchange)
{
    /* First the flag, then the look at what runs: completion_start does it the other way round, so
     * one of the two cancels. */
    atomic_store(&exchange->abandoned, true);
    struct completion *completion = atomic_load(&exchange->completion);
    if (completion) completion_cancel(completion);
    exchange_unpark(exchange);
}

bool exchange_has_answer(struct exchange *exchange)
{
    return atomic_load(&exchange->answered) || atomic_load(&exchange->abandoned) ||
           atomic_load(&exchange->server->stopping);
}
