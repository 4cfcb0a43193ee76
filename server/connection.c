/* MHD's callbacks: bytes in, bytes out, on MHD's one thread.
 *
 * A request comes as several calls of connection_handle: one when its header is complete, one for
 * each piece of the body, one when the body is complete, and again after each resume. What can be
 * refused is refused at the header, but answered only after the body was read (and dropped),
 * because a client that still sends does not listen; past DISCARD_FACTOR bodies the connection is
 * closed instead.
 */
#include "base/base.h"
#include "server/completion.h"
#include "server/exchange.h"
#include "server/request_head.h"
#include "server/request_slo.h"
#include "server/routes.h"
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define DISCARD_FACTOR 4
/* What the kernel keeps of an answer that a client does not read (it doubles this); left alone it
 * would be megabytes, and a stalled reader would be noticed only when they are full. Enough for
 * 640 KB/s over a round trip of 100 ms. */
#define SEND_BUFFER (64 << 10)

/* --- may it come in? */

static bool check_route(struct exchange *exchange, const char *url, const char *method)
{
    struct server *server = exchange->server;
    const struct route *route = exchange->route = route_find(head_path(url));
    if (route_needs_key(server, route) &&
        !auth_allows(server->auth, head_value(exchange->connection, MHD_HTTP_HEADER_AUTHORIZATION)))
        return refuse(&exchange->error, REFUSAL_BAD_KEY, NULL,
                      "missing or wrong API key; send the header Authorization: Bearer KEY");
    if (!route)
        return refuse(&exchange->error, REFUSAL_UNKNOWN_PATH, NULL, "there is nothing at %.200s",
                      url);
    bool head = strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0;
    if (!head && strcmp(method, route->method) != 0)
        return refuse(&exchange->error, REFUSAL_WRONG_METHOD, NULL, "%s takes %s, not %.20s", url,
                      route->method, method);
    return true;
}

static bool check_doors(struct exchange *exchange)
{
    struct server *server = exchange->server;
    if (exchange->route->get) return true;
    if (atomic_load(&server->draining))
        return refuse(&exchange->error, REFUSAL_DRAINING, NULL, "the server is shutting down");
    if (!atomic_load(&server->loaded))
        return refuse(&exchange->error, REFUSAL_LOADING, NULL, "the model is still loading");
    return true;
}

static bool refuse_body(struct exchange *exchange)
{
    return refuse(&exchange->error, REFUSAL_BODY_TOO_LARGE, NULL,
                  "the request body is larger than %lld bytes",
                  (long long)exchange->server->options.limits.max_body);
}

/* --- answers */

/* All of them or false: a client that misses one would misread the answer. */
static bool add_headers(struct exchange *exchange, int status, const char *content_type,
                        struct MHD_Response *response)
{
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%d", exchange->retry_after);
    const char *allow = NULL;
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        allow = exchange->route->get ? "GET, HEAD" : exchange->route->method;
    /* After a drain has begun, or after a header that leaves in doubt where this request ends,
     * nobody should send a second request down this connection. */
    bool close = exchange->close || atomic_load(&exchange->server->draining);
    const struct {
        const char *name, *value; /* NULL: not in this answer */
    } headers[] = {
        {MHD_HTTP_HEADER_CONTENT_TYPE, content_type},
        {"X-Request-Id", exchange->request_id},
        {MHD_HTTP_HEADER_RETRY_AFTER, exchange->retry_after ? seconds : NULL},
        {MHD_HTTP_HEADER_ALLOW, allow},
        {MHD_HTTP_HEADER_WWW_AUTHENTICATE, status == MHD_HTTP_UNAUTHORIZED ? "Bearer" : NULL},
        {MHD_HTTP_HEADER_CACHE_CONTROL, exchange->stream ? "no-cache" : NULL},
        {"X-Accel-Buffering", exchange->stream ? "no" : NULL}, /* nginx: pass events on at once */
        {MHD_HTTP_HEADER_CONNECTION, close ? "close" : NULL},
    };
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        if (headers[i].value &&
            MHD_add_response_header(response, headers[i].name, headers[i].value) == MHD_NO)
            return false;
    return true;
}

