#include "server/frontend.h"
#include "base/alloc.h"
#include "server/exchange.h"

#include <pthread.h>
#include <stdlib.h>

struct job_queue {
    struct exchange *first, *last;
    int32_t count;
};

struct frontend {
    struct frontend_work work;
    int32_t max_pending;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct job_queue starting, finishing;
    bool stop;
    int thread_count;
    pthread_t threads[];
};

static void push(struct job_queue *queue, struct exchange *exchange)
{
    exchange->job_next = NULL;
    if (queue->last)
        queue->last->job_next = exchange;
    else
        queue->first = exchange;
    queue->last = exchange;
    queue->count++;
}

static struct exchange *pop(struct job_queue *queue)
{
    struct exchange *exchange = queue->first;
    queue->first = exchange->job_next;
    if (!queue->first) queue->last = NULL;
    queue->count--;
    return exchange;
}

static void *work(void *argument)
{
    struct frontend *frontend = argument;
    pthread_mutex_lock(&frontend->lock);
    for (;;) {
        /* Answers first: they free memory, new requests take it. */
        bool finishing = frontend->finishing.count > 0;
        if (!finishing && frontend->starting.count == 0) {
            if (frontend->stop) break;
            pthread_cond_wait(&frontend->some, &frontend->lock);
            continue;
        }
        struct exchange *exchange = pop(finishing ? &frontend->finishing : &frontend->starting);
        pthread_mutex_unlock(&frontend->lock);
        (finishing ? frontend->work.finish : frontend->work.start)(exchange);
        exchange_unref(exchange);
        pthread_mutex_lock(&frontend->lock);
    }
    pthread_mutex_unlock(&frontend->lock);
    return NULL;
}

bool frontend_start(struct frontend *frontend, struct exchange *exchange)
{
    pthread_mutex_lock(&frontend->lock);
    bool room = frontend->starting.count < frontend->max_pending;
    if (room) {
        exchange_ref(exchange);
        push(&frontend->starting, exchange);
        pthread_cond_signal(&frontend->some);
    }
    pthread_mutex_unlock(&frontend->lock);
    return room;
}

void frontend_finish(struct frontend *frontend, struct exchange *exchange)
{
    exchange_ref(exchange);
    pthread_mutex_lock(&frontend->lock);
    push(&frontend->finishing, exchange);
    pthread_cond_signal(&frontend->some);
    pthread_mutex_unlock(&frontend->lock);
}

void frontend_free(struct frontend *frontend)
{
    if (!frontend) return;
    pthread_mutex_lock(&frontend->lock);
    frontend->stop = true;
    pthread_cond_broadcast(&frontend->some);
    pthread_mutex_unlock(&frontend->lock);
    for (int i = 0; i < frontend->thread_count; i++)
        pthread_join(frontend->threads[i], NULL);
    pthread_cond_destroy(&frontend->some);
    pthread_mutex_destroy(&frontend->lock);
    free(frontend);
}

enum status frontend_create(int threads, int32_t max_pending, struct frontend_work jobs,
                            struct frontend **out, struct error *err)
{
    struct frontend *frontend =
        must_alloc(sizeof *frontend + (size_t)threads * sizeof *frontend->threads);
    frontend->work = jobs;
    frontend->max_pending = max_pending;
    pthread_mutex_init(&frontend->lock, NULL);
    pthread_cond_init(&frontend->some, NULL);
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&frontend->threads[i], NULL, work, frontend)) {
            frontend_free(frontend);
            return fail(err, ST_IO, "front-end: no thread can be started");
        }
        pthread_setname_np(frontend->threads[i], "frontend");
        frontend->thread_count++;
    }
    *out = frontend;
    return ST_OK;
}
