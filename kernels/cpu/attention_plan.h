/* Attention, planned on the host: which slots in which chunk, and who does what.
 *
 * Definition. A row sees the first n slots of its spans. They are cut into chunks of
 * ATTENTION_CHUNK context slots, counted from the view's start. Within a chunk, slot c has the
 * score s[c] = sum over d, ascending, of (q[d] / sqrt(head_dim)) * K[c][d] and over the chunk's
 * slots that the row sees m = max s,  p[c] = exp(s[c] - m),  l = sum of p (lane c mod 16 ascending,
 * then the tree), o[d] = sum over c, ascending, of p[c] * V[c][d] (m, l, o) of the chunks are
 * merged in order, out = o / l. Nothing here names a block, a lane in a block, another row or a
 * thread, so the same content gives the same bits wherever it lies.
 *
 * Plan. A sequence's context becomes a list of items: runs of slots inside one block and one chunk.
 * Its rows are cut into tiles that share one reading of K and V. A tile and a kv head are a unit of
 * work; where there are too few units for the threads (a few rows with a long context) a unit is
 * cut into parts of whole chunks, which keep their chunks' (m, l, o) apart until the last part to
 * finish merges all of them in order: the same definition, hence the same bits.
 *
 * Forest. Decode rows of different sequences whose items of a chunk are equal (same block, slots
 * and offset: the same content) share its reading too. Walking the chunks from the view's start,
 * rows stay together as long as their chunks are equal and then divide, so the groups nest. A run
 * of chunks and the rows that share it is a tile with `members`; each of its rows is a branch whose
 * chunks' (m, l, o) are kept apart until the last part that the branch waits for merges them in
 * order. A row that shares no chunk is a tile by itself as before. Where chunks are only alike at
 * their beginning each row reads its own. */
#ifndef KERNELS_CPU_ATTENTION_PLAN_H
#define KERNELS_CPU_ATTENTION_PLAN_H

#include "kernels/cpu/cpu.h"

/* Queries (rows times heads of a kv head) of a tile: two or four register tiles, whose scores of a
 * chunk (26 KB) stay in L1. */
#define TILE_QUERIES 24
/* Parts a unit is cut into until there are this many for each thread. */
#define PARTS_PER_MEMBER 4

struct plan_sequence {
    int32_t first_item, item_count; /* of plan->items */
    int32_t first_chunk, chunks; /* chunk c's items start at plan->chunk_items[first_chunk + c] */
    int32_t branch;              /* its place in plan->branches, where its row is a member */
};

/* Rows [row, row + rows) of the step; the i-th sees `context + i` slots of `sequence`. With members
 * the rows are those of `rows` branches, all of which see the same slots of the tile's chunks. */
struct plan_tile {
    int32_t sequence, row, rows, context;
    int32_t first_chunk, end_chunk; /* 0 and all that the last row sees, but with members */
    int32_t part_chunks;            /* chunks of a part; all of them when it is not cut */
    int32_t parts;                  /* of a branch: parts of all tiles it is a member of */
    int32_t first_partial; /* place of the first row's chunk 0 among the partial results, -1: none;
                              row r's chunk c is at first_partial + c * rows + r */
    int32_t first_member;  /* of plan->members, -1 without */
};

struct plan_part {
    int32_t tile, first_chunk;
};

struct attention_plan {
    const struct step_input *input;
    struct plan_item *items;
    struct plan_sequence *sequences;
    int32_t *chunk_items; /* with one more at each sequence's end */
    struct plan_tile *tiles;
    struct plan_part *parts;    /* longest tiles first */
    struct plan_tile *branches; /* decode rows that are members: one row, every chunk */
    int32_t *members;           /* branches of tiles with members */
    int32_t *order;             /* sequences, divided into groups while planning */
    int32_t item_count, sequence_count, chunk_count, tile_count, part_count;
    int32_t branch_count, member_count, order_count;
    int32_t partial_rows; /* chunks times rows of cut tiles and branches: partial results a kv head
                             needs, each of `group` queries */
    size_t item_room, sequence_room, chunk_room, tile_room, part_room;
    size_t branch_room, member_room, order_room;
    int64_t slots_read, slots_seen; /* a kv head's K and V slots: read by tiles, seen by rows */
    int32_t group, kv_heads; /* for which tiles and parts were made; 0: not yet in this step */
};

struct attention_plan *attention_plan_create(void);
void attention_plan_free(struct attention_plan *plan);

/* Items of every sequence of the step. `input` is borrowed until the next begin. */
void attention_plan_begin(struct attention_plan *plan, const struct step_input *input);

/* Tiles and parts for `group` query heads a kv head on `members` threads; does nothing when the
 * step has them already. */
void attention_plan_tiles(struct attention_plan *plan, int32_t group, int32_t kv_heads,
                          int members);

static inline int32_t plan_chunks_of(int32_t context)
{
    return (context + ATTENTION_CHUNK - 1) / ATTENTION_CHUNK;
}

#endif
