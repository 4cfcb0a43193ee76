/* A team of threads that runs one function and meets at the end.
 *
 * A run is a word that moves: `generation` counts the runs. A member that sees it change reads fn
 * and argument, which lie on its cache line and were written before, works, and writes the
 * generation to its own `done`; the caller reads those one by one. No line is written by two
 * threads and no atomic read-modify-write stands on the way: on virtual machines a line takes 100
 * ns and more from core to core.
 *
 * Waiting is spinning first, because the stages of a model's step follow each other within
 * microseconds and a futex wake costs ten of them; then a futex sleep, so that an idle server costs
 * nothing. A member announces its sleep in `sleepers` before it looks at the generation a last
 * time. The caller looks at `sleepers` twice: right after it moved the generation, which finds
 * whoever has been asleep, and by a read-modify-write before it waits for long, for the end or in a
 * meeting: either that comes behind a member's announcement and finds it, or before, and then the
 * member sees the generation. The first look may miss one: the generation's store waits behind all
 * stores before it, which after a product may be many that no cache has.
 * The other way round, `caller_waits` and `done` are Dekker's pattern, sequentially consistent. */
#include "base/thread_pool.h"

#include "base/alloc.h"
#include "base/status.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Turns of the spin loop before parking: about 40 us on Zen 4 (a pause is some 17 ns there). With
 * more members than cores, spinning would only take the core from the member that is waited for. */
#define SPIN_TURNS         2500
#define SPIN_TURNS_CROWDED 20

/* Each on its own cache lines. */
struct member {
    _Alignas(64) struct thread_pool *pool;
    int index;
    pthread_t thread;
    _Alignas(64) _Atomic uint32_t done; /* the last generation it has finished */
};

