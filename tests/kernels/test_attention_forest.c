/* Attention over a forest: the plan's groups on shapes chosen by hand, and grouped bits against
 * each row alone on random forests: every instruction set, f32 and bf16, 1..4 threads. */
#include "kernels/cpu/attention_plan.h"
#include "tests/kernels/support_rig.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 64, MAX_SPANS = 8, HEAD_DIM = 24, HEADS = 6, KV_HEADS = 2, BLOCKS = 800 };

/* Decode rows whose views are built span by span, and the step of them. */
struct forest {
    struct step_input input;
    struct attention_sequence sequences[MAX_ROWS];
    struct attention_span spans[MAX_ROWS][MAX_SPANS];
    int32_t blocks[BLOCKS], next_block;
};

static void forest_open(struct forest *f, int32_t rows)
{
    memset(f, 0, sizeof *f);
    for (int32_t i = 0; i < BLOCKS; i++)
        f->blocks[i] = i;
    for (int32_t i = 0; i < rows; i++)
        f->sequences[i] =
            (struct attention_sequence){.first_row = i, .rows = 1, .spans = f->spans[i]};
    f->input = (struct step_input){.rows = rows, .sequences = f->sequences, .sequence_count = rows};
}

/* Blocks for a span of `length` slots that begins at first_slot of the first one. */
static struct attention_span new_span(struct forest *f, int32_t first_slot, int32_t length)
{
    struct attention_span span = {f->blocks + f->next_block, first_slot, length};
    f->next_block += (first_slot + length + BLOCK_SLOTS - 1) / BLOCK_SLOTS;
    cr_assert_leq(f->next_block, BLOCKS);
    return span;
}

static void see(struct forest *f, int32_t row, struct attention_span span)
{
    struct attention_sequence *s = &f->sequences[row];
    if (span.length == 0) return;
    cr_assert_lt(s->span_count, MAX_SPANS);
    f->spans[row][s->span_count++] = span;
    s->context += span.length;
}

static void see_all(struct forest *f, int32_t first, int32_t end, struct attention_span span)
{
    for (int32_t row = first; row < end; row++)
        see(f, row, span);
}

/* `count` rows from `first` each get a span of their own. */
static void see_private(struct forest *f, int32_t first, int32_t end, int32_t length)
{
    for (int32_t row = first; row < end; row++)
        see(f, row, new_span(f, 0, length));
}

/* Every row's every chunk is read by exactly one tile, from items equal to its own. */
static void check_cover(const struct attention_plan *plan)
{
    for (int32_t i = 0; i < plan->sequence_count; i++) {
        const struct plan_sequence *s = &plan->sequences[i];
        for (int32_t chunk = 0; chunk < s->chunks; chunk++) {
            int readers = 0;
            for (int32_t t = 0; t < plan->tile_count; t++) {
                const struct plan_tile *tile = &plan->tiles[t];
                bool member = tile->first_member < 0 && tile->sequence == i;
                for (int32_t r = 0; tile->first_member >= 0 && r < tile->rows; r++)
                    member |= plan->branches[plan->members[tile->first_member + r]].sequence == i;
                if (!member || chunk < tile->first_chunk || chunk >= tile->end_chunk) continue;
                const struct plan_sequence *read = &plan->sequences[tile->sequence];
                const int32_t *own = plan->chunk_items + s->first_chunk + chunk;
                const int32_t *its = plan->chunk_items + read->first_chunk + chunk;
                cr_assert_eq(own[1] - own[0], its[1] - its[0]);
                cr_assert(memcmp(plan->items + own[0], plan->items + its[0],
                                 (size_t)(own[1] - own[0]) * sizeof *plan->items) == 0);
                readers++;
            }
            cr_assert_eq(readers, 1, "sequence %d chunk %d: %d readers", i, chunk, readers);
        }
    }
}

/* Plans the step for 3 query heads a kv head: 8 rows a tile. */
static void expect_reads(struct forest *f, int64_t read, int64_t seen)
{
    for (int members = 1; members <= 4; members++) {
        struct attention_plan *plan = attention_plan_create();
        attention_plan_begin(plan, &f->input);
        attention_plan_tiles(plan, 3, KV_HEADS, members);
        check_cover(plan);
        cr_assert_eq(plan->slots_read, read, "%lld slots read, not %lld",
                     (long long)plan->slots_read, (long long)read);
        cr_assert_eq(plan->slots_seen, seen, "%lld slots seen, not %lld",
                     (long long)plan->slots_seen, (long long)seen);
        attention_plan_free(plan);
    }
}

