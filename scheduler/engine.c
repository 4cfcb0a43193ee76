/* The engine: a thread around a scheduler, and the door through which other threads reach it.
 *
 * The inbox is a list of requests and a list of ids to cancel under one mutex, which the engine's
 * thread takes once a tick and only to empty it; nothing else in a tick locks, save the door of
 * `ticked`, which others take only to come and to go. A request is checked
 * and made (with all its memory) on the thread that submits it, so what is accepted cannot fail any
 * more.
 *
 * Places. The queue's length is kept in one atomic number, taken before a request is made: places =
 * sequences in the inbox + sequences waiting in the scheduler. After each tick the engine's thread
 * adds by how many the scheduler's queue changed.
 *
 * When a first token would come (ttft.h) is told from the outlook that is published after each tick
 * and what was accepted since: both under the inbox's lock, so that two threads that submit at the
 * same time see each other. Only with ADMISSION_REFUSE.
 *
 * Counters are published as a seqlock of words: the writer never waits, and a reader only repeats
 * its copy when it met a writer, which takes well under a microsecond once a tick.
 */
#include "scheduler/engine.h"

#include "base/base.h"
#include "scheduler/core.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define COUNTER_WORDS ((sizeof(struct scheduler_counters) + 7) / 8)

struct inbox {
    struct request *first, *last; /* linked by next */
    uint64_t *cancelled;          /* [cancelled_count] ids */
    int32_t cancelled_count, cancelled_capacity;
};

struct engine {
    struct scheduler *scheduler;
    struct clock clock;
    struct request_limits limits;
    struct known_blocks *known; /* the scheduler's; NULL: nobody is refused for the time */
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* guards what follows, down to `delivered` */
    pthread_cond_t wake;  /* the inbox has something, or stop */
    pthread_cond_t idle_changed;
    struct inbox inbox;
    uint64_t last_id;
    bool closed;                 /* no more submissions */
    bool stop;                   /* the thread shall end */
    bool idle;                   /* nothing in the inbox, nothing in the scheduler */
    struct ttft_outlook outlook; /* after the last tick, */
    struct ttft_line submitted;  /* what came to the inbox since it was emptied, */
    struct ttft_line delivered;  /* and before, but is not in the outlook */

    _Atomic int32_t places; /* taken, of limits.max_queue */
    int32_t places_queued;  /* of them, those of the scheduler's queue; engine's thread only */
    struct inbox taken;     /* the inbox of this tick; engine's thread only */

    bool (*work)(void *context); /* before the first request; NULL: no more. Engine's thread only */
    void *work_context;

    pthread_mutex_t tick_lock; /* held while `ticked` runs, so that it can be taken away */
    void (*ticked)(void *context);
    void *ticked_context;

    _Atomic uint64_t version; /* odd while the words change */
    _Atomic uint64_t words[COUNTER_WORDS];
};

static void publish(struct engine *engine, const struct scheduler_counters *counters)
{
    uint64_t words[COUNTER_WORDS] = {0};
    memcpy(words, counters, sizeof *counters);
    uint64_t version = atomic_load_explicit(&engine->version, memory_order_relaxed);
    atomic_store_explicit(&engine->version, version + 1, memory_order_relaxed);
    /* Release on every word: who sees a new word also sees the odd version, or a later one. */
    for (size_t i = 0; i < COUNTER_WORDS; i++)
        atomic_store_explicit(&engine->words[i], words[i], memory_order_release);
    atomic_store_explicit(&engine->version, version + 2, memory_order_release);
}

static void publish_outlook(struct engine *engine)
{
    if (!engine->known) return;
    struct ttft_outlook outlook = scheduler_outlook(engine->scheduler);
    pthread_mutex_lock(&engine->lock);
    engine->outlook = outlook;
    engine->delivered = (struct ttft_line){0};
    pthread_mutex_unlock(&engine->lock);
}

/* After a tick: the places that its sequences left, and the counters. */
static void report(struct engine *engine)
{
    struct scheduler_counters counters;
    scheduler_counters(engine->scheduler, &counters);
    atomic_fetch_add(&engine->places, counters.waiting - engine->places_queued);
    engine->places_queued = counters.waiting;
    publish(engine, &counters);
    publish_outlook(engine);
}

