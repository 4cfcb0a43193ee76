#include "model/bpe.h"
#include "base/base.h"

#include <stdlib.h>

#define NO_RANK UINT32_MAX
#define NO_PAIR UINT64_MAX /* no ids: both halves would be -1 */

struct bpe {
    struct bpe_merge *merges; /* by rank */
    struct pair_slot {
        uint64_t pair;
        uint32_t rank;
    } * slots; /* open-addressed: pair of ids -> rank */
    uint64_t mask;
};

struct bpe_symbol {
    int32_t id;         /* -1: merged into its left neighbour */
    int32_t prev, next; /* -1: none */
};

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static struct pair_slot *locate(const struct bpe *bpe, uint64_t pair)
{
    for (uint64_t at = mix64(pair) & bpe->mask;; at = (at + 1) & bpe->mask)
        if (bpe->slots[at].pair == pair || bpe->slots[at].pair == NO_PAIR) return &bpe->slots[at];
}

static uint32_t rank_of(const struct bpe *bpe, int32_t left, int32_t right)
{
    return locate(bpe, pair_of(left, right))->rank;
}

struct bpe *bpe_create(const struct bpe_merge *merges, int32_t count)
{
    struct bpe *bpe = try_alloc(1, sizeof *bpe);
    if (!bpe) return NULL;
    uint64_t slots = 16;
    while (slots < (uint64_t)count * 2)
        slots *= 2;
    bpe->mask = slots - 1;
    bpe->merges = try_alloc((size_t)count, sizeof *bpe->merges);
    bpe->slots = try_alloc(slots, sizeof *bpe->slots);
    if (!bpe->merges || !bpe->slots) {
        bpe_free(bpe);
        return NULL;
    }
    for (uint64_t i = 0; i < slots; i++)
        bpe->slots[i] = (struct pair_slot){NO_PAIR, NO_RANK};
    for (int32_t i = 0; i < count; i++) {
        uint64_t pair = pair_of(merges[i].left, merges[i].right);
        bpe->merges[i] = merges[i];
        *locate(bpe, pair) = (struct pair_slot){pair, (uint32_t)i};
    }
    return bpe;
}

void bpe_free(struct bpe *bpe)
{
    if (!bpe) return;
    free(bpe->merges);
    free(bpe->slots);
    free(bpe);
}

void bpe_scratch_release(struct bpe_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (struct bpe_scratch){0};
}

/* n symbols make n-1 pairs at the start, and each of at most n-1 merges adds two: the heap never
 * holds more than 3n entries. */
static bool reserve(struct bpe_scratch *scratch, size_t count)
{
    if (count > scratch->symbol_capacity) {
        struct bpe_symbol *symbols = try_realloc(scratch->symbols, count, sizeof *symbols);
        if (!symbols) return false;
        scratch->symbols = symbols;
        scratch->symbol_capacity = count;
    }
    if (count * 3 > scratch->heap_capacity) {
        uint64_t *heap = try_realloc(scratch->heap, count * 3, sizeof *heap);
        if (!heap) return false;
        scratch->heap = heap;
        scratch->heap_capacity = count * 3;
    }
    return true;
}

/* --- a binary heap of keys rank << 32 | position, smallest first */

static void heap_push(uint64_t *heap, size_t *count, uint64_t key)
{
    size_t at = (*count)++;
    while (at > 0 && heap[(at - 1) / 2] > key) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *count)
{
    uint64_t top = heap[0], moved = heap[--*count];
    size_t at = 0;
    for (size_t child = 1; child < *count; child = 2 * at + 1) {
        if (child + 1 < *count && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= moved) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
    return top;
}

static void push_pair(const struct bpe *bpe, struct bpe_scratch *scratch, size_t *heaped,
                      int32_t left)
{
    const struct bpe_symbol *symbols = scratch->symbols;
    if (left < 0 || symbols[left].next < 0) return;
    uint32_t rank = rank_of(bpe, symbols[left].id, symbols[symbols[left].next].id);
    if (rank != NO_RANK) heap_push(scratch->heap, heaped, (uint64_t)rank << 32 | (uint32_t)left);
}

/* Whether the pair that was queued as `rank` at `at` still stands there. */
static bool still_there(const struct bpe *bpe, const struct bpe_symbol *symbols, uint32_t rank,
                        int32_t at)
{
    int32_t right = symbols[at].next;
    return symbols[at].id == bpe->merges[rank].left && right >= 0 &&
           symbols[right].id == bpe->merges[rank].right;
}

bool bpe_apply(const struct bpe *bpe, struct bpe_scratch *scratch, int32_t *ids, size_t *count)
{
    if (*count < 2) return true;
    if (!reserve(scratch, *count)) return false;
    struct bpe_symbol *symbols = scratch->symbols;
    int32_t n = (int32_t)*count;
    for (int32_t i = 0; i < n; i++)
        symbols[i] = (struct bpe_symbol){ids[i], i - 1, i + 1 < n ? i + 1 : -1};
    size_t heaped = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        push_pair(bpe, scratch, &heaped, i);
    while (heaped > 0) {
        uint64_t key = heap_pop(scratch->heap, &heaped);
        uint32_t rank = (uint32_t)(key >> 32);
        int32_t at = (int32_t)(uint32_t)key;
        if (!still_there(bpe, symbols, rank, at)) continue;
        int32_t gone = symbols[at].next;
        symbols[at].id = bpe->merges[rank].result;
        symbols[at].next = symbols[gone].next;
        if (symbols[gone].next >= 0) symbols[symbols[gone].next].prev = at;
        symbols[gone] = (struct bpe_symbol){-1, -1, -1};
        push_pair(bpe, scratch, &heaped, symbols[at].prev);
        push_pair(bpe, scratch, &heaped, at);
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = symbols[i].next)
        ids[kept++] = symbols[i].id;
    *count = kept;
    return true;
}
