/* Streams: a token of each answer in turn, `gap_ms` apart, the first after `ttft_ms`. */
#include "bench/stub_server/stub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONG_LINE (3u << 20)

const char *const fault_names[FAULTS] = {
    "none",      "429",       "503",     "500",      "400",       "stall",    "silent", "bad-json",
    "bad-line",  "long-line", "early",   "reset",    "no-answer", "error",    "html",   "bad-http",
    "bad-chunk", "flood",     "no-done", "no-token", "die",       "comments", "open",
};

/* A wait with its jitter; the n-th of request `number` is the same in every run. */
static int64_t wait_us(const struct connection *connection, double ms)
{
    const struct stub_options *o = &connection->stub->options;
    uint64_t seed = mix64(o->seed + (uint64_t)connection->number);
    double unit = unit_from_bits(rng_at(seed, (uint64_t)connection->sent));
    return (int64_t)(1e3 * ms * (1 + o->jitter * (2 * unit - 1)) + 0.5);
}

static void put_chunk(struct connection *connection, const char *text, size_t length)
{
    strbuf_format(&connection->out, "%zx\r\n", length);
    strbuf_append(&connection->out, text, length);
    strbuf_text(&connection->out, "\r\n");
}

static void put_event(struct connection *connection, const char *data)
{
    struct strbuf event = {0};
    strbuf_format(&event, "data: %s\n\n", data);
    put_chunk(connection, event.data, event.length);
    strbuf_free(&event);
}