void engine_counters(const struct engine *engine, struct scheduler_counters *counters)
{
    uint64_t words[COUNTER_WORDS], before, after;
    do {
        before = atomic_load_explicit(&engine->version, memory_order_acquire);
        for (size_t i = 0; i < COUNTER_WORDS; i++)
            words[i] = atomic_load_explicit(&engine->words[i], memory_order_acquire);
        after = atomic_load_explicit(&engine->version, memory_order_relaxed);
    } while (before != after || (before & 1));
    memcpy(counters, words, sizeof *counters);
    /* What lies in the inbox waits too, and a place that is taken is one a router should see. */
    counters->waiting = max_i32(counters->waiting, atomic_load(&engine->places));
}

int32_t engine_max_length(const struct engine *engine, int32_t n)
{
    return request_limits_length(&engine->limits, n);
}

enum status engine_create(const struct scheduler_options *options, struct executor executor,
                          struct clock clock, struct engine **out, struct error *err)
{
    struct engine *engine = must_alloc(sizeof *engine);
    enum status status = scheduler_create(options, executor, clock, &engine->scheduler, err);
    if (status) {
        free(engine);
        return status;
    }
    engine->clock = clock;
    engine->limits = scheduler_limits(engine->scheduler);
    engine->known = scheduler_known_blocks(engine->scheduler);
    engine->idle = true;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_mutex_init(&engine->tick_lock, NULL);
    pthread_cond_init(&engine->wake, NULL);
    pthread_cond_init(&engine->idle_changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    report(engine);
    *out = engine;
    return ST_OK;
}

/* Takes n places or none. */
static bool take_places(struct engine *engine, int32_t n)
{
    int32_t taken = atomic_load(&engine->places);
    do {
        if (taken > engine->limits.max_queue - n) return false;
    } while (!atomic_compare_exchange_weak(&engine->places, &taken, taken + n));
    return true;
}

/* Requests linked by next, in the order they were made. */
struct chain {
    struct request *first, *last;
    int64_t now_us; /* when they were submitted */
};

static void chain_add(struct chain *chain, struct request *request)
{
    if (chain->last)
        chain->last->next = request;
    else
        chain->first = request;
    chain->last = request;
}

static void chain_free(struct chain *chain)
{
    for (struct request *next, *request = chain->first; request; request = next) {
        next = request->next;
        request_free(request);
    }
}

/* Whether the first request of the chain comes in time: it stands before the others, so its token
 * is the first that their client sees. */
static bool is_in_time(const struct engine *engine, const struct request *request, int64_t now_us,
                       struct ttft_verdict *verdict)
{
    const struct request_params *params = &request->params;
    if (!engine->known || !request_awaits_token(params)) return true;
    struct ttft_line line = engine->outlook.line;
    ttft_line_add_all(&line, &engine->delivered);
    ttft_line_add_all(&line, &engine->submitted);
    double us = request_ttft_us(&engine->outlook, &line, params, request->known, now_us);
    return ttft_in_time(us, params->slo.ttft_us, verdict);
}

static void put_in_inbox(struct engine *engine, const struct chain *chain, uint64_t *ids)
{
    for (struct request *request = chain->first; request; request = request->next) {
        if (engine->known) {
            struct ttft_work work = request_work(&request->params, request->known);
            ttft_line_add(&engine->submitted, request->params.priority, &work);
        }
        request->id = *ids++ = ++engine->last_id; /* under the lock: the inbox's order */
    }
    if (engine->inbox.last)
        engine->inbox.last->next = chain->first;
    else
        engine->inbox.first = chain->first;
    engine->inbox.last = chain->last;
    engine->idle = false;
    pthread_cond_signal(&engine->wake);
}

/* Judged and taken at once: what one thread puts in, the next one's requests stand behind. */
static enum status inbox_add(struct engine *engine, const struct chain *chain, uint64_t *ids,
                             struct ttft_verdict *verdict, struct error *err)
{
    enum status status = ST_OK;
    pthread_mutex_lock(&engine->lock);
    if (engine->closed)
        status = ST_CLOSED;
    else if (!is_in_time(engine, chain->first, chain->now_us, verdict))
        status = ST_LATE;
    else
        put_in_inbox(engine, chain, ids);
    pthread_mutex_unlock(&engine->lock);
    if (status == ST_CLOSED) return fail(err, status, "The server is shutting down.");
    return status ? ttft_fail(verdict, err) : ST_OK;
}

/* ST_INVALID, or *places: how many the requests need together. */
static enum status check_all(const struct engine *engine, const struct request_params *params,
                             int32_t count, int32_t *places, struct error *err)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        enum status status = request_check(&engine->limits, &params[i], err);
        if (status) return status;
        sum += params[i].n;
    }
    if (sum > engine->limits.max_queue)
        return fail(err, ST_INVALID, "%lld sequences are asked for; at most %d may wait.",
                    (long long)sum, engine->limits.max_queue);
    *places = (int32_t)sum;
    return ST_OK;
}

