#include "kvcache/block_key.h"
#include "base/siphash.h"

/* The first byte of what is hashed, so that no root is ever a block. */
enum key_kind { KEY_ROOT = 1, KEY_BLOCK = 2 };

static void begin(struct siphash *h, const struct block_hasher *hasher, enum key_kind kind)
{
    unsigned char byte = (unsigned char)kind;
    siphash_begin(h, hasher->k0, hasher->k1);
    siphash_add(h, &byte, 1);
}

struct block_key block_key_root(const struct block_hasher *hasher, const char *salt, size_t length)
{
    struct siphash h;
    struct block_key key;
    begin(&h, hasher, KEY_ROOT);
    siphash_add(&h, salt, length);
    siphash_end(&h, &key.low, &key.high);
    return key;
}

struct block_key block_key_next(const struct block_hasher *hasher, struct block_key parent,
                                int32_t first_position, const int32_t tokens[KV_BLOCK_SLOTS])
{
    struct siphash h;
    struct block_key key;
    begin(&h, hasher, KEY_BLOCK);
    siphash_add(&h, &parent, sizeof parent);
    siphash_add(&h, &first_position, sizeof first_position);
    siphash_add(&h, tokens, KV_BLOCK_SLOTS * sizeof tokens[0]);
    siphash_end(&h, &key.low, &key.high);
    return key;
}
