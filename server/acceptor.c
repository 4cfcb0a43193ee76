#include "server/acceptor.h"
#include "base/alloc.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_MS 500  /* how late, at worst, an order to stop is seen */
#define LOST_MS 1000 /* a connection that was on its way for so long never arrives */

struct acceptor {
    int listener;
    struct acceptor_work work;
    pthread_t thread;
    _Atomic bool stop;
    unsigned shortages;
    int64_t handed;
    _Atomic int64_t begun;
};

void acceptor_begun(struct acceptor *acceptor)
{
    atomic_fetch_add(&acceptor->begun, 1);
}

static void pause_ms(long ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000};
    nanosleep(&time, NULL);
}

static bool is_shortage(int problem)
{
    return problem == EMFILE || problem == ENFILE || problem == ENOBUFS || problem == ENOMEM;
}

static void wait_out_shortage(struct acceptor *acceptor, int problem)
{
    unsigned times = ++acceptor->shortages;
    if ((times & (times - 1)) == 0) /* 1, 2, 4, 8 ...: a log is not flooded */
        log_warn("a connection cannot be accepted now, it waits: %s (%u times by now)",
                 strerror(problem), times);
    pause_ms(100);
}

static void accept_one(struct acceptor *acceptor)
{
    struct sockaddr_storage storage;
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t length = sizeof storage;
    int fd = accept4(acceptor->listener, address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        acceptor->handed++;
        acceptor->work.take(acceptor->work.context, fd, address, length);
    } else if (is_shortage(errno)) {
        wait_out_shortage(acceptor, errno);
    } /* any other error is of one client, which has left already */
}

/* Waits for it. MHD drops a connection without a word when it has no memory for it: what does not
 * arrive is forgotten after a while. */
static bool has_room(struct acceptor *acceptor)
{
    for (int waited_ms = 0; !atomic_load(&acceptor->stop); waited_ms++) {
        int64_t begun = atomic_load(&acceptor->begun), on_their_way = acceptor->handed - begun;
        if (waited_ms == LOST_MS) acceptor->handed = begun;
        if (acceptor->work.room(acceptor->work.context, on_their_way > 0 ? on_their_way : 0))
            return true;
        pause_ms(1);
        waited_ms %= LOST_MS;
    }
    return false;
}

static void *accept_all(void *argument)
{
    struct acceptor *acceptor = argument;
    struct pollfd listener = {.fd = acceptor->listener, .events = POLLIN};
    while (has_room(acceptor)) {
        int ready = poll(&listener, 1, LOOK_MS);
        if (ready > 0) accept_one(acceptor);
        if (ready < 0) pause_ms(10);
    }
    return NULL;
}

enum status acceptor_create(int listener, struct acceptor_work work, struct acceptor **out,
                            struct error *err)
{
    struct acceptor *acceptor = must_alloc(sizeof *acceptor);
    acceptor->listener = listener;
    acceptor->work = work;
    *out = acceptor; /* before its first connection can begin */
    if (pthread_create(&acceptor->thread, NULL, accept_all, acceptor)) {
        *out = NULL;
        free(acceptor);
        return fail(err, ST_IO, "acceptor: no thread can be started");
    }
    pthread_setname_np(acceptor->thread, "acceptor");
    return ST_OK;
}

void acceptor_free(struct acceptor *acceptor)
{
    if (!acceptor) return;
    atomic_store(&acceptor->stop, true);
    shutdown(acceptor->listener, SHUT_RDWR); /* ends the poll */
    pthread_join(acceptor->thread, NULL);
    free(acceptor);
}
