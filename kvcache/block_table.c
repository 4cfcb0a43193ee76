#include "kvcache/block_table.h"
#include "base/base.h"

#include <stdlib.h>

bool block_table_init(struct block_table *table, int32_t slots)
{
    *table = (struct block_table){.capacity = blocks_for_slots(slots)};
    table->blocks = try_alloc((size_t)table->capacity, sizeof *table->blocks);
    return table->blocks != NULL;
}

void block_table_free_memory(struct block_table *table)
{
    invariant(table->count == 0, "a table goes with %d blocks in it", table->count);
    free(table->blocks);
    *table = (struct block_table){0};
}

int32_t block_table_missing(const struct block_table *table, int32_t slots)
{
    int32_t need = blocks_for_slots(slots);
    invariant(need <= table->capacity, "%d blocks in a table of %d", need, table->capacity);
    return max_i32(need - table->count, 0);
}

bool block_table_grow(struct block_table *table, struct block_pool *pool, int32_t slots)
{
    int32_t missing = block_table_missing(table, slots);
    if (missing > block_pool_available(pool)) return false;
    for (int32_t taken = 0; taken < missing; taken++) {
        int32_t block = block_pool_take(pool);
        if (block < 0) {
            while (taken-- > 0)
                block_pool_drop(pool, table->blocks[--table->count]);
            return false;
        }
        table->blocks[table->count++] = block;
    }
    return true;
}

void block_table_append(struct block_table *table, int32_t block)
{
    invariant(table->count < table->capacity, "a table of %d blocks is full", table->capacity);
    table->blocks[table->count++] = block;
}

void block_table_clear(struct block_table *table, struct block_pool *pool)
{
    while (table->count > 0)
        block_pool_drop(pool, table->blocks[--table->count]);
}
