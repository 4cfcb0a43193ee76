#include "kvcache/block_key.h"
#include "base/base.h"

/* The first word of what is hashed, so that no key of one kind is ever one of another. Everything a
 * block's key is made of is a multiple of 8 bytes: siphash_add is several times faster then. */
enum key_kind { KEY_ROOT = 1, KEY_BLOCK = 2, KEY_BRANCH = 3, KEY_JOIN = 4 };

static void begin(struct siphash *h, const struct block_hasher *hasher, enum key_kind kind)
{
    uint64_t word = (uint64_t)kind;
    siphash_begin(h, hasher->k0, hasher->k1);
    siphash_add(h, &word, sizeof word);
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
    int64_t position = first_position;
    begin(&h, hasher, KEY_BLOCK);
    siphash_add(&h, &parent, sizeof parent);
    siphash_add(&h, &position, sizeof position);
    siphash_add(&h, tokens, KV_BLOCK_SLOTS * sizeof tokens[0]);
    siphash_end(&h, &key.low, &key.high);
    return key;
}

struct block_key block_key_branch(const struct block_hasher *hasher, struct block_key parent)
{
    struct siphash h;
    struct block_key key;
    begin(&h, hasher, KEY_BRANCH);
    siphash_add(&h, &parent, sizeof parent);
    siphash_end(&h, &key.low, &key.high);
    return key;
}

void block_joiner_begin(struct block_joiner *joiner, const struct block_hasher *hasher,
                        struct block_key parent)
{
    begin(&joiner->hash, hasher, KEY_JOIN);
    siphash_add(&joiner->hash, &parent, sizeof parent);
}

/* The counts stand before the tail, so that no two lists of branches are the same bytes. */
void block_joiner_add(struct block_joiner *joiner, struct block_key last, const int32_t *tail,
                      int32_t tail_count, int32_t first_slot, int32_t length)
{
    invariant(tail_count >= 0 && tail_count < KV_BLOCK_SLOTS, "a tail of %d tokens", tail_count);
    invariant(first_slot >= 0 && first_slot < KV_BLOCK_SLOTS && length >= 0,
              "a branch of %d slots from slot %d on", length, first_slot);
    int32_t counts[3] = {tail_count, first_slot, length};
    siphash_add(&joiner->hash, &last, sizeof last);
    siphash_add(&joiner->hash, counts, sizeof counts);
    siphash_add(&joiner->hash, tail, (size_t)tail_count * sizeof tail[0]);
}

struct block_key block_joiner_end(struct block_joiner *joiner)
{
    struct block_key key;
    siphash_end(&joiner->hash, &key.low, &key.high);
    return key;
}