static enum MHD_Result queue_response(struct exchange *exchange, int status,
                                      const char *content_type, struct MHD_Response *response)
{
    enum MHD_Result result = MHD_NO;
    if (add_headers(exchange, status, content_type, response))
        result = MHD_queue_response(exchange->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return result;
}

/* MHD_NO, here and below, closes the connection: without memory for an answer nothing else is left.
 */
static enum MHD_Result respond_text(struct exchange *exchange, int status, const char *content_type,
                                    struct strbuf *text)
{
    size_t length = text->length;
    char *bytes = strbuf_take(text);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(length, bytes, MHD_RESPMEM_MUST_FREE);
    if (response) return queue_response(exchange, status, content_type, response);
    free(bytes); /* it is MHD's only with a response */
    return MHD_NO;
}

static enum MHD_Result respond_error(struct exchange *exchange)
{
    struct strbuf text = {0};
    const struct api_error *error = &exchange->error;
    metrics_count_refusal(&exchange->server->metrics, error->refusal);
    exchange->retry_after = error->retry_after;
    api_error_render(error, &text);
    return respond_text(exchange, refusal_status(error->refusal), "application/json", &text);
}

static enum MHD_Result respond_get(struct exchange *exchange)
{
    struct strbuf text = {0};
    int status = exchange->route->get(exchange->server, &text, &exchange->error);
    if (status == MHD_HTTP_OK)
        return respond_text(exchange, status, exchange->route->content_type, &text);
    strbuf_free(&text);
    return respond_error(exchange);
}

/* --- streams */

static bool stream_has_news(struct exchange *exchange)
{
    return completion_has_news(atomic_load(&exchange->completion)) ||
           atomic_load(&exchange->abandoned) || atomic_load(&exchange->server->stopping);
}

/* MHD wants up to `space` bytes of the body. exchange->text is what was rendered and has not left.
 */
static ssize_t read_stream(void *argument, uint64_t position, char *bytes, size_t space)
{
    (void)position;
    struct exchange *exchange = argument;
    if (atomic_load(&exchange->abandoned)) return MHD_CONTENT_READER_END_WITH_ERROR;
    bool ended = false;
    if (exchange->text.length < space)
        completion_stream(atomic_load(&exchange->completion), space, &exchange->text, &ended);
    if (exchange->text.length) {
        size_t count = exchange->text.length < space ? exchange->text.length : space;
        memcpy(bytes, exchange->text.data, count);
        strbuf_drop_front(&exchange->text, count);
        return (ssize_t)count;
    }
    if (ended) return MHD_CONTENT_READER_END_OF_STREAM;
    if (atomic_load(&exchange->server->stopping)) return MHD_CONTENT_READER_END_WITH_ERROR;
    exchange_park(exchange, stream_has_news);
    return 0;
}

static void release_stream(void *argument)
{
    exchange_unref(argument);
}

static enum MHD_Result respond_stream(struct exchange *exchange)
{
    exchange_ref(exchange);
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, 4096, read_stream, exchange, release_stream);
    if (!response) {
        exchange_unref(exchange);
        return MHD_NO;
    }
    return queue_response(exchange, MHD_HTTP_OK, "text/event-stream", response);
}

/* --- one request, call by call */

static enum MHD_Result begin(struct server *server, struct MHD_Connection *connection,
                             const char *url, const char *method, struct exchange **out)
{
    struct exchange *exchange = *out = exchange_create(server);
    exchange->connection = connection;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    exchange->slot = info ? info->socket_context : NULL;
    if (!exchange->slot) return MHD_NO; /* beyond max_connections */
    head_request_id(connection, exchange->request_id, sizeof exchange->request_id);

    int64_t declared = head_body_length(connection);
    const struct server_limits *limits = &server->options.limits;
    exchange->close = !head_is_clear(connection, &exchange->error);
    exchange->refused = exchange->close || !head_is_small(connection, limits, &exchange->error) ||
                        !check_route(exchange, url, method) || !check_doors(exchange) ||
                        (declared > limits->max_body && !refuse_body(exchange));
    exchange->slo = (struct api_slo){
        .ttft_us = slo_header_us(head_value(connection, "x-slo-ttft-ms")),
        .tpot_us = slo_header_us(head_value(connection, "x-slo-tpot-ms")),
    };
    if (declared) watcher_reads_body(server->watcher, exchange->slot);
    /* A client that waits for "100 Continue" listens already; nobody reads an endless body. */
    bool listens = head_value(connection, MHD_HTTP_HEADER_EXPECT) != NULL;
    bool endless = declared > limits->max_body * DISCARD_FACTOR;
    if (exchange->close || (exchange->refused && declared && (listens || endless))) {
        exchange->dispatched = true;
        return respond_error(exchange);
    }
    return MHD_YES;
}

