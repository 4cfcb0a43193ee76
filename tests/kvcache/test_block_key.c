/* Keys name everything a block attends to: whatever differs, the keys differ. */
#include "base/base.h"
#include "kvcache/block_key.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

static const struct block_hasher hasher = {1, 2};
static const int32_t tokens[KV_BLOCK_SLOTS] = {5, 6, 7, 8};

static struct block_key root(void)
{
    return block_key_root(&hasher, "", 0);
}

Test(block_key, salts_and_secrets_make_different_roots)
{
    struct block_hasher other = {1, 3};
    cr_assert(block_key_equal(root(), block_key_root(&hasher, NULL, 0)));
    cr_assert_not(block_key_equal(root(), block_key_root(&hasher, "a", 1)));
    cr_assert_not(block_key_equal(root(), block_key_root(&hasher, "", 1)), "a salt of one zero");
    cr_assert_not(block_key_equal(root(), block_key_root(&other, "", 0)));
}

/* Each token by itself: none is left out of the hash. */
Test(block_key, every_token_counts)
{
    struct block_key plain = block_key_next(&hasher, root(), 0, tokens);
    for (int i = 0; i < KV_BLOCK_SLOTS; i++) {
        int32_t changed[KV_BLOCK_SLOTS];
        memcpy(changed, tokens, sizeof changed);
        changed[i] ^= 1 << 20;
        cr_expect_not(block_key_equal(plain, block_key_next(&hasher, root(), 0, changed)));
    }
}

/* A salt made of the very bytes that another kind of key is hashed from gives no such key. */
Test(block_key, kinds_share_no_key)
{
    struct block_key parent = block_key_next(&hasher, root(), 0, tokens);
    struct block_joiner joiner;
    block_joiner_begin(&joiner, &hasher, parent);
    struct block_key joined = block_joiner_end(&joiner);
    struct block_key branch = block_key_branch(&hasher, parent);
    struct block_key salted = block_key_root(&hasher, (const char *)&parent, sizeof parent);
    struct block_key all[] = {root(), parent, joined, branch, salted};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        for (size_t k = 0; k < i; k++)
            cr_expect_not(block_key_equal(all[i], all[k]), "%zu and %zu", i, k);
    cr_assert_not(block_key_equal(block_key_next(&hasher, parent, 16, tokens),
                                  block_key_next(&hasher, branch, 16, tokens)));
}

/* --- joins */

struct part {
    struct block_key last;
    int32_t tail[KV_BLOCK_SLOTS];
    int32_t tail_count, first_slot, length;
};

static struct block_key join(struct block_key prefix, const struct part *parts, int count)
{
    struct block_joiner joiner;
    block_joiner_begin(&joiner, &hasher, prefix);
    for (int i = 0; i < count; i++)
        block_joiner_add(&joiner, parts[i].last, parts[i].tail, parts[i].tail_count,
                         parts[i].first_slot, parts[i].length);
    return block_joiner_end(&joiner);
}

Test(block_joiner, everything_that_is_joined_counts)
{
    struct block_key prefix = block_key_next(&hasher, root(), 0, tokens);
    struct block_key branch = block_key_branch(&hasher, prefix);
    struct block_key first = block_key_next(&hasher, branch, 16, tokens);
    const struct part plain[2] = {{first, {1, 2}, 2, 3, 15}, {branch, {3}, 1, 0, 1}};
    struct block_key key = join(prefix, plain, 2);
    cr_assert(block_key_equal(key, join(prefix, plain, 2)));
    struct part changed[8][3];
    for (int i = 0; i < 8; i++)
        memcpy(changed[i], plain, sizeof plain);
    changed[0][0].last = branch;
    changed[1][0].tail[1] = 9;
    changed[2][0].tail_count = 1;
    changed[3][0].first_slot = 4;
    changed[4][0].length = 14;
    changed[5][1].tail[0] = 9;
    changed[6][0] = plain[1]; /* the other order */
    changed[6][1] = plain[0];
    changed[7][2] = (struct part){.last = branch}; /* an empty branch more */
    for (int i = 0; i < 8; i++)
        cr_expect_not(block_key_equal(key, join(prefix, changed[i], i == 7 ? 3 : 2)), "change %d",
                      i);
    cr_expect_not(block_key_equal(key, join(prefix, plain, 1)));
    cr_expect_not(block_key_equal(key, join(branch, plain, 2)));
    cr_expect_not(block_key_equal(join(prefix, plain, 0), prefix));
}

/* Tokens that read like another branch's counts are still tokens. */
Test(block_joiner, a_tail_is_no_branch)
{
    struct block_key key = {7, 8};
    struct part two[2] = {{.last = key}, {.last = key}};
    struct part one = {.last = key, .tail = {7, 0, 8, 0, 0, 0, 0}, .tail_count = 7};
    cr_assert_not(block_key_equal(join(key, two, 2), join(key, &one, 1)));
}

Test(block_joiner, a_complete_block_is_no_tail, .signal = SIGABRT)
{
    struct block_joiner joiner;
    block_joiner_begin(&joiner, &hasher, root());
    block_joiner_add(&joiner, root(), tokens, KV_BLOCK_SLOTS, 0, KV_BLOCK_SLOTS);
}