Test(attention_forest, one_group_reads_its_whole_chunks_once)
{
    static struct forest f;
    const int32_t remainders[] = {0, 1, 15};
    for (size_t i = 0; i < COUNT_OF(remainders); i++) {
        int32_t prefix = 4 * ATTENTION_CHUNK + 2 * BLOCK_SLOTS, own = 40 + remainders[i];
        forest_open(&f, 8);
        see_all(&f, 0, 8, new_span(&f, 0, prefix));
        see_private(&f, 0, 8, own);
        int64_t tail = 2 * BLOCK_SLOTS + own;
        expect_reads(&f, 4 * ATTENTION_CHUNK + 8 * tail, 8 * (4 * ATTENTION_CHUNK + tail));
    }
}

Test(attention_forest, groups_within_groups_and_a_second_tree)
{
    static struct forest f;
    forest_open(&f, 11);
    see_all(&f, 0, 8, new_span(&f, 0, 3 * ATTENTION_CHUNK)); /* 0..7, of them 1, 3, 5, 7 further */
    struct attention_span inner = new_span(&f, 0, 2 * ATTENTION_CHUNK);
    for (int32_t row = 1; row < 8; row += 2)
        see(&f, row, inner);
    see_all(&f, 8, 10, new_span(&f, 0, ATTENTION_CHUNK)); /* the second tree */
    see_private(&f, 0, 11, 5);                            /* and 10 is alone */
    expect_reads(&f, 6 * ATTENTION_CHUNK + 11 * 5, (8 * 3 + 4 * 2 + 2) * ATTENTION_CHUNK + 11 * 5);
}

Test(attention_forest, spans_that_begin_inside_a_block_are_compared_by_slot)
{
    static struct forest f;
    forest_open(&f, 3);
    struct attention_span trunk = new_span(&f, 0, 100), branch = new_span(&f, 7, 400);
    see_all(&f, 0, 3, trunk);
    see(&f, 0, branch);
    see(&f, 1, branch);
    see(&f, 2, (struct attention_span){branch.blocks, 6, 400}); /* one slot earlier: not the same */
    see_private(&f, 0, 3, 20);
    expect_reads(&f, ATTENTION_CHUNK + 2 * (520 - ATTENTION_CHUNK) + 520, 3 * 520);
}

Test(attention_forest, equal_views_and_rows_that_end_inside_the_common_part)
{
    static struct forest f;
    forest_open(&f, 4);
    struct attention_span trunk = new_span(&f, 0, 700);
    see_all(&f, 0, 2, trunk);
    see(&f, 2, (struct attention_span){trunk.blocks, 0, 600});
    see(&f, 3, (struct attention_span){trunk.blocks, 0, 2 * ATTENTION_CHUNK});
    int32_t tails = (700 - 2 * ATTENTION_CHUNK) + (600 - 2 * ATTENTION_CHUNK);
    expect_reads(&f, 2 * ATTENTION_CHUNK + tails, 2 * 700 + 600 + 2 * ATTENTION_CHUNK);
}

Test(attention_forest, many_rows_read_once_a_tile)
{
    static struct forest f;
    forest_open(&f, MAX_ROWS);
    see_all(&f, 0, MAX_ROWS, new_span(&f, 0, 2 * ATTENTION_CHUNK));
    see_private(&f, 0, MAX_ROWS, 3);
    expect_reads(&f, MAX_ROWS / 8 * 2 * ATTENTION_CHUNK + MAX_ROWS * 3,
                 MAX_ROWS * (2 * ATTENTION_CHUNK + 3));
}

Test(attention_forest, rows_that_share_nothing_are_tiles_by_themselves)
{
    static struct forest f;
    forest_open(&f, 5);
    see_private(&f, 0, 5, 300);
    expect_reads(&f, 5 * 300, 5 * 300);
}

/* --- bits */

