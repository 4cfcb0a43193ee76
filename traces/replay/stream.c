#include "traces/replay/stream.h"
#include "base/base.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define REFUSAL_LIMIT 65536 /* bytes of an error's body that are kept */

int64_t stream_now(const struct stream_context *context)
{
    return clock_now(&context->clock) - context->start_us;
}

static bool set_failure(struct stream *stream, const char *words)
{
    if (!*stream->failure) snprintf(stream->failure, sizeof stream->failure, "%s", words);
    return false;
}

/* How many tokens a choice's chunk has, and how sure that is. */
static int32_t tokens_of(const struct stream_event *event, const struct event_choice *choice,
                         enum token_certainty *certainty)
{
    *certainty = TOKEN_SURE;
    if (choice->token_ids >= 0) return choice->token_ids;
    if (event->branch_event == BRANCH_TOKEN) return 1;
    if (choice->role_only) return 0;
    *certainty = *choice->finish    ? choice->has_text ? TOKEN_CLOSING : TOKEN_ENDING
                 : choice->has_text ? TOKEN_SURE
                                    : TOKEN_SILENT;
    return 1;
}

/* Of vLLM and SGLang, where the engine gave the request up. */
static bool gave_up(const char *finish)
{
    return !strcmp(finish, "error") || !strcmp(finish, "abort");
}

static bool take_choice(struct stream *stream, const struct event_choice *choice)
{
    char words[48];
    const struct stream_event *event = &stream->context->event;
    enum token_certainty certainty;
    bool ours = event->branch_event != BRANCH_NONE;
    int32_t stage = ours ? event->stage : 0;
    int32_t branch = ours ? event->branch : choice->index;
    int32_t tokens = tokens_of(event, choice, &certainty);
    bool room = true;
    if (tokens) stream->progress_us = stream->last_byte_us;
    for (int32_t i = 0; i < tokens && room; i++)
        room = flight_token(&stream->flight, stream->last_byte_us, stage, branch, certainty);
    if (room && *choice->finish)
        room = flight_finish(&stream->flight, choice->index, choice->finish);
    if (!room) return set_failure(stream, "far more tokens than were asked for");
    if (!gave_up(choice->finish)) return true;
    snprintf(words, sizeof words, "finish reason %s", choice->finish);
    return set_failure(stream, words);
}

static void take_usage(struct flight *flight, const struct stream_event *event)
{
    if (event->usage_prompt >= 0) flight->usage_prompt = event->usage_prompt;
    if (event->usage_completion >= 0) flight->usage_completion = event->usage_completion;
    if (event->usage_cached >= 0) flight->usage_cached = event->usage_cached;
}

static bool take_event(struct stream *stream)
{
    const struct stream_event *event = &stream->context->event;
    struct flight *flight = &stream->flight;
    if (event->failed) {
        char words[96];
        snprintf(flight->code, sizeof flight->code, "%s", event->error_code);
        snprintf(words, sizeof words, "error event %s", event->error_code);
        return set_failure(stream, words);
    }
    take_usage(flight, event);
    if (event->branch_event == BRANCH_FORK || event->branch_event == BRANCH_JOIN) {
        stream->progress_us = stream->last_byte_us;
        return flight_event(flight, stream->last_byte_us, event->stage, event->branch,
                            event->branch_event) ||
               set_failure(stream, "far more branches than were asked for");
    }
    for (int32_t i = 0; i < event->choice_count; i++)
        if (!take_choice(stream, &event->choices[i])) return false;
    return true;
}

static bool on_data(void *context, const char *data, size_t length)
{
    struct stream *stream = context;
    struct error what = {0};
    if (stream->done) return true; /* nothing counts any more */
    if (length == 6 && !memcmp(data, "[DONE]", 6)) {
        stream->done = true;
        stream->progress_us = stream->last_byte_us;
        return true;
    }
    if (!event_parse(data, length, &stream->context->event, &what)) {
        log_debug("malformed event: %s", what.text);
        return set_failure(stream, "malformed event");
    }
    return take_event(stream);
}

