/* The inside of a pool and its tree, shared by block_pool.c and prefix_tree.c. */
#ifndef KVCACHE_POOL_PRIVATE_H
#define KVCACHE_POOL_PRIVATE_H

#include "kvcache/block_key.h"
#include "kvcache/block_pool.h"

struct prefix_node {
    struct block_key key;
    int32_t tokens[KV_BLOCK_SLOTS];
    int32_t parent; /* a node, or -1: its parent is a root */
    int32_t first_position;
    int32_t children;
    int32_t chain;        /* the next node of its bucket, -1 */
    int32_t older, newer; /* its neighbours in the line while cached, -1 */
    bool used;
};

struct prefix_tree {
    struct prefix_node *nodes; /* [total] by block number */
    int32_t *buckets;          /* [mask + 1] */
    size_t mask;
    int32_t oldest, newest; /* the line of cached nodes */
};

struct block_pool {
    int32_t total;
    int32_t free_count;
    int32_t held_count;   /* kept by the arrows, not as total - free: else the law could not fail */
    int32_t cached_count; /* likewise */
    int32_t *free_stack;  /* [total], the first free_count are free blocks; the top is taken next */
    int32_t *holders;     /* [total] */
    int64_t evictions;
    int64_t fail_countdown;
    struct prefix_tree tree;
};

/* prefix_tree.c */
bool tree_init(struct prefix_tree *tree, int32_t total); /* false: release it all the same */
void tree_release(struct prefix_tree *tree);
void tree_forget(struct prefix_tree *tree, int32_t block);
void line_append(struct prefix_tree *tree, int32_t block);
void line_remove(struct prefix_tree *tree, int32_t block);
int32_t tree_check(const struct block_pool *pool); /* how many are cached */

/* block_pool.c: the least recently used cached block becomes free. */
void block_pool_evict(struct block_pool *pool);

#endif
