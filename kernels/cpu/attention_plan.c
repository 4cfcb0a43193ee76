#include "kernels/cpu/attention_plan.h"

#include <stdlib.h>
#include <string.h>

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
    free(plan->branches);
    free(plan->members);
    free(plan->order);
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
                                                                         .end_chunk = chunks,
                                                                         .part_chunks = chunks,
                                                                         .parts = 1,
                                                                         .first_partial = -1,
                                                                         .first_member = -1};
    }
}

/* --- the forest */

static bool same_chunk(const struct attention_plan *plan, int32_t a, int32_t b, int32_t chunk)
{
    const struct plan_sequence *x = &plan->sequences[a], *y = &plan->sequences[b];
    if (chunk >= x->chunks || chunk >= y->chunks) return false;
    const int32_t *of_x = plan->chunk_items + x->first_chunk + chunk;
    const int32_t *of_y = plan->chunk_items + y->first_chunk + chunk;
    int32_t count = of_x[1] - of_x[0];
    return count == of_y[1] - of_y[0] && memcmp(plan->items + of_x[0], plan->items + of_y[0],
                                                (size_t)count * sizeof *plan->items) == 0;
}

/* Moves the sequences of order[first, end) whose chunk equals the first's to the front, in order;
 * returns where they end. */
static int32_t gather_group(struct attention_plan *plan, int32_t first, int32_t end, int32_t chunk)
{
    int32_t *order = plan->order, group = first + 1;
    for (int32_t i = group; i < end; i++) {
        if (!same_chunk(plan, order[first], order[i], chunk)) continue;
        int32_t sequence = order[i];
        memmove(order + group + 1, order + group, (size_t)(i - group) * sizeof *order);
        order[group++] = sequence;
    }
    return group;
}

/* The first chunk from `chunk` on that is not the same for all of order[first, end). */
static int32_t shared_end(const struct attention_plan *plan, int32_t first, int32_t end,
                          int32_t chunk)
{
    for (;; chunk++) {
        if (chunk >= plan->sequences[plan->order[first]].chunks) return chunk;
        for (int32_t i = first + 1; i < end; i++)
            if (!same_chunk(plan, plan->order[first], plan->order[i], chunk)) return chunk;
    }
}

/* Branches of order[first, end), each with places for all its chunks. */
static void add_branches(struct attention_plan *plan, int32_t first, int32_t end)
{
    for (int32_t i = first; i < end; i++) {
        int32_t sequence = plan->order[i], chunks = plan->sequences[sequence].chunks;
        const struct attention_sequence *s = &plan->input->sequences[sequence];
        plan->sequences[sequence].branch = plan->branch_count;
        *APPEND(plan, branches, branch_count, branch_room) =
            (struct plan_tile){.sequence = sequence,
                               .row = s->first_row,
                               .rows = 1,
                               .context = s->context,
                               .end_chunk = chunks,
                               .first_partial = plan->partial_rows,
                               .first_member = -1};
        plan->partial_rows += chunks;
    }
}

/* Tiles that read chunks [chunk, end_chunk) for order[first, end). */
static void add_shared(struct attention_plan *plan, int32_t first, int32_t end, int32_t chunk,
                       int32_t end_chunk, int32_t tile_rows)
{
    if (chunk == end_chunk) return;
    for (int32_t i = first; i < end; i += tile_rows) {
        int32_t rows = min_i32(tile_rows, end - i), sequence = plan->order[i];
        int32_t chunks = end_chunk - chunk;
        *APPEND(plan, tiles, tile_count, tile_room) =
            (struct plan_tile){.sequence = sequence,
                               .rows = rows,
                               .context = plan->input->sequences[sequence].context,
                               .first_chunk = chunk,
                               .end_chunk = end_chunk,
                               .part_chunks = chunks,
                               .parts = 1,
                               .first_partial = -1,
                               .first_member = plan->member_count};
        for (int32_t r = 0; r < rows; r++)
            *APPEND(plan, members, member_count, member_room) =
                plan->sequences[plan->order[i + r]].branch;
    }
}

/* The tree of branches order[first, end), which share everything before `chunk`. Every call has
 * fewer branches than its caller, or it is the first. */
static void add_tree(struct attention_plan *plan, int32_t first, int32_t end, int32_t chunk,
                     int32_t tile_rows)
{
    int32_t fork = shared_end(plan, first, end, chunk);
    add_shared(plan, first, end, chunk, fork, tile_rows);
    for (int32_t i = first, next; i < end; i = next) {
        next = gather_group(plan, i, end, fork);
        if (fork < plan->sequences[plan->order[i]].chunks) add_tree(plan, i, next, fork, tile_rows);
    }
}

