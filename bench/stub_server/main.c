/* stub_server: see stub.h. Prints the port it listens on and serves until it is killed. */
#include "bench/stub_server/stub.h"
#include "base/options.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS   512
#define IN_LIMIT (64u << 20)

void connection_close(struct connection *connection)
{
    if (connection->fd < 0) return;
    timer_clear(connection);
    close(connection->fd);
    connection->fd = -1;
    connection->next_closed = connection->stub->closed;
    connection->stub->closed = connection;
}

void connection_reset(struct connection *connection)
{
    struct linger now = {1, 0};
    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    connection_close(connection);
}

static void watch(struct connection *connection, bool room)
{
    struct epoll_event event = {.events = EPOLLIN | (room ? EPOLLOUT : 0), .data.ptr = connection};
    connection->wants_room = room;
    epoll_ctl(connection->stub->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
}

void connection_flush(struct connection *connection)
{
    struct strbuf *out = &connection->out;
    while (connection->fd >= 0 && out->length) {
        ssize_t sent = send(connection->fd, out->data, out->length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno != EAGAIN) return connection_close(connection);
        if (sent < 0) break;
        strbuf_drop_front(out, (size_t)sent);
    }
    bool room = out->length > 0;
    if (connection->fd >= 0 && room != connection->wants_room) watch(connection, room);
}

static void read_all(struct connection *connection)
{
    char bytes[65536];
    while (connection->fd >= 0) {
        ssize_t got = recv(connection->fd, bytes, sizeof bytes, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0 || connection->in.length > IN_LIMIT) return connection_close(connection);
        strbuf_append(&connection->in, bytes, (size_t)got);
        if (got < (ssize_t)sizeof bytes) break;
    }
    http_take(connection);
}

static void accept_all(struct stub *stub, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        struct connection *connection = must_alloc(sizeof *connection);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection->stub = stub;
        connection->fd = fd;
        epoll_ctl(stub->epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

static void free_closed(struct stub *stub)
{
    while (stub->closed) {
        struct connection *connection = stub->closed;
        stub->closed = connection->next_closed;
        strbuf_free(&connection->in);
        strbuf_free(&connection->out);
        free(connection);
    }
}

static void take_events(struct stub *stub, int listener, struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (!connection)
            accept_all(stub, listener);
        else if (connection->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
            read_all(connection);
        if (connection && connection->fd >= 0 && (events[i].events & EPOLLOUT))
            connection_flush(connection);
    }
}

/* Everything whose time has come. */
static void run_timers(struct stub *stub)
{
    while (stub->heap_count && stub->heap[0]->due_us <= clock_now(&stub->clock)) {
        struct connection *connection = stub->heap[0];
        timer_clear(connection);
        answer_due(connection);
    }
}

static void serve(struct stub *stub, int listener)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        struct timespec timeout = {1, 0};
        if (stub->heap_count) {
            int64_t wait = stub->heap[0]->due_us - clock_now(&stub->clock);
            if (wait < 0) wait = 0;
            timeout = (struct timespec){wait / 1000000, wait % 1000000 * 1000};
        }
        int count = epoll_pwait2(stub->epoll_fd, events, EVENTS, &timeout, NULL);
        take_events(stub, listener, events, count);
        run_timers(stub);
        free_closed(stub);
    }
}

static int listen_on(int64_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) {
        log_error("cannot listen on 127.0.0.1:%d: %s", (int)port, strerror(errno));
        exit(1);
    }
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("listening on http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static bool read_faults(char *text, struct stub_options *o)
{
    for (char *word; text && (word = strsep(&text, ","));) {
        int fault = 0;
        while (fault < FAULTS && strcmp(word, fault_names[fault]))
            fault++;
        if (fault == FAULTS || o->fault_count == COUNT_OF(o->faults)) {
            log_error("--faults: found \"%s\"", word);
            return false;
        }
        o->faults[o->fault_count++] = (enum fault)fault;
    }
    return true;
}

int main(int argc, char **argv)
{
    static const struct command_help help = {
        "stub_server", "stub_server --port 8099 --ttft 50 --gap 20",
        "An OpenAI-style server without a model, of known timing, for bench/ and tests"};
    struct stub stub = {.options = {.ttft_ms = 50, .gap_ms = 20}, .clock = clock_monotonic()};
    int64_t port = 0, seed = 0;
    const char *faults = NULL;
    struct option_spec table[] = {
        {"port", OPT_INT, &port, "N", "default 0: any; it is printed", 0, 65535},
        {"ttft", OPT_REAL, &stub.options.ttft_ms, "MS", "to the first token (default 50)", 0, 0},
        {"gap", OPT_REAL, &stub.options.gap_ms, "MS", "between tokens (default 20)", 0, 0},
        {"jitter", OPT_REAL, &stub.options.jitter, "SHARE", "of each wait (default 0)", 0, 1},
        {"seed", OPT_INT, &seed, "N", "of the jitter", 0, INT64_MAX},
        {"bos", OPT_FLAG, &stub.options.bos, NULL, "a token before each prompt of text", 0, 0},
        {"faults", OPT_STRING, &faults, "A,B,...",
         "request i goes wrong in way i modulo their number: none, 429, 503, 500, 400,\n"
         "stall, silent, bad-json, bad-line, long-line, early, reset, no-answer, error, html,\n"
         "bad-http, bad-chunk, flood, no-done, no-token, die, comments, open",
         0, 0},
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    char *words = faults ? must_strdup(faults) : NULL;
    if (!read_faults(words, &stub.options)) return 2;
    free(words);
    stub.options.seed = (uint64_t)seed;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_TIMERSLACK, 1UL);
    stub.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(port);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(stub.epoll_fd, EPOLL_CTL_ADD, listener, &event);
    serve(&stub, listener);
}
