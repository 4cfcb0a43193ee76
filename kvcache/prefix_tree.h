/* The prefix tree: which blocks hold what, so that a later sequence finds what an earlier one
 * computed. A node is a complete block of the pool; a node's parent is the block before it.
 *
 *     root of a salt --> block of tokens 0..15 --> block of tokens 16..31 --> ...
 *                                            \--> another continuation
 *
 * The tree lives in the pool (block_pool.h has the life of a block): a node that somebody holds is
 * in state held, one that nobody holds is cached and may be evicted, leaves first, the least
 * recently used first. All memory is taken with the pool: a node for each block, by its number.
 *
 * The promise of those who insert: whoever holds a node holds its ancestors too, and gives blocks
 * back deepest first. So a cached node's children are cached, and stand before it in the line.
 */
#ifndef KVCACHE_PREFIX_TREE_H
#define KVCACHE_PREFIX_TREE_H

#include "kvcache/block_key.h"
#include "kvcache/block_pool.h"

/* The block of this key, or -1. A hit is more than an equal hash: the tokens, the position and the
 * parent (-1: a root) are compared. The caller takes a hold (block_pool_share) if it wants it. */
int32_t prefix_tree_find(const struct block_pool *pool, struct block_key key, int32_t parent,
                         int32_t first_position, const int32_t *tokens);

/* Makes `block`, held and complete, the node of this key. Returns `block`; or the block that is
 * this node already, and `block` stays outside the tree. (Or -1 where another content has the
 * key, which takes a collision of 128 bits: `block` stays outside.) `parent` is -1 or a node. */
int32_t prefix_tree_insert(struct block_pool *pool, int32_t block, struct block_key key,
                           int32_t parent, int32_t first_position, const int32_t *tokens);

/* Whether `block` is a node. */
bool prefix_tree_holds(const struct block_pool *pool, int32_t block);

/* Forgets every cached block. For tests and benchmarks. */
void prefix_tree_clear(struct block_pool *pool);

#endif