/* Of its prompt, what the request before it in the same submission will have computed. */
static int32_t shared_prompt(const struct request_params *params,
                             const struct request_params *before)
{
    int32_t most = min_i32(params->prompt_count, before->prompt_count), at = 0;
    if (params->score_prompt || before->score_prompt) return 0;
    while (at < most && params->prompt[at] == before->prompt[at])
        at++;
    return at / KV_BLOCK_SLOTS * KV_BLOCK_SLOTS;
}

static enum status create_all(const struct engine *engine, const struct request_params *params,
                              int32_t count, struct chain *chain, struct error *err)
{
    for (int32_t i = 0; i < count; i++) {
        struct request *request;
        enum status status =
            request_create(&engine->limits, &params[i], chain->now_us, &request, err);
        if (status) return status;
        if (engine->known) {
            request->known = request_known(engine->known, &engine->limits, &params[i]);
            if (i > 0)
                request->known = max_i32(request->known, shared_prompt(&params[i], &params[i - 1]));
        }
        chain_add(chain, request);
    }
    return ST_OK;
}

enum status engine_submit_all(struct engine *engine, const struct request_params *params,
                              int32_t count, uint64_t *ids, struct ttft_verdict *verdict,
                              struct error *err)
{
    struct chain chain = {.now_us = clock_now(&engine->clock)};
    struct ttft_verdict own;
    int32_t places = 0;
    enum status status = check_all(engine, params, count, &places, err);
    if (status) return status;
    if (!take_places(engine, places))
        return fail(err, ST_FULL, "The queue is full: at most %d sequences may wait.",
                    engine->limits.max_queue);
    status = create_all(engine, params, count, &chain, err);
    if (!status) status = inbox_add(engine, &chain, ids, verdict ? verdict : &own, err);
    if (status) {
        chain_free(&chain);
        atomic_fetch_sub(&engine->places, places);
        return status;
    }
    for (int32_t i = 0; i < count; i++)
        request_make_known(engine->known, &engine->limits, &params[i]);
    return ST_OK;
}

enum status engine_submit(struct engine *engine, const struct request_params *params, uint64_t *id,
                          struct error *err)
{
    return engine_submit_all(engine, params, 1, id, NULL, err);
}

int32_t engine_max_queue(const struct engine *engine)
{
    return engine->limits.max_queue;
}

void engine_cancel(struct engine *engine, uint64_t id)
{
    pthread_mutex_lock(&engine->lock);
    struct inbox *inbox = &engine->inbox;
    if (inbox->cancelled_count == inbox->cancelled_capacity) {
        inbox->cancelled_capacity = max_i32(16, inbox->cancelled_capacity * 2);
        inbox->cancelled = must_realloc(inbox->cancelled, (size_t)inbox->cancelled_capacity *
                                                              sizeof *inbox->cancelled);
    }
    inbox->cancelled[inbox->cancelled_count++] = id;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
}

void engine_after_tick(struct engine *engine, void (*ticked)(void *context), void *context)
{
    pthread_mutex_lock(&engine->tick_lock);
    engine->ticked = ticked;
    engine->ticked_context = context;
    pthread_mutex_unlock(&engine->tick_lock);
}

void engine_before_first(struct engine *engine, bool (*work)(void *context), void *context)
{
    engine->outlook = (struct ttft_outlook){0}; /* nobody is refused for what is only guessed yet */
    engine->work = work;
    engine->work_context = context;
}

void engine_close(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->closed = true;
    pthread_mutex_unlock(&engine->lock);
}

