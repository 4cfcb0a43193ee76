#include "traces/workload/prefix_reuse.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>

/* A prefix block behind all that is in front of it, as a hash of both; 0: none. */
struct prefix_entry {
    uint64_t chain;
    int64_t tokens; /* most that a prompt took of it */
};

/* Whether a block is one of those that stand for all: by the upper bits, the lower ones choose the
 * place. */
static bool is_kept(const struct prefix_reuse *reuse, uint64_t chain)
{
    return reuse->halvings == 0 || chain >> (64 - reuse->halvings) == 0;
}

static struct prefix_entry *find(const struct prefix_reuse *reuse, uint64_t chain)
{
    size_t i = chain & (reuse->capacity - 1);
    while (reuse->entries[i].chain && reuse->entries[i].chain != chain)
        i = (i + 1) & (reuse->capacity - 1);
    return &reuse->entries[i];
}

/* A table twice as large, or where that is too large, half of the entries. */
static void make_room(struct prefix_reuse *reuse)
{
    struct prefix_entry *old = reuse->entries;
    size_t places = reuse->capacity;
    if (places < PREFIX_REUSE_PLACES)
        reuse->capacity = places ? 2 * places : 1024;
    else
        reuse->halvings++;
    reuse->entries = must_alloc(reuse->capacity * sizeof *reuse->entries);
    reuse->count = 0;
    for (size_t i = 0; i < places; i++) {
        if (!old[i].chain || !is_kept(reuse, old[i].chain)) continue;
        *find(reuse, old[i].chain) = old[i];
        reuse->count++;
    }
    free(old);
}

/* What an earlier prompt had of this block, behind the same beginning. */
static int64_t known_tokens(struct prefix_reuse *reuse, uint64_t chain, int64_t tokens)
{
    if (!is_kept(reuse, chain)) return 0;
    if (reuse->count * 4 >= reuse->capacity * 3) make_room(reuse);
    if (!is_kept(reuse, chain)) return 0;
    struct prefix_entry *entry = find(reuse, chain);
    int64_t known = entry->tokens < tokens ? entry->tokens : tokens;
    if (!entry->chain) reuse->count++;
    entry->chain = chain;
    if (entry->tokens < tokens) entry->tokens = tokens;
    return known;
}

/* Two prompts agree in a block as far as both took of it, and behind it only where both took
 * equally much: so what was taken is a part of the hash of what follows. */
double prefix_reuse_add(struct prefix_reuse *reuse, const struct trace_request *request)
{
    uint64_t front = 1;
    double shared = 0;
    for (int32_t i = 0; i < request->prefix_count; i++) {
        const struct trace_prefix *block = &request->prefixes[i];
        uint64_t chain = mix64(front + mix64(block->id + 0x9e3779b97f4a7c15u)) | 1;
        double known = (double)known_tokens(reuse, chain, block->tokens);
        shared += ldexp(known, reuse->halvings);
        front = mix64(chain + (uint64_t)block->tokens * 0x9e3779b97f4a7c15u);
    }
    return shared;
}

void prefix_reuse_release(struct prefix_reuse *reuse)
{
    free(reuse->entries);
    *reuse = (struct prefix_reuse){0};
}
