#include "traces/replay/client.h"
#include "base/base.h"
#include "traces/replay/body.h"
#include "traces/replay/pacing.h"
#include "traces/replay/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS       256    /* of one epoll_wait */
#define TICK_US      100000 /* progress, stalled streams, signals */
#define IDLE_KEPT    10000L /* connections kept open between requests */
#define DONE_WAIT    100000 /* us; behind [DONE] the answer should end, its connection be free */
#define REFUSED_WAIT 100000 /* us; in a closed loop, behind a server that cannot be reached */

struct client {
    const struct client_options *options;
    struct stream_context shared;
    struct pacing pacing;
    CURLM *multi;
    int epoll_fd, timer_fd;
    int64_t curl_due_us;     /* when libcurl wants to be called; -1: not */
    int64_t armed_us;        /* what the timer is set to; -1: nothing */
    int64_t tick_us;         /* when the next tick is due */
    int64_t hold_us;         /* closed loop: nothing is sent before */
    int64_t sending_over_us; /* -1: not yet */
    struct stream *active;   /* under way */
    struct stream *idle;     /* for later requests */
    struct stream *prepared; /* the next request, its body made */
    int32_t in_flight;
    int64_t ended;
    struct strbuf prompt;
    struct client_counts *counts;
};

static int64_t now_of(const struct client *client)
{
    return stream_now(&client->shared);
}

/* --- what libcurl asks for */

static int on_socket_change(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    struct client *client = context;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    struct epoll_event event = {.data.fd = fd};
    if (what & CURL_POLL_IN) event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
    int failed = epoll_ctl(client->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    if (failed && errno == EEXIST) epoll_ctl(client->epoll_fd, EPOLL_CTL_MOD, fd, &event);
    if (!known) curl_multi_assign(client->multi, fd, client);
    return 0;
}

static int on_timer_change(CURLM *multi, long timeout_ms, void *context)
{
    struct client *client = context;
    (void)multi;
    client->curl_due_us = timeout_ms < 0 ? -1 : now_of(client) + 1000 * (int64_t)timeout_ms;
    return 0;
}

static void act(struct client *client, curl_socket_t fd, int what)
{
    int running;
    curl_multi_socket_action(client->multi, fd, what, &running);
}

/* --- lists of streams */

static void link_active(struct client *client, struct stream *stream)
{
    stream->previous = NULL;
    stream->next = client->active;
    if (stream->next) stream->next->previous = stream;
    client->active = stream;
    client->in_flight++;
}

static void unlink_active(struct client *client, struct stream *stream)
{
    if (stream->next) stream->next->previous = stream->previous;
    if (stream->previous)
        stream->previous->next = stream->next;
    else
        client->active = stream->next;
    client->in_flight--;
}

static struct stream *take_idle(struct client *client)
{
    struct stream *stream = client->idle;
    if (!stream) return stream_create(&client->shared);
    client->idle = stream->next;
    return stream;
}

static void put_idle(struct client *client, struct stream *stream)
{
    stream->next = client->idle;
    client->idle = stream;
}

/* --- sending */

/* The trace's own limits, or the run's. */
static struct slo_target slo_of(const struct trace_request *request,
                                const struct replay_settings *settings)
{
    if (request->ttft_ms <= 0 && request->tpot_ms <= 0) return settings->slo;
    return (struct slo_target){(int64_t)(request->ttft_ms * 1e3 + 0.5),
                               (int64_t)(request->tpot_ms * 1e3 + 0.5)};
}

/* The next request, ready to go: a long prompt takes a while to write, which must not make it late.
 */
static void prepare_next(struct client *client)
{
    const struct client_options *o = client->options;
    const struct replay_settings *settings = o->settings;
    if (client->prepared || pacing_over(&client->pacing, now_of(client))) return;
    struct stream *stream = take_idle(client);
    struct flight *flight = &stream->flight;
    flight_reset(flight);
    int64_t due_us = client->pacing.next_us;
    const struct trace_request *request = pacing_take(&client->pacing, &flight->index);
    flight->due_us = due_us;
    flight->class_name = request->class_name;
    flight->slo = slo_of(request, settings);
    strbuf_clear(&client->prompt);
    strbuf_clear(&stream->body);
    flight->prompt_tokens =
        prompts_write(o->prompts, request, (uint64_t)flight->index, &client->prompt);
    stream->cut = flight->prompt_tokens < request->prompt_tokens;
    stream->lengthened = flight->prompt_tokens > request->prompt_tokens;
    body_write(settings, o->target->model, request, &client->prompt, &stream->body, flight);
    stream_prepare(stream);
    client->prepared = stream;
}

static void send_prepared(struct client *client)
{
    struct stream *stream = client->prepared;
    struct flight *flight = &stream->flight;
    client->prepared = NULL;
    link_active(client, stream);
    client->counts->sent++;
    client->counts->cut_prompts += stream->cut;
    client->counts->lengthened_prompts += stream->lengthened;
    curl_multi_add_handle(client->multi, stream->easy);
    flight->sent_us = stream->last_byte_us = stream->progress_us = now_of(client);
    if (client->options->settings->concurrency) flight->due_us = flight->sent_us;
    act(client, CURL_SOCKET_TIMEOUT, 0); /* it connects, or writes, now */
}

/* When the prepared request may go: -1 without one or with no free place. */
static int64_t next_due(const struct client *client)
{
    int32_t concurrency = client->options->settings->concurrency;
    if (!client->prepared) return -1;
    if (!concurrency) return client->prepared->flight.due_us;
    return client->in_flight < concurrency ? client->hold_us : -1;
}

static bool loop_is_over(const struct client *client, int64_t now)
{
    const struct replay_settings *settings = client->options->settings;
    return settings->concurrency && settings->duration_us && now >= settings->duration_us;
}

static void send_due(struct client *client)
{
    for (;;) {
        int64_t due_us = next_due(client), now = now_of(client);
        if (due_us < 0 || due_us > now || loop_is_over(client, now)) break;
        send_prepared(client);
        prepare_next(client);
    }
}

/* A closed loop's prepared request that the end of --duration overtook is never sent. */
static void drop_prepared(struct client *client)
{
    if (!client->prepared || !loop_is_over(client, now_of(client))) return;
    put_idle(client, client->prepared);
    client->prepared = NULL;
}

/* --- ends */

static void end_stream(struct client *client, struct stream *stream, CURLcode code,
                       const char *given_up)
{
    stream_end(stream, code, given_up);
    curl_multi_remove_handle(client->multi, stream->easy);
    unlink_active(client, stream);
    client->ended++;
    bool unreachable = code == CURLE_COULDNT_CONNECT || stream->refused_descriptor;
    if (unreachable) client->hold_us = now_of(client) + REFUSED_WAIT;
    if (client->counts->wall_us < stream->flight.end_us)
        client->counts->wall_us = stream->flight.end_us;
    client->options->on_flight(client->options->context, &stream->flight);
    put_idle(client, stream);
}

static void collect_ended(struct client *client)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(client->multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        struct stream *stream;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&stream);
        end_stream(client, stream, code, NULL);
    }
}

