#include "kernels/cpu/attention_plan.h"

#include <stdlib.h>

struct attention_plan *attention_plan_create(void)
{
    return must_alloc(sizeof(struct attention_plan));
}

void attention_plan_free(struct attention_plan *plan)
{
    if (!plan) return;
    free(plan->items);
    free(plan->sequences);
    free(plan->chunk_items);
    free(plan->tiles);
    free(plan->parts);
    free(plan);
}

/* The next element of a growing array. */
static void *append(void *array_pointer, int32_t *count, size_t *room, size_t size)
{
    void **array = array_pointer;
    if ((size_t)*count == *room) {
        *room = *room ? *room * 2 : 64;
        *array = must_realloc(*array, *room * size);
    }
    return (char *)*array + (size_t)(*count)++ * size;
}

#define APPEND(plan, field, count, room)                                              \
    ((__typeof__((plan)->field))append(&(plan)->field, &(plan)->count, &(plan)->room, \
                                       sizeof *(plan)->field))

static void start_chunk(struct attention_plan *plan)
{
    *APPEND(plan, chunk_items, chunk_count, chunk_room) = plan->item_count;
}

/* One sequence's context, item by item; an item ends with its block, its span or its chunk. */
static void plan_items(struct attention_plan *plan, const struct attention_sequence *s)
{
    int32_t total = s->context + s->rows - 1, at = 0;
    for (int32_t n = 0; n < s->span_count && at < total; n++) {
        const struct attention_span *span = &s->spans[n];
        for (int32_t used = 0; used < span->length && at < total;) {
            int32_t slot = span->first_slot + used, offset = at % ATTENTION_CHUNK;
            int32_t count = BLOCK_SLOTS - slot % BLOCK_SLOTS;
            count = min_i32(count, span->length - used);
            count = min_i32(count, total - at);
            count = min_i32(count, ATTENTION_CHUNK - offset);
            if (offset == 0) start_chunk(plan);
            *APPEND(plan, items, item_count, item_room) =
                (struct plan_item){.block = span->blocks[slot / BLOCK_SLOTS],
                                   .first = slot % BLOCK_SLOTS,
                                   .count = count,
                                   .offset = offset};
            used += count;
            at += count;
        }
    }
    invariant(at == total, "a sequence's spans hold %d slots, its rows see %d", at, total);
    start_chunk(plan); /* the end of the last one */
}

void attention_plan_begin(struct attention_plan *plan, const struct step_input *input)
{
    plan->input = input;
    plan->item_count = plan->sequence_count = plan->chunk_count = 0;
    plan->group = 0;
    for (int32_t i = 0; i < input->sequence_count; i++) {
        const struct attention_sequence *s = &input->sequences[i];
        invariant(s->rows > 0 && s->context > 0, "sequence %d of %d rows at context %d", i, s->rows,
                  s->context);
        struct plan_sequence sequence = {.first_item = plan->item_count,
                                         .first_chunk = plan->chunk_count,
                                         .chunks = plan_chunks_of(s->context + s->rows - 1)};
        plan_items(plan, s);
        sequence.item_count = plan->item_count - sequence.first_item;
        *APPEND(plan, sequences, sequence_count, sequence_room) = sequence;
    }
}

static void cut_rows(struct attention_plan *plan, int32_t sequence, int32_t tile_rows)
{
    const struct attention_sequence *s = &plan->input->sequences[sequence];
    for (int32_t row = 0; row < s->rows; row += tile_rows) {
        int32_t rows = min_i32(tile_rows, s->rows - row), context = s->context + row;
        int32_t chunks = plan_chunks_of(context + rows - 1);
        *APPEND(plan, tiles, tile_count, tile_room) = (struct plan_tile){.sequence = sequence,
                                                                         .row = s->first_row + row,
                                                                         .rows = rows,
                                                                         .context = context,
                                                                         .chunks = chunks,
                                                                         .part_chunks = chunks,
                                                                         .parts = 1,
                                                                         .first_partial = -1};
    }
}

/* Cuts tiles into parts of part_chunks, or not at all when there are tiles enough. */
static void cut_chunks(struct attention_plan *plan, int64_t members)
{
    int64_t units = (int64_t)plan->tile_count * plan->kv_heads, wanted = members * PARTS_PER_MEMBER;
    if (members == 1 || units >= wanted) return;
    int64_t chunks = 0;
    for (int32_t i = 0; i < plan->tile_count; i++)
        chunks += (int64_t)plan->tiles[i].chunks * plan->kv_heads;
    int32_t part_chunks = max_i32(1, (int32_t)(chunks / wanted));
    for (int32_t i = 0; i < plan->tile_count; i++) {
        struct plan_tile *tile = &plan->tiles[i];
        if (tile->chunks <= part_chunks) continue;
        tile->part_chunks = part_chunks;
        tile->parts = (tile->chunks + part_chunks - 1) / part_chunks;
        tile->first_partial = plan->partial_chunks;
        plan->partial_chunks += tile->chunks;
    }
}

static int longest_first(const void *a, const void *b, void *context)
{
    const struct attention_plan *plan = context;
    const struct plan_part *x = a, *y = b;
    int32_t cx = plan->tiles[x->tile].part_chunks, cy = plan->tiles[y->tile].part_chunks;
    if (cx != cy) return cx > cy ? -1 : 1;
    return x->tile != y->tile ? (x->tile > y->tile ? -1 : 1) : x->first_chunk - y->first_chunk;
}

void attention_plan_tiles(struct attention_plan *plan, int32_t group, int32_t kv_heads, int members)
{
    if (plan->group == group && plan->kv_heads == kv_heads) return;
    plan->group = group;
    plan->kv_heads = kv_heads;
    plan->tile_count = plan->part_count = plan->partial_chunks = 0;
    for (int32_t i = 0; i < plan->sequence_count; i++)
        cut_rows(plan, i, max_i32(1, TILE_QUERIES / group));
    cut_chunks(plan, members);
    for (int32_t i = 0; i < plan->tile_count; i++)
        for (int32_t c = 0; c < plan->tiles[i].chunks; c += plan->tiles[i].part_chunks)
            *APPEND(plan, parts, part_count, part_room) = (struct plan_part){i, c};
    qsort_r(plan->parts, (size_t)plan->part_count, sizeof *plan->parts, longest_first, plan);
}