/* A random forest: rows take over a random earlier row's first spans, then go on alone. */
static void grow(struct forest *f, struct rng *rng, int32_t rows)
{
    forest_open(f, rows);
    for (int32_t row = 0; row < rows; row++) {
        if (row && rng_below(rng, 5)) {
            int32_t parent = (int32_t)rng_below(rng, (uint64_t)row);
            int32_t count = f->sequences[parent].span_count;
            int32_t kept = 1 + (int32_t)rng_below(rng, (uint64_t)min_i32(count, MAX_SPANS - 2));
            for (int32_t i = 0; i < kept; i++)
                see(f, row, f->spans[parent][i]);
            if (rng_below(rng, 6) == 0) continue; /* it ends there */
        } else {
            see(f, row, new_span(f, 0, 1 + (int32_t)rng_below(rng, 700)));
        }
        see(f, row,
            new_span(f, (int32_t)rng_below(rng, BLOCK_SLOTS), 1 + (int32_t)rng_below(rng, 200)));
    }
}

static void fill_pool(struct kv_pool *pool, struct rng *rng)
{
    size_t element = pool->type == DT_F32 ? 4 : 2;
    for (size_t i = 0; i < pool->bytes / element; i++) {
        float value = (float)rng_normal(rng);
        uint16_t half = float_to_bf16(value);
        memcpy(pool->data + i * element, element == 4 ? (void *)&value : (void *)&half, element);
    }
}

static void attend(struct rig *rig, const struct step_input *input, const struct tensor *q,
                   const struct kv_pool *pool, struct tensor *out)
{
    const struct attention_shape shape = {
        .heads = HEADS, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM};
    rig->backend->ops->step_begin(rig->backend, input);
    rig->backend->ops->attention(rig->backend, &shape, q, pool, 0, out);
}

/* Grouped against each row alone, which a step of one sequence cannot group. */
static void check_bits(struct rig *rig, struct rng *rng, const struct kv_pool *pool)
{
    enum { COLS = HEADS * HEAD_DIM };
    static struct forest f;
    const struct backend_ops *ops = rig->backend->ops;
    int32_t rows = 2 + (int32_t)rng_below(rng, 11);
    grow(&f, rng, rows);
    struct matrix q = matrix_random(rng, rows, COLS, 1, DT_F32);
    struct tensor *t_q = rig_tensor(rig, &q);
    struct tensor *out = ops->tensor_create(rig->backend, rows, COLS);
    float together[COLS], alone[COLS];
    struct tensor *out_alone = ops->tensor_create(rig->backend, 1, COLS);
    attend(rig, &f.input, t_q, pool, out);
    for (int32_t row = 0; row < rows; row++) {
        struct matrix one = {1, COLS, q.values + row * COLS};
        struct tensor *t_one = rig_tensor(rig, &one);
        struct attention_sequence sequence = f.sequences[row];
        sequence.first_row = 0;
        const struct step_input input = {.rows = 1, .sequences = &sequence, .sequence_count = 1};
        attend(rig, &input, t_one, pool, out_alone);
        ops->tensor_read(rig->backend, out, row, together);
        ops->tensor_read(rig->backend, out_alone, 0, alone);
        cr_assert(memcmp(together, alone, sizeof alone) == 0, "%s, %d threads: row %d of %d",
                  ops->name, thread_pool_size(rig->pool), row, rows);
        ops->tensor_free(rig->backend, t_one);
    }
    ops->tensor_free(rig->backend, t_q);
    ops->tensor_free(rig->backend, out);
    ops->tensor_free(rig->backend, out_alone);
    free(q.values);
}

Test(attention_forest, grouped_bits_are_the_bits_of_each_row_alone)
{
    const enum cpu_isa isas[] = {CPU_PORTABLE, CPU_AVX2, CPU_AVX512};
    for (size_t i = 0; i < COUNT_OF(isas); i++)
        for (int threads = 1; threads <= 4 && cpu_isa_supported(isas[i]); threads++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                struct rig rig = rig_open(isas[i], threads);
                struct rng rng = {(uint64_t)threads * 10 + i};
                struct kv_pool *pool = rig.backend->ops->kv_create(
                    rig.backend, bf16 ? DT_BF16 : DT_F32, 1, KV_HEADS, HEAD_DIM, BLOCKS);
                cr_assert(pool);
                fill_pool(pool, &rng);
                for (int n = 0; n < 8; n++)
                    check_bits(&rig, &rng, pool);
                rig.backend->ops->kv_free(rig.backend, pool);
                rig_close(&rig);
            }
}