static void refuse_now(struct exchange *exchange)
{
    exchange->refused = true;
    exchange_drop_body(exchange);
}

/* false: the client sends without an end; close. */
static bool receive(struct exchange *exchange, const char *bytes, size_t count)
{
    const struct server_limits *limits = &exchange->server->options.limits;
    if (!exchange->refused && (int64_t)(exchange->body.length + count) > limits->max_body) {
        refuse_body(exchange);
        refuse_now(exchange);
    }
    if (!exchange->refused && exchange->route->get) return true; /* a body of no use */
    if (!exchange->refused &&
        !budget_take(&exchange->server->body_bytes, (int64_t)count, limits->max_bodies)) {
        refuse(&exchange->error, REFUSAL_QUEUE_FULL, NULL,
               "too many request bodies are being read; try again in a moment");
        refuse_now(exchange);
    }
    if (exchange->refused) {
        exchange->discarded += (int64_t)count;
        return exchange->discarded <= limits->max_body * DISCARD_FACTOR;
    }
    exchange->body_reserved += (int64_t)count;
    strbuf_append(&exchange->body, bytes, count);
    if (exchange->body.failed) {
        refuse_memory(&exchange->error);
        refuse_now(exchange);
    }
    return true;
}

static enum MHD_Result dispatch(struct exchange *exchange)
{
    struct server *server = exchange->server;
    exchange->dispatched = true;
    if (exchange->refused) return respond_error(exchange);
    if (exchange->route->get) return respond_get(exchange);
    exchange->received_us = clock_now(&server->options.clock);
    if (!frontend_start(server->frontend, exchange)) {
        refuse(&exchange->error, REFUSAL_QUEUE_FULL, NULL,
               "the queue is full; try again in a moment");
        return respond_error(exchange);
    }
    exchange->counted = true;
    atomic_fetch_add(&server->active, 1);
    watcher_busy(server->watcher, exchange->slot, exchange);
    exchange_park(exchange, exchange_has_answer);
    return MHD_YES;
}

/* After a resume. */
static enum MHD_Result go_on(struct exchange *exchange)
{
    if (atomic_load(&exchange->abandoned)) return MHD_NO;
    if (!atomic_load(&exchange->answered)) {
        if (atomic_load(&exchange->server->stopping)) return MHD_NO;
        exchange_park(exchange, exchange_has_answer);
        return MHD_YES;
    }
    if (exchange->stream) return respond_stream(exchange);
    return respond_text(exchange, exchange->status, "application/json", &exchange->text);
}

enum MHD_Result connection_handle(void *server, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **context)
{
    (void)version;
    struct exchange *exchange = *context;
    if (!exchange) return begin(server, connection, url, method, (struct exchange **)context);
    if (*upload_size) {
        bool goes_on = receive(exchange, upload, *upload_size);
        *upload_size = 0;
        return goes_on ? MHD_YES : MHD_NO;
    }
    return exchange->dispatched ? go_on(exchange) : dispatch(exchange);
}

void connection_completed(void *argument, struct MHD_Connection *connection, void **context,
                          enum MHD_RequestTerminationCode why)
{
    (void)connection;
    struct server *server = argument;
    struct exchange *exchange = *context;
    *context = NULL;
    if (!exchange) return;
    if (exchange->slot) watcher_idle(server->watcher, exchange->slot);
    if (exchange->counted) {
        struct completion *completion = atomic_load(&exchange->completion);
        if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
            atomic_fetch_add_explicit(&server->metrics.disconnects, 1, memory_order_relaxed);
            atomic_store(&exchange->abandoned, true);
            completion = atomic_load(&exchange->completion);
            if (completion) completion_cancel(completion);
        }
        atomic_fetch_sub(&server->active, 1);
    }
    exchange_unref(exchange);
}

void connection_changed(void *argument, struct MHD_Connection *connection, void **slot,
                        enum MHD_ConnectionNotificationCode what)
{
    struct server *server = argument;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *slot = info ? watcher_open(server->watcher, info->connect_fd) : NULL;
        acceptor_begun(server->acceptor);
        if (info && !*slot) shutdown(info->connect_fd, SHUT_RDWR); /* MHD sees its end */
        const int bytes = SEND_BUFFER;
        if (info) setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    } else if (*slot) {
        watcher_close(server->watcher, *slot);
        *slot = NULL;
    }
}
