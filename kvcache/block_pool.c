#include "kvcache/block_pool.h"
#include "base/base.h"
#include "kvcache/pool_private.h"

#include <stdlib.h>

struct block_pool *block_pool_create(int32_t total)
{
    invariant(total >= 1, "a pool of %d blocks", total);
    struct block_pool *pool = try_alloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->free_stack = try_alloc((size_t)total, sizeof *pool->free_stack);
    pool->holders = try_alloc((size_t)total, sizeof *pool->holders);
    if (!tree_init(&pool->tree, total) || !pool->free_stack || !pool->holders) {
        block_pool_free(pool);
        return NULL;
    }
    pool->total = pool->free_count = total;
    for (int32_t i = 0; i < total; i++)
        pool->free_stack[i] = total - 1 - i;
    return pool;
}

void block_pool_free(struct block_pool *pool)
{
    if (!pool) return;
    tree_release(&pool->tree);
    free(pool->holders);
    free(pool->free_stack);
    free(pool);
}

static void make_free(struct block_pool *pool, int32_t block)
{
    invariant(pool->free_count < pool->total, "block %d is freed into a full free list", block);
    pool->free_stack[pool->free_count++] = block;
}

void block_pool_evict(struct block_pool *pool)
{
    int32_t block = pool->tree.oldest;
    invariant(pool->tree.nodes[block].children == 0, "block %d goes before its %d children", block,
              pool->tree.nodes[block].children);
    line_remove(&pool->tree, block);
    tree_forget(&pool->tree, block);
    pool->cached_count--;
    pool->evictions++;
    make_free(pool, block);
}

int32_t block_pool_take(struct block_pool *pool)
{
    if (pool->fail_countdown > 0 && --pool->fail_countdown == 0) return -1;
    if (pool->free_count == 0 && pool->cached_count > 0) block_pool_evict(pool);
    if (pool->free_count == 0) return -1;
    int32_t block = pool->free_stack[--pool->free_count];
    invariant(pool->holders[block] == 0, "block %d is on the free list with %d holders", block,
              pool->holders[block]);
    pool->holders[block] = 1;
    pool->held_count++;
    return block;
}

static void require(const struct block_pool *pool, int32_t block)
{
    invariant(block >= 0 && block < pool->total, "block %d of a pool of %d", block, pool->total);
    invariant(pool->holders[block] > 0 || pool->tree.nodes[block].used, "block %d is not held",
              block);
}

void block_pool_share(struct block_pool *pool, int32_t block)
{
    require(pool, block);
    invariant(pool->holders[block] < INT32_MAX, "block %d has too many holders", block);
    if (pool->holders[block]++ > 0) return;
    line_remove(&pool->tree, block);
    pool->cached_count--;
    pool->held_count++;
}

void block_pool_drop(struct block_pool *pool, int32_t block)
{
    require(pool, block);
    invariant(pool->holders[block] > 0, "block %d is cached, nobody holds it", block);
    if (--pool->holders[block] > 0) return;
    pool->held_count--;
    if (!pool->tree.nodes[block].used) {
        make_free(pool, block);
        return;
    }
    line_append(&pool->tree, block);
    pool->cached_count++;
}

int32_t block_pool_holders(const struct block_pool *pool, int32_t block)
{
    invariant(block >= 0 && block < pool->total, "block %d of a pool of %d", block, pool->total);
    return pool->holders[block];
}

int32_t block_pool_available(const struct block_pool *pool)
{
    return pool->free_count + pool->cached_count;
}

struct block_counts block_pool_counts(const struct block_pool *pool)
{
    return (struct block_counts){.total = pool->total,
                                 .free = pool->free_count,
                                 .held = pool->held_count,
                                 .cached = pool->cached_count,
                                 .evictions = pool->evictions};
}

bool block_pool_conserves(const struct block_pool *pool)
{
    struct block_counts counts = block_pool_counts(pool);
    return counts.free + counts.held + counts.cached == counts.total;
}

void block_pool_check(const struct block_pool *pool)
{
    invariant(pool->free_count >= 0 && pool->free_count <= pool->total, "%d of %d blocks free",
              pool->free_count, pool->total);
    unsigned char *listed = must_alloc((size_t)pool->total);
    for (int32_t i = 0; i < pool->free_count; i++) {
        int32_t block = pool->free_stack[i];
        invariant(block >= 0 && block < pool->total, "block %d of a pool of %d is on the free list",
                  block, pool->total);
        invariant(!listed[block], "block %d is twice on the free list", block);
        listed[block] = 1;
    }
    int32_t held = 0;
    for (int32_t block = 0; block < pool->total; block++) {
        int32_t holders = pool->holders[block];
        held += holders > 0;
        invariant(holders >= 0, "block %d has %d holders", block, holders);
        bool in_use = holders > 0 || pool->tree.nodes[block].used;
        invariant(listed[block] != in_use, "block %d: %d holders, %s and %s the free list", block,
                  holders, pool->tree.nodes[block].used ? "a node" : "no node",
                  listed[block] ? "on" : "not on");
    }
    free(listed);
    struct block_counts counts = block_pool_counts(pool);
    invariant(held == counts.held, "%d blocks have holders, %d are counted", held, counts.held);
    int32_t cached = tree_check(pool);
    invariant(cached == counts.cached, "%d blocks are cached, %d are counted", cached,
              counts.cached);
    invariant(block_pool_conserves(pool), "free %d + held %d + cached %d is not total %d",
              counts.free, counts.held, counts.cached, counts.total);
}

void block_pool_fail_after(struct block_pool *pool, int64_t n)
{
    pool->fail_countdown = n;
}