bool stream_take(struct stream *stream, const char *bytes, size_t length)
{
    switch (sse_feed(&stream->sse, bytes, length, on_data, stream)) {
    case SSE_OK:
        return true;
    case SSE_STOPPED: /* said by on_data */
        return false;
    case SSE_BAD_LINE:
        return set_failure(stream, "malformed line of a stream");
    case SSE_TOO_LONG:
        return set_failure(stream, "event over 1 MiB");
    }
    return false;
}

static void begin_answer(struct stream *stream)
{
    long status = 0;
    char *type = NULL;
    curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(stream->easy, CURLINFO_CONTENT_TYPE, &type);
    stream->http_status = (int)status;
    stream->is_stream = status == 200 && (!type || strcasestr(type, "event-stream"));
    stream->flight.first_byte_us = stream->last_byte_us;
}

/* One clock reading for all that one call brings. */
static size_t on_bytes(char *bytes, size_t size, size_t count, void *context)
{
    struct stream *stream = context;
    size_t length = size * count;
    if (length == 0) return 0;
    stream->last_byte_us = stream_now(stream->context);
    if (stream->flight.first_byte_us < 0) begin_answer(stream);
    if (!stream->is_stream) {
        size_t room = REFUSAL_LIMIT - stream->refusal.length;
        strbuf_append(&stream->refusal, bytes, length < room ? length : room);
        return length;
    }
    return stream_take(stream, bytes, length) ? length : 0; /* 0 ends the transfer */
}

static int on_ready(void *context, char *local, char *remote, int local_port, int remote_port)
{
    struct stream *stream = context;
    (void)local, (void)remote, (void)local_port, (void)remote_port;
    stream->flight.connected_us = stream_now(stream->context);
    return CURL_PREREQFUNC_OK;
}

static curl_socket_t on_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct stream *stream = context;
    (void)purpose;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) stream->refused_descriptor = true;
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

struct stream *stream_create(struct stream_context *context)
{
    struct stream *stream = must_alloc(sizeof *stream);
    CURL *easy = curl_easy_init();
    invariant(easy, "libcurl gave no handle");
    stream->context = context;
    stream->easy = easy;
    curl_easy_setopt(easy, CURLOPT_URL, context->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");    /* whatever the environment says */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L); /* also: no sigaction around each call */
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, stream);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, stream);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_ready);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, stream);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, stream);
    return stream;
}

void stream_free(struct stream *stream)
{
    if (!stream) return;
    curl_easy_cleanup(stream->easy);
    curl_slist_free_all(stream->headers);
    strbuf_free(&stream->body);
    strbuf_free(&stream->refusal);
    sse_free(&stream->sse);
    flight_free(&stream->flight);
    free(stream);
}

static void add_header(struct stream *stream, const char *format, double value)
{
    char line[64];
    snprintf(line, sizeof line, format, value);
    stream->headers = curl_slist_append(stream->headers, line);
}

static void set_headers(struct stream *stream)
{
    const struct slo_target *slo = &stream->flight.slo;
    const char *key = stream->context->target->key;
    curl_slist_free_all(stream->headers);
    stream->headers = curl_slist_append(NULL, "Content-Type: application/json");
    /* A large body would wait for a "100 Continue" first. */
    stream->headers = curl_slist_append(stream->headers, "Expect:");
    if (slo->ttft_us) add_header(stream, "x-slo-ttft-ms: %.9g", (double)slo->ttft_us / 1e3);
    if (slo->tpot_us) add_header(stream, "x-slo-tpot-ms: %.9g", (double)slo->tpot_us / 1e3);
    if (key) {
        struct strbuf line = {0};
        strbuf_format(&line, "Authorization: Bearer %s", key);
        stream->headers = curl_slist_append(stream->headers, strbuf_cstr(&line));
        strbuf_free(&line);
    }
}

