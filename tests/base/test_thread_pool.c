/* The team of threads: every member runs every run once, awake or asleep, and the runs do not mix.
 */
#include "base/base.h"
#include "base/thread_pool.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 8 };

struct counting {
    _Alignas(
        64) int64_t runs[MOST][8]; /* by member, a cache line each; no atomics: a race is a bug */
    int slow;                      /* the member that takes its time; -1: none */
    long nanoseconds;
};

static void pause_for(long nanoseconds)
{
    struct timespec time = {0, nanoseconds};
    nanosleep(&time, NULL);
}

static void count_run(void *argument, int member, int members)
{
    struct counting *job = argument;
    cr_assert(lt(int, member, members));
    if (member == job->slow) pause_for(job->nanoseconds);
    job->runs[member][0]++;
}

static void expect_runs(const struct counting *job, int members, int64_t runs)
{
    for (int m = 0; m < members; m++)
        cr_assert(eq(i64, job->runs[m][0], runs), "member %d of %d", m, members);
}

Test(thread_pool, every_member_runs_every_run)
{
    struct error err;
    for (int members = 1; members <= MOST; members += members < 3 ? 1 : 5) {
        struct thread_pool *pool;
        struct counting job = {.slow = -1};
        cr_assert(eq(int, thread_pool_create(members, &pool, &err), ST_OK));
        cr_assert(eq(int, thread_pool_size(pool), members));
        for (int run = 1; run <= 500; run++) {
            thread_pool_run(pool, count_run, &job);
            expect_runs(&job, members, run);
        }
        thread_pool_free(pool);
    }
}

/* Members park between runs, the caller parks during one, and all wake again. */
Test(thread_pool, sleepers_wake)
{
    struct error err;
    struct thread_pool *pool;
    struct counting job = {.slow = -1, .nanoseconds = 2000000};
    cr_assert(eq(int, thread_pool_create(3, &pool, &err), ST_OK));
    for (int run = 1; run <= 60; run++) {
        job.slow = run % 4 - 1;
        thread_pool_run(pool, count_run, &job);
        expect_runs(&job, 3, run);
        if (run % 3 == 0) pause_for(2000000);
        /* about when they go to sleep: the generation moves while they do */
        if (run % 3 == 1) pause_for(20000 + run * 1000);
    }
    thread_pool_free(pool);
}

static void add_range(void *argument, int64_t begin, int64_t end, int member)
{
    struct counting *job = argument;
    for (int64_t i = begin; i < end; i++)
        job->runs[member][0] += i;
}

Test(thread_pool, ranges_cover_everything_once)
{
    struct error err;
    struct thread_pool *pool;
    cr_assert(eq(int, thread_pool_create(4, &pool, &err), ST_OK));
    for (int64_t count = 0; count < 300; count += 7)
        for (int64_t grain = 1; grain < 40; grain += 13) {
            struct counting job = {.slow = -1};
            int64_t sum = 0;
            thread_pool_for(pool, count, grain, add_range, &job);
            for (int m = 0; m < 4; m++)
                sum += job.runs[m][0];
            cr_assert(eq(i64, sum, count * (count - 1) / 2));
        }
    thread_pool_free(pool);
}

struct meeting {
    struct thread_pool *pool;
    int64_t written[MOST]; /* by its member before a meeting, read by all behind it */
    int slow;
    int64_t wrong;
};

static void meet_often(void *argument, int member, int members)
{
    struct meeting *job = argument;
    for (int64_t round = 1; round <= 50; round++) {
        if (member == job->slow && round % 16 == 0) pause_for(300000);
        job->written[member] = round;
        thread_pool_meet(job->pool);
        for (int m = 0; m < members; m++)
            if (job->written[m] != round) __atomic_fetch_add(&job->wrong, 1, __ATOMIC_RELAXED);
        thread_pool_meet(job->pool);
    }
}

Test(thread_pool, members_meet)
{
    struct error err;
    for (int members = 1; members <= 5; members++) {
        struct meeting job = {0};
        cr_assert(eq(int, thread_pool_create(members, &job.pool, &err), ST_OK));
        for (job.slow = -1; job.slow < members; job.slow++)
            thread_pool_run(job.pool, meet_often, &job);
        cr_expect(eq(i64, job.wrong, 0), "%d members", members);
        thread_pool_free(job.pool);
    }
}

static void meet_once(void *argument, int member, int members)
{
    (void)member;
    (void)members;
    thread_pool_meet(argument);
}

/* About when the other goes to sleep the generation moves, and its store waits behind others that
 * miss every cache (volatile, or they would be left out). Whoever just fell asleep must be woken
 * for the meeting, which the caller does not leave without it. A rare moment: with a pool that
 * forgets it one try of six stood still. */
Test(thread_pool, a_member_that_just_fell_asleep_meets, .timeout = 60)
{
    enum { LINES = 1 << 20, COLD_STORES = 60, RUNS = 8000 };
    struct clock clock = clock_monotonic();
    struct rng rng = {7};
    struct error err;
    struct thread_pool *pool;
    volatile char *memory = must_alloc((size_t)LINES * 64);
    memset((char *)memory, 1, (size_t)LINES * 64);
    cr_assert(eq(int, thread_pool_create(2, &pool, &err), ST_OK));
    for (int run = 0; run < RUNS; run++) {
        int64_t start = clock_now(&clock);
        while (clock_now(&clock) - start < 30 + run % 100) { /* us */
        }
        for (int i = 0; i < COLD_STORES; i++)
            memory[rng_below(&rng, LINES) * 64] = (char)i;
        thread_pool_run(pool, meet_once, pool);
    }
    thread_pool_free(pool);
    free((char *)memory);
}
