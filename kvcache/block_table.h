/* The blocks one sequence holds, in the order of its context, and its span over them.
 *
 * The table has room for its sequence's worst case from the start and never moves, so that a view
 * in a step that is still being computed stays valid while later blocks are appended.
 */
#ifndef KVCACHE_BLOCK_TABLE_H
#define KVCACHE_BLOCK_TABLE_H

#include "base/status.h"
#include "kvcache/block_pool.h"

struct block_table {
    int32_t *blocks; /* [capacity], the first `count` are held */
    int32_t count;
    int32_t capacity;
};

/* Blocks that `slots` token slots fill. */
static inline int32_t blocks_for_slots(int32_t slots)
{
    return slots / KV_BLOCK_SLOTS + (slots % KV_BLOCK_SLOTS != 0);
}

/* An empty table with room for `slots` token slots; false when the memory cannot be had. */
bool block_table_init(struct block_table *table, int32_t slots);
void block_table_free_memory(struct block_table *table); /* the table must be empty */

/* Blocks to take before the table covers `slots` token slots; 0 when it does. */
int32_t block_table_missing(const struct block_table *table, int32_t slots);

/* Takes what is missing for `slots`, all of it or (false) nothing. */
bool block_table_grow(struct block_table *table, struct block_pool *pool, int32_t slots);

/* Appends a block that the caller holds. */
void block_table_append(struct block_table *table, int32_t block);

/* Gives every block back, the last one first. */
void block_table_clear(struct block_table *table, struct block_pool *pool);

/* The first `length` slots at positions 0, 1, ...: what a sequence without branches attends to.
 * View of the table. */
static inline struct kv_span block_table_span(const struct block_table *table, int32_t length)
{
    invariant(length >= 1 && blocks_for_slots(length) <= table->count,
              "a span of %d slots over %d blocks", length, table->count);
    return (struct kv_span){.blocks = table->blocks, .length = length};
}

#endif
