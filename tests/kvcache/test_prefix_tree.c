/* The prefix tree: what it finds, what it must not find, and who goes first. */
#include "base/base.h"
#include "kvcache/kvcache.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct block_hasher hasher = {1, 2};
static int32_t tokens[8][KV_BLOCK_SLOTS];

static void fill(void)
{
    for (int32_t i = 0; i < 8; i++)
        for (int32_t k = 0; k < KV_BLOCK_SLOTS; k++)
            tokens[i][k] = i * 100 + k;
}

TestSuite(prefix_tree, .init = fill);

static struct block_key root(const char *salt)
{
    return block_key_root(&hasher, salt, strlen(salt));
}

static int32_t insert(struct block_pool *pool, int32_t block, struct block_key *key, int32_t parent,
                      int32_t position, int32_t content)
{
    *key = block_key_next(&hasher, *key, position, tokens[content]);
    return prefix_tree_insert(pool, block, *key, parent, position, tokens[content]);
}

Test(prefix_tree, every_part_of_a_key_counts)
{
    struct block_key a = block_key_next(&hasher, root("a"), 0, tokens[0]);
    struct block_hasher other = {1, 3};
    cr_assert(block_key_equal(a, block_key_next(&hasher, root("a"), 0, tokens[0])));
    cr_assert_not(block_key_equal(a, block_key_next(&hasher, root("b"), 0, tokens[0])));
    cr_assert_not(block_key_equal(a, block_key_next(&hasher, root("a"), 16, tokens[0])));
    cr_assert_not(block_key_equal(a, block_key_next(&hasher, root("a"), 0, tokens[1])));
    cr_assert_not(block_key_equal(a, block_key_next(&other, root("a"), 0, tokens[0])));
    cr_assert_not(block_key_equal(root(""), root("a")));
}

Test(prefix_tree, an_equal_key_is_not_enough)
{
    struct block_pool *pool = block_pool_create(4);
    int32_t block = block_pool_take(pool), second = block_pool_take(pool);
    struct block_key key = root("");
    cr_assert_eq(insert(pool, block, &key, -1, 0, 0), block);
    cr_assert_eq(prefix_tree_find(pool, key, -1, 0, tokens[0]), block);
    cr_assert_eq(prefix_tree_find(pool, key, -1, 0, tokens[1]), -1);
    cr_assert_eq(prefix_tree_find(pool, key, -1, 16, tokens[0]), -1);
    cr_assert_eq(prefix_tree_find(pool, key, second, 0, tokens[0]), -1);
    /* The same content is there already; another content under this key stays outside. */
    cr_assert_eq(prefix_tree_insert(pool, second, key, -1, 0, tokens[0]), block);
    cr_assert_eq(prefix_tree_insert(pool, second, key, -1, 0, tokens[1]), -1);
    cr_assert_not(prefix_tree_holds(pool, second));
    block_pool_drop(pool, second);
    block_pool_drop(pool, block);
    block_pool_check(pool);
    cr_assert_eq(block_pool_counts(pool).cached, 1);
    block_pool_free(pool);
}

Test(prefix_tree, leaves_go_first_the_least_recently_used_first)
{
    struct block_pool *pool = block_pool_create(4);
    int32_t a[4];
    struct block_key key = root("");
    for (int32_t i = 0; i < 4; i++) {
        a[i] = block_pool_take(pool);
        cr_assert_eq(insert(pool, a[i], &key, i ? a[i - 1] : -1, i * 16, i), a[i]);
    }
    for (int32_t i = 3; i >= 0; i--)
        block_pool_drop(pool, a[i]);
    cr_assert_eq(block_pool_available(pool), 4);
    block_pool_share(pool, a[0]); /* somebody reads the beginning again */
    block_pool_check(pool);
    cr_assert_eq(block_pool_take(pool), a[3]);
    cr_assert_eq(block_pool_take(pool), a[2]);
    cr_assert_eq(block_pool_take(pool), a[1]);
    cr_assert_eq(block_pool_take(pool), -1);
    cr_assert_eq(block_pool_counts(pool).evictions, 3);
    block_pool_check(pool);
    block_pool_drop(pool, a[0]);
    prefix_tree_clear(pool);
    cr_assert_eq(block_pool_counts(pool).cached, 0);
    block_pool_check(pool);
    block_pool_free(pool);
}

Test(prefix_tree, the_promise_to_hold_ancestors_is_checked, .signal = SIGABRT)
{
    struct block_pool *pool = block_pool_create(4);
    int32_t parent = block_pool_take(pool), child = block_pool_take(pool);
    struct block_key key = root("");
    insert(pool, parent, &key, -1, 0, 0);
    insert(pool, child, &key, parent, 16, 1);
    block_pool_drop(pool, parent);
    block_pool_check(pool);
}

/* --- against a list of everything that was ever inserted */

enum { BLOCKS = 24, READERS = 6, DEPTH = 6, CONTENTS = 3, STEPS = 10000 };

struct reader {
    int32_t blocks[DEPTH], content[DEPTH], count;
};

static struct block_key key_of(const struct reader *reader, int32_t count)
{
    struct block_key key = root("");
    for (int32_t i = 0; i < count; i++)
        key = block_key_next(&hasher, key, i * 16, tokens[reader->content[i]]);
    return key;
}

/* One block further: found, or taken and inserted. */
static void step_on(struct block_pool *pool, struct reader *reader, int32_t content)
{
    int32_t at = reader->count, parent = at ? reader->blocks[at - 1] : -1;
    reader->content[at] = content;
    struct block_key key = key_of(reader, at + 1);
    int32_t block = prefix_tree_find(pool, key, parent, at * 16, tokens[content]);
    if (block >= 0) {
        block_pool_share(pool, block);
    } else {
        block = block_pool_take(pool);
        if (block < 0) return;
        cr_assert_eq(prefix_tree_insert(pool, block, key, parent, at * 16, tokens[content]), block);
    }
    reader->blocks[reader->count++] = block;
}

static void step_off(struct block_pool *pool, struct reader *reader)
{
    while (reader->count > 0)
        block_pool_drop(pool, reader->blocks[--reader->count]);
}

/* Readers of one content share one block; readers of different content never do. */
static void compare(const struct reader *readers)
{
    for (int32_t a = 0; a < READERS; a++)
        for (int32_t b = 0; b < a; b++)
            for (int32_t i = 0; i < min_i32(readers[a].count, readers[b].count); i++) {
                bool same = memcmp(readers[a].content, readers[b].content,
                                   (size_t)(i + 1) * sizeof readers[a].content[0]) == 0;
                cr_assert_eq(same, readers[a].blocks[i] == readers[b].blocks[i]);
            }
}

Test(prefix_tree, ten_thousand_random_steps)
{
    struct rng rng = {11};
    struct block_pool *pool = block_pool_create(BLOCKS);
    struct reader readers[READERS] = {0};
    for (int32_t i = 0; i < STEPS; i++) {
        struct reader *reader = &readers[rng_below(&rng, READERS)];
        if (reader->count == DEPTH || rng_below(&rng, 5) == 0)
            step_off(pool, reader);
        else
            step_on(pool, reader, (int32_t)rng_below(&rng, CONTENTS));
        block_pool_check(pool);
        compare(readers);
    }
    for (int32_t i = 0; i < READERS; i++)
        step_off(pool, &readers[i]);
    cr_assert_eq(block_pool_counts(pool).held, 0);
    cr_assert_gt(block_pool_counts(pool).evictions, 100);
    block_pool_check(pool);
    block_pool_free(pool);
}