static void end_all(struct client *client, const char *words)
{
    while (client->active)
        end_stream(client, client->active, CURLE_OK, words);
}

static void end_stalled(struct client *client, int64_t now)
{
    int64_t stall_us = client->options->settings->stall_us;
    for (struct stream *stream = client->active, *next; stream; stream = next) {
        next = stream->next;
        if (now - stream->progress_us > (stream->done ? DONE_WAIT : stall_us))
            end_stream(client, stream, CURLE_OK, "stalled");
    }
}

/* --- the loop */

static void tick(struct client *client, int64_t now)
{
    const struct client_options *o = client->options;
    int64_t limit = client->pacing.limit;
    if (now < client->tick_us) return;
    client->tick_us = now + TICK_US;
    end_stalled(client, now);
    struct run_progress progress = {.now_us = now,
                                    .sent = client->counts->sent,
                                    .ended = client->ended,
                                    .expected = limit == INT64_MAX ? 0 : limit,
                                    .in_flight = client->in_flight};
    o->on_progress(o->context, &progress);
}

/* Sending is over: when all is sent, or else with --duration, though the last request before it may
 * have gone out earlier. */
static int64_t sending_end(const struct client *client, int64_t now)
{
    int64_t duration_us = client->options->settings->duration_us;
    return client->pacing.sent < client->pacing.limit && duration_us > now ? duration_us : now;
}

/* true: the run is over. */
static bool over(struct client *client)
{
    const struct replay_settings *settings = client->options->settings;
    int64_t now = now_of(client);
    if (*client->options->stop) {
        client->counts->interrupted = true;
        return true;
    }
    drop_prepared(client);
    if (client->prepared || !pacing_over(&client->pacing, now)) return false;
    if (client->in_flight == 0) return true;
    if (client->sending_over_us < 0) client->sending_over_us = sending_end(client, now);
    client->counts->drain_over = now - client->sending_over_us > settings->drain_us;
    return client->counts->drain_over;
}

