/* The name of a KV block's content: everything its slots attend to, and their tokens.
 *
 * The KV of a token depends on all tokens before it and their positions, so a block's key is a hash
 * over its parent's key, the position of its first slot and its tokens; the first block's parent is
 * the root of its salt. Two blocks of one key hold the same numbers.
 *
 * The four kinds of key share no value: a root, a block, the beginning of a branch and what follows
 * a join are hashed under different first words. What stands behind a join sees a context
 * that no flat prompt has; its keys, and those of the branches before it, descend from a joiner and
 * block_key_branch, so a flat prompt of the same tokens never finds their blocks.
 */
#ifndef KVCACHE_BLOCK_KEY_H
#define KVCACHE_BLOCK_KEY_H

#include "base/siphash.h"
#include "kvcache/view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_key {
    uint64_t low, high;
};

/* The secret of the hash: random where strangers choose tokens, fixed in tests. */
struct block_hasher {
    uint64_t k0, k1;
};

/* What has the same salt may share blocks. length 0: no salt. */
struct block_key block_key_root(const struct block_hasher *hasher, const char *salt, size_t length);

struct block_key block_key_next(const struct block_hasher *hasher, struct block_key parent,
                                int32_t first_position, const int32_t tokens[KV_BLOCK_SLOTS]);

/* What the branches of a stage (other than n > 1, which are flat prompts) descend from; `parent`:
 * the last complete block of what they forked from, or its root. */
struct block_key block_key_branch(const struct block_hasher *hasher, struct block_key parent);

/* The key behind a join. `parent` as of the branches; then every branch in order, an empty one too;
 * then end, once. */
struct block_joiner {
    struct siphash hash;
};
void block_joiner_begin(struct block_joiner *joiner, const struct block_hasher *hasher,
                        struct block_key parent);
/* `last`: the branch's last complete block, or what it descends from when it has none; `tail`: the
 * tokens of its last block when that is incomplete, copied ones included (tail_count < 16). It is
 * seen from `first_slot` of its first block on, `length` slots. */
void block_joiner_add(struct block_joiner *joiner, struct block_key last, const int32_t *tail,
                      int32_t tail_count, int32_t first_slot, int32_t length);
struct block_key block_joiner_end(struct block_joiner *joiner);

static inline bool block_key_equal(struct block_key a, struct block_key b)
{
    return a.low == b.low && a.high == b.high;
}

#endif