struct thread_pool {
    int members;
    int spin_turns;
    struct member *team; /* [members], team[0] is the caller and has no thread */
    /* What the caller writes and the members poll. */
    _Alignas(64) _Atomic uint32_t generation;
    bool stopping;
    thread_pool_fn fn;
    void *argument;
    /* Written by who sleeps. */
    _Alignas(64) _Atomic int32_t sleepers;
    _Atomic int32_t caller_waits;
    /* Members that have come to a meeting, all meetings together. */
    _Alignas(64) _Atomic uint64_t arrived;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Waits until the generation is no longer `seen`; returns the new one. */
static uint32_t await_run(struct thread_pool *pool, uint32_t seen)
{
    for (int turn = 0; turn < pool->spin_turns; turn++) {
        uint32_t now = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (now != seen) return now;
        cpu_relax();
    }
    atomic_fetch_add(&pool->sleepers, 1);
    uint32_t now;
    while ((now = atomic_load(&pool->generation)) == seen)
        futex_wait(&pool->generation, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
    return now;
}

static void *member_main(void *argument)
{
    struct member *self = argument;
    struct thread_pool *pool = self->pool;
    uint32_t seen = 0;
    for (;;) {
        seen = await_run(pool, seen);
        if (pool->stopping) return NULL;
        pool->fn(pool->argument, self->index, pool->members);
        atomic_store(&self->done, seen);
        if (atomic_load(&pool->caller_waits)) futex_wake_all(&self->done);
    }
}

static int online_cores(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? (int)cores : 1;
}

/* What the members read must be written before the generation moves: that store publishes it.
 * Whether members were woken. */
static bool publish_run(struct thread_pool *pool)
{
    uint32_t next = atomic_load_explicit(&pool->generation, memory_order_relaxed) + 1;
    atomic_store_explicit(&pool->generation, next, memory_order_release);
    bool asleep = atomic_load_explicit(&pool->sleepers, memory_order_relaxed) > 0;
    if (asleep) futex_wake_all(&pool->generation);
    return asleep;
}

/* Members that fell asleep while the generation moved. */
static void wake_late_sleepers(struct thread_pool *pool)
{
    if (atomic_fetch_add(&pool->sleepers, 0) > 0) futex_wake_all(&pool->generation);
}

void thread_pool_free(struct thread_pool *pool)
{
    if (!pool) return;
    pool->stopping = true;
    publish_run(pool);
    wake_late_sleepers(pool);
    for (int i = 1; i < pool->members; i++)
        pthread_join(pool->team[i].thread, NULL);
    free(pool->team);
    free(pool);
}

enum status thread_pool_create(int threads, struct thread_pool **out, struct error *err)
{
    int cores = online_cores();
    invariant(threads >= 0, "a pool of %d threads", threads);
    struct thread_pool *pool = must_alloc_aligned(64, sizeof *pool);
    int members = threads ? threads : cores;
    pool->spin_turns = members > cores ? SPIN_TURNS_CROWDED : SPIN_TURNS;
    pool->team = must_alloc_aligned(64, (size_t)members * sizeof *pool->team);
    for (pool->members = 1; pool->members < members; pool->members++) {
        struct member *member = &pool->team[pool->members];
        *member = (struct member){.pool = pool, .index = pool->members};
        int failed = pthread_create(&member->thread, NULL, member_main, member);
        if (!failed) {
            pthread_setname_np(member->thread, "compute");
            continue;
        }
        fail(err, ST_NO_MEMORY, "cannot start thread %d of %d: %s; give fewer --threads",
             pool->members + 1, members, strerror(failed));
        thread_pool_free(pool);
        return ST_NO_MEMORY;
    }
    *out = pool;
    return ST_OK;
}

int thread_pool_size(const struct thread_pool *pool)
{
    return pool->members;
}

static bool is_done(const struct member *member, uint32_t generation)
{
    return atomic_load_explicit(&member->done, memory_order_acquire) == generation;
}

static bool all_done(const struct thread_pool *pool, uint32_t generation)
{
    for (int i = 1; i < pool->members; i++)
        if (!is_done(&pool->team[i], generation)) return false;
    return true;
}

static void sleep_until_done(struct thread_pool *pool, uint32_t generation)
{
    atomic_store(&pool->caller_waits, 1);
    for (int i = 1; i < pool->members; i++) {
        uint32_t now;
        while ((now = atomic_load(&pool->team[i].done)) != generation)
            futex_wait(&pool->team[i].done, now);
    }
    atomic_store(&pool->caller_waits, 0);
}

static void await_members(struct thread_pool *pool, bool woken)
{
    uint32_t generation = atomic_load_explicit(&pool->generation, memory_order_relaxed);
    if (all_done(pool, generation)) return;
    if (!woken) wake_late_sleepers(pool);
    for (int turn = 0; turn < pool->spin_turns; turn++) {
        if (all_done(pool, generation)) return;
        cpu_relax();
    }
    sleep_until_done(pool, generation);
}

void thread_pool_run(struct thread_pool *pool, thread_pool_fn fn, void *argument)
{
    if (pool->members == 1) {
        fn(argument, 0, 1);
        return;
    }
    pool->fn = fn;
    pool->argument = argument;
    bool woken = publish_run(pool);
    fn(argument, 0, pool->members);
    await_members(pool, woken);
}

void thread_pool_meet(struct thread_pool *pool)
{
    uint64_t members = (uint64_t)pool->members, before = atomic_fetch_add(&pool->arrived, 1);
    uint64_t all = before - before % members + members;
    for (int turn = 0; atomic_load_explicit(&pool->arrived, memory_order_acquire) < all; turn++) {
        if (turn < pool->spin_turns) {
            cpu_relax();
            continue;
        }
        if (turn == pool->spin_turns) wake_late_sleepers(pool);
        sched_yield(); /* whoever is missing may be waiting for this core */
    }
}

struct range_job {
    thread_pool_range_fn fn;
    void *argument;
    int64_t count, grain;
    _Atomic int64_t next;
};

static void run_ranges(void *argument, int member, int members)
{
    (void)members;
    struct range_job *job = argument;
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&job->next, job->grain, memory_order_relaxed);
        if (begin >= job->count) return;
        int64_t left = job->count - begin;
        job->fn(job->argument, begin, begin + (left < job->grain ? left : job->grain), member);
    }
}

void thread_pool_for(struct thread_pool *pool, int64_t count, int64_t grain,
                     thread_pool_range_fn fn, void *argument)
{
    invariant(grain > 0, "pieces of %lld", (long long)grain);
    if (count <= 0) return;
    struct range_job job = {.fn = fn, .argument = argument, .count = count, .grain = grain};
    if (count <= grain || pool->members == 1)
        run_ranges(&job, 0, 1);
    else
        thread_pool_run(pool, run_ranges, &job);
}
