/* What a branch attends to: a list of spans over blocks of KV_BLOCK_SLOTS token slots.
 *
 * A span is (blocks, first slot, length, first position): `length` slots starting at slot
 * `first_slot` of blocks[0] and running through the blocks in order; the first of them holds the
 * token at position `first_position`, the next the position after, and so on. A request without
 * branches has one span. After a join the view is the prefix's span followed by each branch's, so
 * context slots (the sum) and positions (the maximum) differ.
 */
#ifndef KVCACHE_VIEW_H
#define KVCACHE_VIEW_H

#include <stdint.h>

#define KV_BLOCK_SLOTS 16 /* one AVX-512 register of f32 lanes, and vLLM's default block */

struct kv_span {
    const int32_t *blocks; /* [(first_slot + length + 15) / 16]; view of the owner's table */
    int32_t first_slot;    /* 0 .. 15, within blocks[0] */
    int32_t length;        /* slots, > 0 */
    int32_t first_position;
};

struct kv_view {
    const struct kv_span *spans;
    int32_t span_count;
    int32_t length; /* context slots: the sum of the spans' lengths */
};

#endif
