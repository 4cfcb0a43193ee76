#include "model/token_table.h"
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

/* Eight bytes at a time; the tail is read as one zero-padded word. */
static uint32_t hash_bytes(const char *key, size_t length)
{
    uint64_t hash = length * 0x9e3779b97f4a7c15u, word;
    for (; length >= 8; key += 8, length -= 8) {
        memcpy(&word, key, 8);
        hash = mix64(hash ^ word);
    }
    word = 0;
    memcpy(&word, key, length);
    return (uint32_t)mix64(hash ^ word);
}

bool token_table_init(struct token_table *table, size_t count)
{
    size_t slots = 16;
    while (slots < count * 2) /* at most half full: short chains */
        slots *= 2;
    invariant(slots <= UINT32_MAX, "a token table of %zu keys", count);
    *table = (struct token_table){try_alloc(slots, sizeof *table->slots), (uint32_t)(slots - 1)};
    return table->slots != NULL;
}

void token_table_release(struct token_table *table)
{
    free(table->slots);
    *table = (struct token_table){0};
}

/* The slot that holds the key, or the empty one where it would go. */
static struct token_slot *locate(const struct token_table *table, const char *key, size_t length,
                                 uint32_t hash)
{
    for (uint32_t at = hash & table->mask;; at = (at + 1) & table->mask) {
        struct token_slot *slot = &table->slots[at];
        if (!slot->key) return slot;
        if (slot->hash == hash && slot->length == length && !memcmp(slot->key, key, length))
            return slot;
    }
}

bool token_table_add(struct token_table *table, const char *key, size_t length, int32_t id)
{
    uint32_t hash = hash_bytes(key, length);
    struct token_slot *slot = locate(table, key, length, hash);
    if (slot->key) return false;
    *slot = (struct token_slot){key, (uint32_t)length, hash, id};
    return true;
}

int32_t token_table_find(const struct token_table *table, const char *key, size_t length)
{
    const struct token_slot *slot = locate(table, key, length, hash_bytes(key, length));
    return slot->key ? slot->id : -1;
}
