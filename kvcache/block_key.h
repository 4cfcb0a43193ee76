/* The name of a KV block's content: everything its slots attend to, and their tokens.
 *
 * The KV of a token depends on all tokens before it and their positions, so a block's key is a hash
 * over its parent's key, the position of its first slot and its tokens; the first block's parent is
 * the root of its salt. Two blocks of one key hold the same numbers.
 */
#ifndef KVCACHE_BLOCK_KEY_H
#define KVCACHE_BLOCK_KEY_H

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

static inline bool block_key_equal(struct block_key a, struct block_key b)
{
    return a.low == b.low && a.high == b.high;
}

#endif
