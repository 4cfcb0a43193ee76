#include "server/lifecycle.h"
#include "base/log.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The process has one life, so this is the room's only global state. */
static sigset_t watched;
static sem_t stop_asked;
static _Atomic bool ready;

static void *wait_for_signals(void *argument)
{
    (void)argument;
    int number;
    while (sigwait(&watched, &number)) {
    }
    if (!atomic_load(&ready)) quick_exit(0); /* a half-made cache goes with it */
    sem_post(&stop_asked);
    while (sigwait(&watched, &number)) {
    }
    /* timeout(1) and some supervisors send one signal twice, to the process and to its group: a
     * server that has nothing to finish is gone before this is over, with its own exit status. */
    const struct timespec moment = {.tv_nsec = 100 * 1000 * 1000};
    nanosleep(&moment, NULL);
    log_warn("%s again: ending at once", strsignal(number));
    _exit(1);
}

enum status lifecycle_begin(struct error *err)
{
    signal(SIGPIPE, SIG_IGN);
    sem_init(&stop_asked, 0, 0);
    sigemptyset(&watched);
    sigaddset(&watched, SIGTERM);
    sigaddset(&watched, SIGINT);
    pthread_sigmask(SIG_BLOCK, &watched, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, wait_for_signals, NULL))
        return fail(err, ST_IO, "no thread can be started for the signals");
    pthread_detach(thread);
    return ST_OK;
}

void lifecycle_ready(void)
{
    atomic_store(&ready, true);
}

void lifecycle_wait(void)
{
    while (sem_wait(&stop_asked)) {
    }
}
