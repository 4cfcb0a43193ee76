#include "base/base.h"
#include "kvcache/kvcache.h"

#include <criterion/criterion.h>

Test(block_table, slots_to_blocks_at_the_edges)
{
    static const int32_t table[][2] = {
        {0, 0},  {1, 1},  {15, 1}, {16, 1},
        {17, 2}, {32, 2}, {33, 3}, {INT32_MAX, INT32_MAX / KV_BLOCK_SLOTS + 1}};
    for (size_t i = 0; i < COUNT_OF(table); i++)
        cr_expect_eq(blocks_for_slots(table[i][0]), table[i][1], "%d slots", table[i][0]);
}

Test(block_table, grows_by_what_is_missing_and_never_moves)
{
    struct block_pool *pool = block_pool_create(8);
    struct block_table table;
    cr_assert(block_table_init(&table, 80));
    const int32_t *place = table.blocks;
    cr_assert_eq(block_table_missing(&table, 33), 3);
    cr_assert(block_table_grow(&table, pool, 33));
    cr_assert_eq(table.count, 3);
    cr_assert(block_table_grow(&table, pool, 48)); /* still inside the third */
    cr_assert_eq(table.count, 3);
    cr_assert(block_table_grow(&table, pool, 5)); /* never shrinks */
    cr_assert_eq(table.count, 3);
    cr_assert(block_table_grow(&table, pool, 80));
    cr_assert_eq(table.count, 5);
    cr_assert_eq(table.blocks, place);
    block_table_clear(&table, pool);
    cr_assert_eq(block_pool_available(pool), 8);
    block_table_free_memory(&table);
    block_pool_check(pool);
    block_pool_free(pool);
}

Test(block_table, a_span_is_the_first_slots_in_order)
{
    struct block_pool *pool = block_pool_create(8);
    struct block_table table;
    int32_t other = block_pool_take(pool);
    cr_assert(block_table_init(&table, 64));
    cr_assert(block_table_grow(&table, pool, 16));
    int32_t between = block_pool_take(pool);
    cr_assert(block_table_grow(&table, pool, 40));
    struct kv_span span = block_table_span(&table, 37);
    cr_assert_eq(span.length, 37);
    cr_assert_eq(span.first_slot, 0);
    cr_assert_eq(span.first_position, 0);
    cr_assert_eq(span.blocks[0], 1);
    cr_assert_eq(span.blocks[1], 3); /* 2 went to somebody else between */
    cr_assert_eq(span.blocks[2], 4);
    block_table_clear(&table, pool);
    block_pool_drop(pool, between);
    block_pool_drop(pool, other);
    block_table_free_memory(&table);
    block_pool_check(pool);
    block_pool_free(pool);
}

Test(block_table, takes_everything_or_nothing)
{
    struct block_pool *pool = block_pool_create(4);
    struct block_table table;
    cr_assert(block_table_init(&table, 160));
    cr_assert(block_table_grow(&table, pool, 16));
    cr_assert_not(block_table_grow(&table, pool, 81)); /* six blocks of four */
    cr_assert_eq(table.count, 1);
    cr_assert_eq(block_pool_available(pool), 3);
    block_table_clear(&table, pool);
    block_table_free_memory(&table);
    block_pool_check(pool);
    block_pool_free(pool);
}

/* The n-th request for a block fails, for every n until the growth succeeds. */
Test(block_table, fault_ladder)
{
    struct block_pool *pool = block_pool_create(8);
    struct block_table table;
    cr_assert(block_table_init(&table, 128));
    cr_assert(block_table_grow(&table, pool, 20));
    int failures = 0;
    for (;;) {
        block_pool_fail_after(pool, ++failures);
        bool grown = block_table_grow(&table, pool, 100);
        block_pool_check(pool);
        if (grown) break;
        cr_assert_eq(table.count, 2);
        cr_assert_eq(block_pool_available(pool), 6);
    }
    block_pool_fail_after(pool, 0);
    cr_assert_eq(failures, 6); /* five blocks were missing */
    cr_assert_eq(table.count, 7);
    block_table_clear(&table, pool);
    block_table_free_memory(&table);
    block_pool_check(pool);
    block_pool_free(pool);
}