void stream_prepare(struct stream *stream)
{
    sse_reset(&stream->sse);
    strbuf_clear(&stream->refusal);
    stream->http_status = 0;
    stream->is_stream = stream->done = stream->refused_descriptor = false;
    stream->failure[0] = 0;
    set_headers(stream);
    curl_easy_setopt(stream->easy, CURLOPT_HTTPHEADER, stream->headers);
    curl_easy_setopt(stream->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)stream->body.length);
    curl_easy_setopt(stream->easy, CURLOPT_POSTFIELDS, strbuf_cstr(&stream->body));
}

/* Of a transfer that did not go to its end. */
static const char *words_of(const struct stream *stream, CURLcode code)
{
    if (stream->refused_descriptor) return "no file descriptor left here";
    long system = 0;
    curl_easy_getinfo(stream->easy, CURLINFO_OS_ERRNO, &system);
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return system == ECONNREFUSED ? "connection refused" : "cannot connect";
    case CURLE_COULDNT_RESOLVE_HOST:
        return "unknown host";
    case CURLE_OPERATION_TIMEDOUT:
        return "connecting took too long";
    case CURLE_GOT_NOTHING:
        return "closed without an answer";
    case CURLE_PARTIAL_FILE:
        return "closed early";
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR: /* without a word of the system it is the bytes that are wrong */
        return code == CURLE_SEND_ERROR || system ? "connection reset" : "malformed HTTP";
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
        return "malformed HTTP";
    default:
        return curl_easy_strerror(code);
    }
}

static void set_outcome(struct flight *flight, enum outcome outcome, const char *words)
{
    flight->outcome = outcome;
    snprintf(flight->reason, sizeof flight->reason, "%s", words);
    make_printable(flight->reason);
}

/* A status other than 200: 4xx and 503 say no before any work, others are the server's failures. */
static void set_refusal(struct stream *stream)
{
    struct flight *flight = &stream->flight;
    int status = stream->http_status;
    bool refused = (status >= 400 && status < 500) || status == 503;
    char words[96];
    event_error_code(strbuf_cstr(&stream->refusal), stream->refusal.length, flight->code);
    snprintf(words, sizeof words, "%d%s%s", status, *flight->code ? " " : "", flight->code);
    set_outcome(flight, refused ? OUTCOME_REFUSED : OUTCOME_FAILED, words);
}

static bool finished(const struct stream *stream)
{
    return stream->flight.finish_count >= (size_t)stream->flight.answers;
}

void stream_end(struct stream *stream, CURLcode code, const char *given_up)
{
    struct flight *flight = &stream->flight;
    long status = 0;
    curl_easy_getinfo(stream->easy, CURLINFO_RESPONSE_CODE, &status);
    if (!stream->http_status) stream->http_status = (int)status; /* an answer without a body */
    flight->http_status = stream->http_status;
    bool by_server = flight->first_byte_us >= 0 && (stream->done || !given_up);
    flight->end_us = by_server ? stream->last_byte_us : stream_now(stream->context);
    flight_settle(flight);
    if (*stream->failure)
        set_outcome(flight, OUTCOME_FAILED, stream->failure);
    else if (stream->done)
        set_outcome(flight, flight->token_count ? OUTCOME_COMPLETED : OUTCOME_FAILED,
                    flight->token_count ? "" : "no token");
    else if (given_up)
        set_outcome(flight, *given_up ? OUTCOME_FAILED : OUTCOME_UNFINISHED, given_up);
    else if (code != CURLE_OK)
        set_outcome(flight, OUTCOME_FAILED, words_of(stream, code));
    else if (stream->http_status != 200)
        set_refusal(stream);
    else if (!stream->is_stream)
        set_outcome(flight, OUTCOME_FAILED, "200 without a stream");
    else if (!finished(stream))
        set_outcome(flight, OUTCOME_FAILED, "closed early");
    else if (!flight->token_count)
        set_outcome(flight, OUTCOME_FAILED, "no token");
    else
        set_outcome(flight, OUTCOME_COMPLETED, "");
}