/* Tiles of all decode rows: trees of those that share their first chunk, else one by one. */
static void add_forest(struct attention_plan *plan, int32_t tile_rows)
{
    plan->branch_count = plan->member_count = plan->order_count = 0;
    for (int32_t i = 0; i < plan->sequence_count; i++)
        if (plan->input->sequences[i].rows == 1) *APPEND(plan, order, order_count, order_room) = i;
    for (int32_t i = 0, next; i < plan->order_count; i = next) {
        next = gather_group(plan, i, plan->order_count, 0);
        if (next - i == 1) {
            cut_rows(plan, plan->order[i], tile_rows);
            continue;
        }
        add_branches(plan, i, next);
        add_tree(plan, i, next, 0, tile_rows);
    }
}

/* --- parts */

static int32_t tile_chunks(const struct plan_tile *tile)
{
    return tile->end_chunk - tile->first_chunk;
}

static void cut_tile(struct attention_plan *plan, struct plan_tile *tile, int32_t part_chunks)
{
    if (tile_chunks(tile) <= part_chunks) return;
    tile->part_chunks = part_chunks;
    tile->parts = (tile_chunks(tile) + part_chunks - 1) / part_chunks;
    if (tile->first_member >= 0) return; /* its branches have places already */
    tile->first_partial = plan->partial_rows;
    plan->partial_rows += tile->end_chunk * tile->rows;
}

/* Cuts tiles into parts of part_chunks, or not at all when there are tiles enough. Tiles with
 * members are cut in any case: they keep partial results anyway, and one may be most of the step.
 */
static void cut_chunks(struct attention_plan *plan, int64_t members)
{
    int64_t units = (int64_t)plan->tile_count * plan->kv_heads, wanted = members * PARTS_PER_MEMBER;
    if (members == 1) return;
    int64_t chunks = 0, work = 0;
    for (int32_t i = 0; i < plan->tile_count; i++) {
        chunks += (int64_t)tile_chunks(&plan->tiles[i]) * plan->kv_heads;
        work += (int64_t)tile_chunks(&plan->tiles[i]) * plan->tiles[i].rows * plan->kv_heads;
    }
    for (int32_t i = 0; i < plan->tile_count; i++) {
        struct plan_tile *tile = &plan->tiles[i];
        if (tile->first_member >= 0)
            cut_tile(plan, tile, max_i32(1, (int32_t)(work / wanted / tile->rows)));
        else if (units < wanted)
            cut_tile(plan, tile, max_i32(1, (int32_t)(chunks / wanted)));
    }
}

/* What each branch waits for, and what the step reads. */
static void count_reads(struct attention_plan *plan)
{
    plan->slots_read = plan->slots_seen = 0;
    for (int32_t i = 0; i < plan->tile_count; i++) {
        const struct plan_tile *tile = &plan->tiles[i];
        int32_t last = tile->first_member < 0 ? tile->context + tile->rows - 1 : tile->context;
        plan->slots_read +=
            min_i32(last, tile->end_chunk * ATTENTION_CHUNK) - tile->first_chunk * ATTENTION_CHUNK;
        for (int32_t r = 0; tile->first_member >= 0 && r < tile->rows; r++)
            plan->branches[plan->members[tile->first_member + r]].parts += tile->parts;
    }
    for (int32_t i = 0; i < plan->sequence_count; i++) {
        const struct attention_sequence *s = &plan->input->sequences[i];
        plan->slots_seen += (int64_t)s->rows * s->context + (int64_t)s->rows * (s->rows - 1) / 2;
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
    int32_t tile_rows = max_i32(1, TILE_QUERIES / group);
    plan->group = group;
    plan->kv_heads = kv_heads;
    plan->tile_count = plan->part_count = plan->partial_rows = 0;
    for (int32_t i = 0; i < plan->sequence_count; i++)
        if (plan->input->sequences[i].rows > 1) cut_rows(plan, i, tile_rows);
    add_forest(plan, tile_rows);
    cut_chunks(plan, members);
    count_reads(plan);
    for (int32_t i = 0; i < plan->tile_count; i++) {
        const struct plan_tile *tile = &plan->tiles[i];
        for (int32_t c = tile->first_chunk; c < tile->end_chunk; c += tile->part_chunks)
            *APPEND(plan, parts, part_count, part_room) = (struct plan_part){i, c};
    }
    qsort_r(plan->parts, (size_t)plan->part_count, sizeof *plan->parts, longest_first, plan);
}
