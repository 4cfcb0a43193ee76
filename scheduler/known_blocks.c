#include "scheduler/known_blocks.h"

#include "base/base.h"

#include <stdatomic.h>
#include <stdlib.h>

#define PLACES_PER_BLOCK 4 /* so that few names fall into one place */

struct known_blocks {
    size_t mask;
    _Atomic uint64_t names[]; /* [mask + 1] half of a key, at the place that its other half says; 0:
                                 none (a key of that half is never known) */
};

struct known_blocks *known_blocks_create(int32_t blocks)
{
    size_t places = 64;
    while (places < PLACES_PER_BLOCK * (size_t)blocks)
        places *= 2;
    struct known_blocks *known =
        try_alloc(1, sizeof *known + places * sizeof known->names[0]); /* zeroed */
    if (known) known->mask = places - 1;
    return known;
}

void known_blocks_free(struct known_blocks *known)
{
    free(known);
}

void known_blocks_add(struct known_blocks *known, struct block_key key)
{
    atomic_store_explicit(&known->names[key.high & known->mask], key.low, memory_order_relaxed);
}

static bool holds(const struct known_blocks *known, struct block_key key)
{
    const _Atomic uint64_t *name = &known->names[key.high & known->mask];
    return key.low != 0 && atomic_load_explicit(name, memory_order_relaxed) == key.low;
}

/* Who holds a block held those before it: the last one that is found speaks for them, whose names
 * may be forgotten. */
int32_t known_blocks_find(const struct known_blocks *known, const struct block_hasher *hasher,
                          struct block_key root, const int32_t *tokens, int32_t count)
{
    struct block_key key = root;
    int32_t found = 0;
    for (int32_t at = 0; at + KV_BLOCK_SLOTS <= count; at += KV_BLOCK_SLOTS) {
        key = block_key_next(hasher, key, at, tokens + at);
        if (holds(known, key)) found = at + KV_BLOCK_SLOTS;
    }
    return found;
}

void known_blocks_add_prompt(struct known_blocks *known, const struct block_hasher *hasher,
                             struct block_key root, const int32_t *tokens, int32_t count)
{
    struct block_key key = root;
    for (int32_t at = 0; at + KV_BLOCK_SLOTS <= count; at += KV_BLOCK_SLOTS) {
        key = block_key_next(hasher, key, at, tokens + at);
        known_blocks_add(known, key);
    }
}
