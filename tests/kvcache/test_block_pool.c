#include "base/base.h"
#include "kvcache/kvcache.h"

#include <criterion/criterion.h>
#include <signal.h>

/* The law and every state, after every test. */
static void close_pool(struct block_pool *pool)
{
    block_pool_check(pool);
    cr_assert(block_pool_conserves(pool));
    block_pool_free(pool);
}

static void expect_counts(const struct block_pool *pool, int32_t free, int32_t held)
{
    struct block_counts counts = block_pool_counts(pool);
    cr_expect_eq(counts.free, free, "%d free", counts.free);
    cr_expect_eq(counts.held, held, "%d held", counts.held);
    cr_expect_eq(counts.free + counts.held + counts.cached, counts.total);
}

Test(block_pool, hands_out_each_block_once_and_then_none)
{
    struct block_pool *pool = block_pool_create(5);
    for (int32_t i = 0; i < 5; i++)
        cr_assert_eq(block_pool_take(pool), i);
    expect_counts(pool, 0, 5);
    cr_assert_eq(block_pool_take(pool), -1);
    close_pool(pool);
}

Test(block_pool, gives_the_latest_block_back_first)
{
    struct block_pool *pool = block_pool_create(4);
    for (int i = 0; i < 3; i++)
        block_pool_take(pool);
    block_pool_drop(pool, 0);
    block_pool_drop(pool, 2);
    cr_assert_eq(block_pool_take(pool), 2);
    cr_assert_eq(block_pool_take(pool), 0);
    cr_assert_eq(block_pool_take(pool), 3);
    close_pool(pool);
}

Test(block_pool, a_block_lives_until_its_last_holder_drops_it)
{
    struct block_pool *pool = block_pool_create(2);
    int32_t block = block_pool_take(pool);
    block_pool_share(pool, block);
    block_pool_share(pool, block);
    cr_assert_eq(block_pool_holders(pool, block), 3);
    block_pool_drop(pool, block);
    block_pool_drop(pool, block);
    expect_counts(pool, 1, 1);
    block_pool_drop(pool, block);
    cr_assert_eq(block_pool_holders(pool, block), 0);
    expect_counts(pool, 2, 0);
    close_pool(pool);
}

Test(block_pool, dropping_a_free_block_stops_the_process, .signal = SIGABRT)
{
    struct block_pool *pool = block_pool_create(2);
    block_pool_drop(pool, block_pool_take(pool));
    block_pool_drop(pool, 0);
}

Test(block_pool, sharing_a_free_block_stops_the_process, .signal = SIGABRT)
{
    block_pool_share(block_pool_create(2), 1);
}

Test(block_pool, a_block_out_of_range_stops_the_process, .signal = SIGABRT)
{
    block_pool_drop(block_pool_create(2), 2);
}

Test(block_pool, cannot_be_had_without_memory)
{
    int failures = 0;
    struct block_pool *pool;
    do {
        alloc_fail_after(++failures);
        pool = block_pool_create(8);
        cr_assert_lt(failures, 10);
    } while (!pool);
    alloc_fail_after(0);
    cr_assert_eq(failures, 6); /* five allocations, then success */
    close_pool(pool);
}

Test(block_pool, ten_thousand_random_arrows_keep_the_law)
{
    enum { BLOCKS = 24 };
    struct block_pool *pool = block_pool_create(BLOCKS);
    struct rng rng = {42};
    int32_t holders[BLOCKS] = {0}, held = 0;
    for (int i = 0; i < 10000; i++) {
        int32_t block = (int32_t)rng_below(&rng, BLOCKS);
        switch (rng_below(&rng, 3)) {
        case 0:
            block = block_pool_take(pool);
            cr_assert_eq(block < 0, held == BLOCKS);
            if (block < 0) break;
            cr_assert_eq(holders[block]++, 0);
            held++;
            break;
        case 1:
            if (!holders[block]) break;
            block_pool_share(pool, block);
            holders[block]++;
            break;
        case 2:
            if (!holders[block]) break;
            block_pool_drop(pool, block);
            held -= --holders[block] == 0;
            break;
        }
        block_pool_check(pool);
        expect_counts(pool, BLOCKS - held, held);
        cr_assert_eq(block_pool_available(pool), BLOCKS - held);
    }
    close_pool(pool);
}