static void put_head(struct connection *connection)
{
    strbuf_text(&connection->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n");
}

static void put_token(struct connection *connection)
{
    int32_t answer = (int32_t)(connection->sent % connection->answers);
    bool last = connection->total - connection->sent <= connection->answers &&
                connection->fault != FAULT_FLOOD;
    const char *finish = last ? "\"length\"" : "null";
    char event[400], chunk[440];
    int length;
    if (connection->chat)
        length = snprintf(event, sizeof event,
                          "data: {\"id\":\"chatcmpl-%lld\",\"object\":\"chat.completion.chunk\","
                          "\"created\":0,\"model\":\"stub\",\"choices\":[{\"index\":%d,\"delta\":"
                          "{\"content\":\" word\"},\"finish_reason\":%s}]}\n\n",
                          (long long)connection->number, answer, finish);
    else
        length =
            snprintf(event, sizeof event,
                     "data: {\"id\":\"cmpl-%lld\",\"object\":\"text_completion\",\"created\":0,"
                     "\"model\":\"stub\",\"choices\":[{\"index\":%d,\"text\":\" word\","
                     "\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
                     (long long)connection->number, answer, finish);
    length = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", length, event);
    strbuf_append(&connection->out, chunk, (size_t)length);
    connection->sent++;
}

static void put_end(struct connection *connection)
{
    char usage[200];
    if (connection->usage) {
        snprintf(usage, sizeof usage,
                 "{\"choices\":[],\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
                 "\"total_tokens\":%lld}}",
                 (long long)connection->prompt_tokens, (long long)connection->sent,
                 (long long)(connection->prompt_tokens + connection->sent));
        put_event(connection, usage);
    }
    if (connection->fault != FAULT_NO_DONE) put_event(connection, "[DONE]");
    if (connection->fault != FAULT_OPEN) strbuf_text(&connection->out, "0\r\n\r\n");
    connection->streaming = false;
}

static void put_long_line(struct connection *connection)
{
    char *line = must_alloc(LONG_LINE);
    memset(line, 'x', LONG_LINE);
    memcpy(line, "data: ", 6);
    put_chunk(connection, line, LONG_LINE);
    free(line);
}

static void put_error(struct connection *connection)
{
    put_event(connection, "{\"error\":{\"message\":\"told to\",\"type\":\"server_error\","
                          "\"param\":null,\"code\":\"stub_failure\"}}");
    put_event(connection, "[DONE]");
    strbuf_text(&connection->out, "0\r\n\r\n");
    connection->streaming = false;
}

/* Half of the tokens are out. true: the stream does not go on. */
static bool fail_now(struct connection *connection)
{
    static const char nonsense[] = "<!doctype html>\n\n";
    switch (connection->fault) {
    case FAULT_STALL:
        return true;
    case FAULT_BAD_JSON:
        put_event(connection, "{\"choices\":[{\"index\":0,");
        return true;
    case FAULT_BAD_LINE:
        put_chunk(connection, nonsense, sizeof nonsense - 1);
        return true;
    case FAULT_LONG_LINE:
        put_long_line(connection);
        return true;
    case FAULT_BAD_CHUNK:
        strbuf_text(&connection->out, "nonsense\r\n");
        return true;
    case FAULT_ERROR:
        put_error(connection);
        return true;
    case FAULT_EARLY:
        connection_flush(connection);
        connection_close(connection);
        return true;
    case FAULT_RESET:
        connection_flush(connection);
        connection_reset(connection);
        return true;
    case FAULT_DIE:
        exit(1);
    default:
        return false;
    }
}

static bool is_half(const struct connection *connection)
{
    return connection->sent * 2 >= connection->total;
}

/* A token of each answer. */
static void put_next(struct connection *connection)
{
    static const char comment[] = ": alive\n\n";
    if (is_half(connection) && connection->fault == FAULT_COMMENTS) {
        put_chunk(connection, comment, sizeof comment - 1);
        return;
    }
    for (int32_t i = 0; i < connection->answers && connection->sent < connection->total; i++)
        put_token(connection);
}

void answer_due(struct connection *connection)
{
    const struct stub_options *o = &connection->stub->options;
    int64_t due_us = connection->due_us;
    if (connection->sent == 0) put_head(connection);
    if (connection->fault == FAULT_NO_TOKEN) connection->total = 0;
    put_next(connection);
    bool failed = is_half(connection) && fail_now(connection);
    if (connection->fd < 0) return;
    if (!failed && connection->sent >= connection->total) put_end(connection);
    connection_flush(connection);
    if (connection->fd < 0 || failed) return;
    if (connection->streaming)
        timer_set(connection, due_us + wait_us(connection, o->gap_ms));
    else
        http_take(connection); /* what was sent behind this request */
}

/* Faults instead of a stream; true: there was one. */
static bool refuse(struct connection *connection)
{
    static const char words[] =
        "{\"error\":{\"message\":\"told to\",\"type\":\"stub\",\"param\":null,\"code\":\"%s\"}}";
    char body[200];
    switch (connection->fault) {
    case FAULT_429:
        snprintf(body, sizeof body, words, "rate_limited");
        return http_answer(connection, 429, "application/json", body), true;
    case FAULT_503:
        snprintf(body, sizeof body, words, "queue_full");
        return http_answer(connection, 503, "application/json", body), true;
    case FAULT_500:
        snprintf(body, sizeof body, words, "internal");
        return http_answer(connection, 500, "application/json", body), true;
    case FAULT_400:
        return http_answer(connection, 400, "text/plain", "no JSON here"), true;
    case FAULT_HTML:
        return http_answer(connection, 200, "text/html", "<html>hello</html>"), true;
    case FAULT_SILENT:
        return connection->streaming = true;
    case FAULT_NO_ANSWER:
        return connection_close(connection), true;
    case FAULT_BAD_HTTP:
        strbuf_text(&connection->out, "\1\2\3 what is this\n\n\n");
        connection_flush(connection);
        return connection_close(connection), true;
    default:
        return false;
    }
}

static int64_t positive(json_t *value, int64_t fallback)
{
    json_int_t number = json_integer_value(value);
    return number > 0 && number < 1 << 24 ? number : fallback;
}

static int64_t prompt_length(json_t *body, bool chat)
{
    json_t *message = json_array_get(json_object_get(body, "messages"), 0);
    json_t *prompt = json_object_get(chat ? message : body, chat ? "content" : "prompt");
    if (json_is_array(prompt)) return (int64_t)json_array_size(prompt);
    return json_is_string(prompt) ? count_words(json_string_value(prompt)) : 0;
}

void answer_begin(struct connection *connection, json_t *body, bool chat)
{
    struct stub *stub = connection->stub;
    const struct stub_options *o = &stub->options;
    json_t *options = json_object_get(body, "stream_options");
    bool ids = json_is_array(json_object_get(body, "prompt"));
    connection->number = stub->requests++;
    connection->fault =
        o->fault_count ? o->faults[(size_t)connection->number % o->fault_count] : FAULT_NONE;
    if (refuse(connection)) return;
    connection->chat = chat;
    connection->usage = json_is_true(json_object_get(options, "include_usage"));
    connection->answers = (int32_t)positive(json_object_get(body, "n"), 1);
    connection->total = connection->answers * positive(json_object_get(body, "max_tokens"), 16);
    if (connection->fault == FAULT_FLOOD) connection->total = INT64_MAX;
    connection->prompt_tokens = prompt_length(body, chat) + (o->bos && !ids) + 2 * chat;
    connection->sent = 0;
    connection->streaming = true;
    timer_set(connection, clock_now(&stub->clock) + wait_us(connection, o->ttft_ms));
}
