#include "server/server.h"
#include "base/alloc.h"
#include "base/log.h"
#include "server/exchange.h"
#include "server/completion.h"
#include "server/openapi.h"
#include "server/request_head.h"
#include "server/routes.h"
#include "server/server_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct server_options server_options_default(void)
{
    return (struct server_options){
        .host = "127.0.0.1",
        .port = 8000,
        .limits = server_limits_default(),
        .frontends = 1,
        .clock = clock_monotonic(),
    };
}

bool budget_take(_Atomic int64_t *used, int64_t bytes, int64_t most)
{
    int64_t before = atomic_load(used);
    do {
        if (bytes > most - before) return false;
    } while (!atomic_compare_exchange_weak(used, &before, before + bytes));
    return true;
}

/* --- the listening socket is ours, so that its errors can be told in our words */

/* -1: the system does not say */
static int bound_port(int listener)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &length)) return -1;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static enum status refuse_bind(const struct server_options *o, int problem, struct error *err)
{
    if (problem == EADDRINUSE)
        return fail(
            err, ST_IO,
            "port %d on %s is in use: stop what listens there, or choose another with --port "
            "(0 takes any free one)",
            o->port, o->host);
    if (problem == EACCES)
        return fail(err, ST_IO, "port %d needs root: choose one above 1023 with --port", o->port);
    return fail(err, ST_IO, "cannot listen on %s port %d: %s", o->host, o->port, strerror(problem));
}

static enum status open_listener(struct server *server, struct error *err)
{
    const struct server_options *o = &server->options;
    char port[16];
    snprintf(port, sizeof port, "%d", o->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    int problem = getaddrinfo(o->host, port, &hints, &found);
    if (problem) return fail(err, ST_IO, "--host %s: %s", o->host, gai_strerror(problem));
    int one = 1, fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    enum status status = ST_OK;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(fd, found->ai_addr, found->ai_addrlen) || listen(fd, 1024) ||
        (server->port = bound_port(fd)) < 0)
        status = refuse_bind(o, errno, err);
    freeaddrinfo(found);
    server->listener = fd;
    return status;
}

/* Every connection is a descriptor: raise the soft limit, and keep within what the system grants.
 */
static void fit_descriptors(struct server_limits *limits)
{
    const rlim_t others = 128; /* the model's file, epolls, standard streams, the listener */
    struct rlimit have;
    if (getrlimit(RLIMIT_NOFILE, &have)) return;
    rlim_t want = (rlim_t)limits->max_connections + others;
    if (have.rlim_cur < want) {
        have.rlim_cur = have.rlim_max < want ? have.rlim_max : want;
        setrlimit(RLIMIT_NOFILE, &have);
        getrlimit(RLIMIT_NOFILE, &have);
    }
    if (have.rlim_cur >= want) return;
    limits->max_connections = have.rlim_cur > 2 * others ? (int32_t)(have.rlim_cur - others) : 128;
    log_warn("the system grants %llu open files: at most %d connections",
             (unsigned long long)have.rlim_cur, limits->max_connections);
}

/* --- life */

static void log_from_mhd(void *argument, const char *format, va_list args)
{
    (void)argument;
    char line[512];
    int length = vsnprintf(line, sizeof line, format, args);
    while (length > 0 && length < (int)sizeof line && line[length - 1] == '\n')
        line[--length] = 0;
    log_debug("http: %s", line);
}

static enum status start_daemon(struct server *server, struct error *err)
{
    const struct server_limits *limits = &server->options.limits;
    /* Room for the largest header, its parsed form and the answer's header. Touched only as needed.
     */
    size_t pool = (size_t)limits->max_header * 2 + 32768;
    /* The limit of connections is the acceptor's and the watcher's: MHD 0.9.75 does not unlock its
     * mutex where an added connection is one too many. */
    server->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_ERROR_LOG,
        0, NULL, NULL, connection_handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_from_mhd, NULL,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)INT32_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT, pool,
        MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)16384, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(limits->stall_timeout_us / 1000000), MHD_OPTION_NOTIFY_COMPLETED,
        connection_completed, server, MHD_OPTION_UNESCAPE_CALLBACK, head_unescape, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, connection_changed, server, MHD_OPTION_END);
    if (!server->daemon) return fail(err, ST_IO, "the HTTP server could not be started");
    return ST_OK;
}

