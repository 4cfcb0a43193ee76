/* Nodes are found through a chained hash table over block numbers; the low half of a key is as good
 * an index as any of its bits. */
#include "kvcache/prefix_tree.h"
#include "base/base.h"
#include "kvcache/pool_private.h"

#include <stdlib.h>
#include <string.h>

bool tree_init(struct prefix_tree *tree, int32_t total)
{
    size_t buckets = 16;
    while (buckets < (size_t)total)
        buckets *= 2;
    tree->mask = buckets - 1;
    tree->oldest = tree->newest = -1;
    tree->nodes = try_alloc((size_t)total, sizeof *tree->nodes);
    tree->buckets = try_alloc(buckets, sizeof *tree->buckets);
    if (!tree->nodes || !tree->buckets) return false;
    for (size_t i = 0; i < buckets; i++)
        tree->buckets[i] = -1;
    return true;
}

void tree_release(struct prefix_tree *tree)
{
    free(tree->nodes);
    free(tree->buckets);
}

static int32_t *bucket_of(const struct prefix_tree *tree, struct block_key key)
{
    return &tree->buckets[key.low & tree->mask];
}

/* The node of this key, whatever it holds; -1. */
static int32_t node_of(const struct prefix_tree *tree, struct block_key key)
{
    int32_t at = *bucket_of(tree, key);
    while (at >= 0 && !block_key_equal(tree->nodes[at].key, key))
        at = tree->nodes[at].chain;
    return at;
}

static bool same_content(const struct prefix_node *node, int32_t parent, int32_t first_position,
                         const int32_t *tokens)
{
    return node->parent == parent && node->first_position == first_position &&
           memcmp(node->tokens, tokens, sizeof node->tokens) == 0;
}

int32_t prefix_tree_find(const struct block_pool *pool, struct block_key key, int32_t parent,
                         int32_t first_position, const int32_t *tokens)
{
    int32_t at = node_of(&pool->tree, key);
    if (at < 0 || !same_content(&pool->tree.nodes[at], parent, first_position, tokens)) return -1;
    return at;
}

int32_t prefix_tree_insert(struct block_pool *pool, int32_t block, struct block_key key,
                           int32_t parent, int32_t first_position, const int32_t *tokens)
{
    struct prefix_tree *tree = &pool->tree;
    struct prefix_node *node = &tree->nodes[block];
    invariant(block_pool_holders(pool, block) > 0 && !node->used,
              "block %d enters the tree with %d holders, %s", block,
              block_pool_holders(pool, block), node->used ? "a second time" : "for the first time");
    invariant(parent < 0 || tree->nodes[parent].used, "block %d's parent %d is no node", block,
              parent);
    int32_t there = node_of(tree, key);
    if (there >= 0)
        return same_content(&tree->nodes[there], parent, first_position, tokens) ? there : -1;
    int32_t *bucket = bucket_of(tree, key);
    *node = (struct prefix_node){.key = key,
                                 .parent = parent,
                                 .first_position = first_position,
                                 .chain = *bucket,
                                 .older = -1,
                                 .newer = -1,
                                 .used = true};
    memcpy(node->tokens, tokens, sizeof node->tokens);
    *bucket = block;
    if (parent >= 0) tree->nodes[parent].children++;
    return block;
}

bool prefix_tree_holds(const struct block_pool *pool, int32_t block)
{
    return pool->tree.nodes[block].used;
}

void prefix_tree_clear(struct block_pool *pool)
{
    while (pool->tree.oldest >= 0)
        block_pool_evict(pool);
}

void tree_forget(struct prefix_tree *tree, int32_t block)
{
    struct prefix_node *node = &tree->nodes[block];
    int32_t *link = bucket_of(tree, node->key);
    while (*link != block)
        link = &tree->nodes[*link].chain;
    *link = node->chain;
    if (node->parent >= 0) tree->nodes[node->parent].children--;
    node->used = false;
}

/* --- the line of cached nodes, the least recently used first */

void line_append(struct prefix_tree *tree, int32_t block)
{
    struct prefix_node *node = &tree->nodes[block];
    node->older = tree->newest;
    node->newer = -1;
    if (tree->newest >= 0)
        tree->nodes[tree->newest].newer = block;
    else
        tree->oldest = block;
    tree->newest = block;
}

void line_remove(struct prefix_tree *tree, int32_t block)
{
    struct prefix_node *node = &tree->nodes[block];
    if (node->older >= 0)
        tree->nodes[node->older].newer = node->newer;
    else
        tree->oldest = node->newer;
    if (node->newer >= 0)
        tree->nodes[node->newer].older = node->older;
    else
        tree->newest = node->older;
}

/* --- every promise as code */

static void check_node(const struct block_pool *pool, int32_t block, int32_t *children)
{
    const struct prefix_tree *tree = &pool->tree;
    const struct prefix_node *node = &tree->nodes[block];
    invariant(node_of(tree, node->key) == block, "node %d is not found by its key", block);
    if (node->parent < 0) return;
    invariant(tree->nodes[node->parent].used, "node %d's parent %d is no node", block,
              node->parent);
    invariant(pool->holders[block] == 0 || pool->holders[node->parent] > 0,
              "node %d is held, its parent %d is not", block, node->parent);
    children[node->parent]++;
}

/* Returns how many stand in the line. */
static int32_t check_line(const struct block_pool *pool)
{
    const struct prefix_tree *tree = &pool->tree;
    int32_t *place = must_alloc((size_t)pool->total * sizeof *place);
    int32_t count = 0, before = -1;
    for (int32_t at = tree->oldest; at >= 0; before = at, at = tree->nodes[at].newer) {
        invariant(tree->nodes[at].used && pool->holders[at] == 0 && tree->nodes[at].older == before,
                  "block %d stands in the line: node %d, %d holders, after %d not %d", at,
                  tree->nodes[at].used, pool->holders[at], tree->nodes[at].older, before);
        place[at] = ++count;
    }
    invariant(tree->newest == before, "the line ends with %d, not %d", before, tree->newest);
    for (int32_t at = tree->oldest; at >= 0; at = tree->nodes[at].newer) {
        int32_t parent = tree->nodes[at].parent;
        invariant(parent < 0 || place[parent] == 0 || place[parent] > place[at],
                  "block %d stands behind its parent %d", at, parent);
    }
    free(place);
    return count;
}

int32_t tree_check(const struct block_pool *pool)
{
    int32_t *children = must_alloc((size_t)pool->total * sizeof *children);
    for (int32_t block = 0; block < pool->total; block++)
        if (pool->tree.nodes[block].used) check_node(pool, block, children);
    for (int32_t block = 0; block < pool->total; block++)
        invariant(!pool->tree.nodes[block].used ||
                      pool->tree.nodes[block].children == children[block],
                  "node %d has %d children, %d are counted", block, children[block],
                  pool->tree.nodes[block].children);
    free(children);
    return check_line(pool);
}
