/* The pool of KV blocks: `total` of them, KV_BLOCK_SLOTS token slots each, made once and known by
 * number.
 *
 * A block's life.
 *   free     nobody may read or write it; it lies once on the free list; it has no holders.
 *   held     one or more holders (block tables of sequences): all of them may read it; the one
 *            holder may write it as long as it is no node of the prefix tree.
 *   cached   a node of the prefix tree (prefix_tree.h), without a holder: still readable, and the
 *            next to go, the least recently used first, when no block is free.
 *   evicted  forgotten by the tree, and free again: an arrow, not a place.
 *
 *        take             share, drop            drop (the last one)
 *   free ----> held (1) <-----------> held (n)      held ----> free, or cached if it is a node
 *                                                 cached ----> held by share
 *                                                 cached ----> free by take, when none is free
 *
 * The conservation law: free + held + cached = total, at every moment. block_pool_check is this
 * comment as code.
 *
 * The free list is a stack: the block given back last is taken first, because its slots may still
 * be warm, and because the same calls then always give the same numbers. A new pool hands out 0, 1,
 * 2, ...
 */
#ifndef KVCACHE_BLOCK_POOL_H
#define KVCACHE_BLOCK_POOL_H

#include "kvcache/view.h"

#include <stdbool.h>
#include <stdint.h>

struct block_pool;

/* How many blocks are in which state; the sum is `total`. */
struct block_counts {
    int32_t total, free, held, cached;
    int64_t evictions; /* so far */
};

/* `total` >= 1. NULL when the memory cannot be had. Caller frees with block_pool_free. */
struct block_pool *block_pool_create(int32_t total);
/* Whoever still holds a block must not use it again. */
void block_pool_free(struct block_pool *pool);

/* A free block, or one that is evicted for it: held by the caller alone. -1: all are held. */
int32_t block_pool_take(struct block_pool *pool);

/* One more holder of a held block, or the first of a cached one. */
void block_pool_share(struct block_pool *pool, int32_t block);

/* One holder fewer; after the last one the block is cached if the tree knows it, else free. */
void block_pool_drop(struct block_pool *pool, int32_t block);

int32_t block_pool_holders(const struct block_pool *pool, int32_t block); /* 0: free or cached */
int32_t block_pool_available(const struct block_pool *pool); /* takes that would succeed now */
struct block_counts block_pool_counts(const struct block_pool *pool);

/* The conservation law. */
bool block_pool_conserves(const struct block_pool *pool);

/* Dies unless every block is in one state of its life and the law holds. Walks the whole pool. */
void block_pool_check(const struct block_pool *pool);

/* Test hook: the n-th take from now fails once (1 is the next); 0 switches it off. */
void block_pool_fail_after(struct block_pool *pool, int64_t n);

#endif
