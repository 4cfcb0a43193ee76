#include "traces/workload/prefix_reuse.h"
#include "base/base.h"

#include <stdlib.h>

/* A prefix block behind all that is in front of it, as a hash of both; 0: none. */
struct prefix_entry {
    uint64_t chain;
    int64_t tokens; /* most that a prompt took of it */
};

static struct prefix_entry *find(struct prefix_entry *entries, size_t capacity, uint64_t chain)
{
    size_t i = chain & (capacity - 1);
    while (entries[i].chain && entries[i].chain != chain)
        i = (i + 1) & (capacity - 1);
    return &entries[i];
}

static void grow(struct prefix_reuse *reuse)
{
    size_t capacity = reuse->capacity ? 2 * reuse->capacity : 1024;
    struct prefix_entry *entries = must_alloc(capacity * sizeof *entries);
    for (size_t i = 0; i < reuse->capacity; i++)
        if (reuse->entries[i].chain)
            *find(entries, capacity, reuse->entries[i].chain) = reuse->entries[i];
    free(reuse->entries);
    reuse->entries = entries;
    reuse->capacity = capacity;
}

/* The entry, made where there is none; NULL: there is no room for it. */
static struct prefix_entry *entry_for(struct prefix_reuse *reuse, uint64_t chain)
{
    if (reuse->count * 4 >= reuse->capacity * 3 && reuse->capacity < PREFIX_REUSE_MAX) grow(reuse);
    struct prefix_entry *entry = find(reuse->entries, reuse->capacity, chain);
    if (entry->chain) return entry;
    reuse->full = reuse->full || reuse->count * 4 >= PREFIX_REUSE_MAX * 3;
    if (reuse->full) return NULL;
    entry->chain = chain;
    reuse->count++;
    return entry;
}

/* Two prompts agree in a block as far as both took of it, and behind it only where both took
 * equally much. */
int64_t prefix_reuse_add(struct prefix_reuse *reuse, const struct trace_request *request)
{
    uint64_t front = 1;
    int64_t shared = 0;
    bool same = true;
    for (int32_t i = 0; i < request->prefix_count; i++) {
        const struct trace_prefix *block = &request->prefixes[i];
        uint64_t chain = mix64(front + mix64(block->id + 0x9e3779b97f4a7c15u)) | 1;
        struct prefix_entry *entry = entry_for(reuse, chain);
        if (!entry) break;
        int64_t known = entry->tokens < block->tokens ? entry->tokens : block->tokens;
        if (same) shared += known;
        same = same && known == block->tokens;
        if (entry->tokens < block->tokens) entry->tokens = block->tokens;
        front = mix64(chain + (uint64_t)block->tokens * 0x9e3779b97f4a7c15u);
    }
    return shared;
}

void prefix_reuse_release(struct prefix_reuse *reuse)
{
    free(reuse->entries);
    *reuse = (struct prefix_reuse){0};
}