static void arm_timer(struct client *client)
{
    int64_t wake_us = client->tick_us, due_us = next_due(client);
    if (due_us >= 0 && due_us < wake_us) wake_us = due_us;
    if (client->curl_due_us >= 0 && client->curl_due_us < wake_us) wake_us = client->curl_due_us;
    if (wake_us == client->armed_us) return;
    client->armed_us = wake_us;
    int64_t at_us = client->shared.start_us + wake_us;
    if (at_us < 1) at_us = 1;
    struct itimerspec when = {.it_value = {at_us / 1000000, at_us % 1000000 * 1000}};
    timerfd_settime(client->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void take_events(struct client *client, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        int fd = events[i].data.fd, what = 0;
        if (fd == client->timer_fd) {
            uint64_t times;
            client->armed_us = -1;
            if (read(fd, &times, sizeof times) < 0) continue; /* it was set anew meanwhile */
            continue;
        }
        if (events[i].events & EPOLLIN) what |= CURL_CSELECT_IN;
        if (events[i].events & EPOLLOUT) what |= CURL_CSELECT_OUT;
        if (events[i].events & (EPOLLERR | EPOLLHUP)) what |= CURL_CSELECT_ERR;
        act(client, fd, what);
        send_due(client);
    }
}

static void loop(struct client *client)
{
    struct epoll_event events[EVENTS];
    prepare_next(client);
    while (!over(client)) {
        send_due(client);
        int64_t now = now_of(client);
        if (client->curl_due_us >= 0 && client->curl_due_us <= now) {
            client->curl_due_us = -1;
            act(client, CURL_SOCKET_TIMEOUT, 0);
        }
        collect_ended(client);
        prepare_next(client);
        tick(client, now);
        if (client->curl_due_us >= 0 && client->curl_due_us <= now_of(client)) continue;
        arm_timer(client);
        int count = epoll_wait(client->epoll_fd, events, EVENTS, TICK_US / 1000);
        if (count > 0) take_events(client, events, count);
    }
}

static enum status open_all(struct client *client, struct error *err)
{
    client->multi = curl_multi_init();
    invariant(client->multi, "libcurl gave no multi handle");
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket_change);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, IDLE_KEPT);
    client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    client->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = client->timer_fd};
    if (client->epoll_fd < 0 || client->timer_fd < 0 ||
        epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, client->timer_fd, &event))
        return fail(err, ST_IO, "cannot watch sockets: %s", strerror(errno));
    return ST_OK;
}

static void close_all(struct client *client)
{
    struct stream *next;
    stream_free(client->prepared);
    for (struct stream *stream = client->idle; stream; stream = next) {
        next = stream->next;
        stream_free(stream);
    }
    curl_multi_cleanup(client->multi);
    if (client->epoll_fd >= 0) close(client->epoll_fd);
    if (client->timer_fd >= 0) close(client->timer_fd);
    strbuf_free(&client->prompt);
    free(client->shared.url);
}

static double thread_cpu_s(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (double)spent.tv_sec + (double)spent.tv_nsec / 1e9;
}

static char *endpoint_url(const struct client_options *o)
{
    struct strbuf url = {0};
    bool chat = o->settings->endpoint == ENDPOINT_CHAT;
    strbuf_format(&url, "%s/v1/%s", o->target->base, chat ? "chat/completions" : "completions");
    return strbuf_take(&url);
}

enum status client_run(const struct client_options *options, struct client_counts *counts,
                       struct error *err)
{
    struct client client = {.options = options,
                            .counts = counts,
                            .curl_due_us = -1,
                            .armed_us = -1,
                            .sending_over_us = -1,
                            .epoll_fd = -1,
                            .timer_fd = -1};
    *counts = (struct client_counts){0};
    prctl(PR_SET_TIMERSLACK, 1UL); /* ns: the default of 50 us would be part of each send delay */
    client.shared = (struct stream_context){
        .target = options->target, .clock = clock_monotonic(), .url = endpoint_url(options)};
    pacing_begin(&client.pacing, options->settings, options->trace);
    enum status status = open_all(&client, err);
    if (!status) {
        double cpu_s = thread_cpu_s();
        client.shared.start_us = clock_now(&client.shared.clock);
        prepare_next(&client); /* before the clock starts */
        client.shared.start_us = clock_now(&client.shared.clock);
        loop(&client);
        end_all(&client, "");
        counts->cpu_s = thread_cpu_s() - cpu_s;
    }
    close_all(&client);
    return status;
}