bool engine_wait_idle(struct engine *engine, int64_t timeout_us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout_us % 1000000 * 1000;
    until.tv_sec += timeout_us / 1000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&engine->lock);
    int late = 0;
    while (!engine->idle && late == 0)
        late = pthread_cond_timedwait(&engine->idle_changed, &engine->lock, &until);
    bool idle = engine->idle;
    pthread_mutex_unlock(&engine->lock);
    return idle;
}

static bool inbox_empty(const struct inbox *inbox)
{
    return !inbox->first && inbox->cancelled_count == 0;
}

/* What is to be done before the first request, as long as there is none. */
static void work_before_first(struct engine *engine)
{
    while (engine->work) {
        pthread_mutex_lock(&engine->lock);
        bool go_on = !engine->stop && inbox_empty(&engine->inbox);
        pthread_mutex_unlock(&engine->lock);
        if (!go_on || !engine->work(engine->work_context)) engine->work = NULL;
    }
}

/* Swaps the inbox for the empty one. With nothing else to do (`busy` false) it sleeps until there
 * is something in it. false: the thread shall end. */
static bool take_inbox(struct engine *engine, bool busy)
{
    pthread_mutex_lock(&engine->lock);
    if (!busy && inbox_empty(&engine->inbox)) {
        engine->idle = true;
        pthread_cond_broadcast(&engine->idle_changed);
        while (!engine->stop && inbox_empty(&engine->inbox))
            pthread_cond_wait(&engine->wake, &engine->lock);
    }
    ttft_line_add_all(&engine->delivered, &engine->submitted);
    engine->submitted = (struct ttft_line){0};
    struct inbox full = engine->inbox;
    engine->inbox = engine->taken; /* empty, with the memory of its list of ids */
    engine->taken = full;
    bool stop = engine->stop;
    pthread_mutex_unlock(&engine->lock);
    return !stop;
}

/* Hands what was taken to the scheduler. */
static void deliver(struct engine *engine)
{
    struct inbox *taken = &engine->taken;
    struct request *next;
    for (struct request *request = taken->first; request; request = next) {
        next = request->next;
        engine->places_queued += request->params.n;
        scheduler_enqueue(engine->scheduler, request);
    }
    for (int32_t i = 0; i < taken->cancelled_count; i++)
        scheduler_cancel(engine->scheduler, taken->cancelled[i]);
    taken->first = taken->last = NULL;
    taken->cancelled_count = 0;
}

static void tell_ticked(struct engine *engine)
{
    pthread_mutex_lock(&engine->tick_lock);
    if (engine->ticked) engine->ticked(engine->ticked_context);
    pthread_mutex_unlock(&engine->tick_lock);
}

/* Gives everything accepted its end. The engine is closed, so nothing more comes. */
static void wind_up(struct engine *engine)
{
    deliver(engine); /* taken with the order to stop */
    scheduler_wind_up(engine->scheduler);
    report(engine);
    tell_ticked(engine);
}

static void *run(void *argument)
{
    struct engine *engine = argument;
    bool busy = false;
    work_before_first(engine);
    publish_outlook(engine); /* it may have taught the predictor */
    while (take_inbox(engine, busy)) {
        deliver(engine);
        busy = scheduler_tick(engine->scheduler);
        report(engine);
        tell_ticked(engine); /* who hears of a token finds it in the counters */
    }
    wind_up(engine);
    return NULL;
}

enum status engine_start(struct engine *engine, struct error *err)
{
    int failed = pthread_create(&engine->thread, NULL, run, engine);
    if (failed)
        return fail(err, ST_NO_MEMORY, "cannot start the engine's thread: %s", strerror(failed));
    pthread_setname_np(engine->thread, "engine");
    engine->started = true;
    return ST_OK;
}

void engine_free(struct engine *engine)
{
    if (!engine) return;
    pthread_mutex_lock(&engine->lock);
    engine->closed = engine->stop = true;
    pthread_cond_signal(&engine->wake);
    pthread_mutex_unlock(&engine->lock);
    if (engine->started) {
        pthread_join(engine->thread, NULL);
    } else {
        take_inbox(engine, true);
        wind_up(engine);
    }
    scheduler_free(engine->scheduler);
    pthread_cond_destroy(&engine->idle_changed);
    pthread_cond_destroy(&engine->wake);
    pthread_mutex_destroy(&engine->lock);
    pthread_mutex_destroy(&engine->tick_lock);
    free(engine->inbox.cancelled);
    free(engine->taken.cancelled);
    free(engine);
}