static bool room_for_connection(void *argument, int64_t on_their_way)
{
    struct server *server = argument;
    return watcher_connections(server->watcher) + on_their_way <
           server->options.limits.max_connections;
}

static void take_connection(void *argument, int fd, const struct sockaddr *address,
                            socklen_t length)
{
    struct server *server = argument;
    MHD_add_connection(server->daemon, fd, address, length); /* closes it where it fails */
}

static enum status start_accepting(struct server *server, struct error *err)
{
    struct acceptor_work work = {room_for_connection, take_connection, server};
    return acceptor_create(server->listener, work, &server->acceptor, err);
}

/* New clients are refused by the system from here on. */
static void stop_accepting(struct server *server)
{
    acceptor_free(server->acceptor);
    server->acceptor = NULL;
    if (server->listener >= 0) close(server->listener);
    server->listener = -1;
}

static void release(struct server *server)
{
    stop_accepting(server);
    if (server->model.engine) engine_after_tick(server->model.engine, NULL, NULL);
    if (server->daemon) MHD_stop_daemon(server->daemon);
    frontend_free(server->frontend);
    watcher_free(server->watcher);
    auth_free(server->auth);
    strbuf_free(&server->openapi);
    slo_classes_release(&server->metrics.slo);
    free(server);
}

enum status server_create(const struct server_options *options, struct server **out,
                          struct error *err)
{
    struct server *server = must_alloc(sizeof *server);
    server->options = *options;
    server->listener = -1;
    slo_classes_init(&server->metrics.slo);
    fit_descriptors(&server->options.limits);
    const struct server_limits *limits = &server->options.limits;
    const struct frontend_work jobs = {route_start, route_finish};
    enum status status = open_listener(server, err);
    if (!status && options->api_key_file)
        status = auth_load(options->api_key_file, &server->auth, err);
    if (!status) status = watcher_create(limits, options->clock, &server->watcher, err);
    if (!status)
        status =
            frontend_create(options->frontends, limits->max_pending, jobs, &server->frontend, err);
    if (!status) status = start_daemon(server, err);
    if (!status) status = start_accepting(server, err);
    if (status) {
        release(server);
        return status;
    }
    *out = server;
    return ST_OK;
}

int server_port(const struct server *server)
{
    return server->port;
}

static void ring(void *watcher)
{
    watcher_ring(watcher);
}

void server_attach(struct server *server, const struct served_model *model)
{
    server->model = *model;
    server->created = time(NULL);
    /* Clients that name many cannot crowd it out. */
    if (!slo_is_none(&model->slo)) slo_class_of(&server->metrics.slo, &model->slo);
    openapi_render(&server->options, model, &server->openapi);
    engine_after_tick(model->engine, ring, server->watcher);
    atomic_store(&server->loaded, true);
}

void server_drain(struct server *server)
{
    atomic_store(&server->draining, true);
}

static const struct timespec nap = {.tv_nsec = 2000000};

bool server_wait_idle(struct server *server, int64_t timeout_us)
{
    const struct clock *clock = &server->options.clock;
    int64_t end_us = clock_now(clock) + timeout_us;
    while (atomic_load(&server->active) > 0) {
        if (clock_now(clock) >= end_us) return false;
        nanosleep(&nap, NULL);
    }
    return true;
}

static void cancel_exchange(struct exchange *exchange)
{
    struct completion *completion = atomic_load(&exchange->completion);
    if (completion) completion_cancel(completion);
}

void server_cancel_all(struct server *server)
{
    watcher_each(server->watcher, cancel_exchange);
}

void server_free(struct server *server)
{
    if (!server) return;
    server_drain(server);
    server_cancel_all(server);
    server_wait_idle(server, 2000000);
    /* From here on nobody parks; who is parked is resumed, because MHD cannot stop with suspended
     * connections, and finds that it should close. */
    stop_accepting(server);
    atomic_store(&server->stopping, true);
    watcher_each(server->watcher, exchange_unpark);
    MHD_stop_daemon(server->daemon);
    server->daemon = NULL;
    /* The engine may still hold some: it was asked to let go and does so within a step. */
    while (atomic_load(&server->exchanges) > 0)
        nanosleep(&nap, NULL);
    release(server);
}
