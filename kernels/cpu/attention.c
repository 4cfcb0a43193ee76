/* The attention operator: takes parts of the plan, runs chunks, merges (attention_plan.h).
 *
 * Floor: K and V of the context are read once for each tile of rows; a decode row at context c
 * reads 2 * c * kv_heads * head_dim values, from memory. In prefill the chunk is read from L2 by
 * every tile and 4 * head_dim flops a (query, slot) are the floor. */
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/shares.h"

#include <math.h>
#include <string.h>

/* Memory of one member: everything about the tile it works on. */
struct tile_scratch {
    float *q;                     /* [queries][QUERY_STRIDE] */
    float *scores;                /* [queries][SCORE_STRIDE] */
    float *o, *sum;               /* [queries][v_stride]: of the chunk, of the chunks so far */
    float *m, *l, *m_sum, *l_sum; /* [queries] */
    int32_t *limit;
    const struct attention_unit *next; /* what this member does after it; NULL: not known */
};

/* What a member works on. */
struct attention_unit {
    const struct plan_part *part;
    int32_t head;
};

struct attention_job {
    struct cpu_backend *backend;
    const struct attention_shape *shape;
    const struct tensor *q;
    const struct kv_pool *pool;
    int32_t layer;
    struct tensor *out;
    int32_t group, queries; /* query heads of a kv head; the most queries of a tile */
    float *partials;        /* [kv_heads][partial_rows][group][v_stride + 2] */
    _Atomic int32_t *left;  /* [kv_heads][tiles + branches] parts still to finish */
};

/* `count` floats of memory at *used, which moves on; NULL while only the size is wanted. */
static void *carve(char *memory, size_t *used, int64_t count)
{
    void *piece = memory ? memory + *used : NULL;
    *used += (size_t)round_up(count * (int64_t)sizeof(float), CACHE_LINE);
    return piece;
}

/* Lays the scratch out in `memory` (NULL: only counts); returns its bytes. */
static size_t lay_out(struct tile_scratch *s, const struct attention_job *job, char *memory)
{
    int64_t n = job->queries;
    size_t used = 0;
    s->q = carve(memory, &used, n * QUERY_STRIDE);
    s->scores = carve(memory, &used, n * SCORE_STRIDE);
    s->o = carve(memory, &used, n * job->pool->v_stride);
    s->sum = carve(memory, &used, n * job->pool->v_stride);
    s->m = carve(memory, &used, n);
    s->l = carve(memory, &used, n);
    s->m_sum = carve(memory, &used, n);
    s->l_sum = carve(memory, &used, n);
    s->limit = carve(memory, &used, n);
    return used;
}

/* Whose partial results the r-th row's are: the tile's own, or the branch that is the member. */
static const struct plan_tile *owner(const struct attention_plan *plan,
                                     const struct plan_tile *tile, int32_t r)
{
    if (tile->first_member < 0) return tile;
    return &plan->branches[plan->members[tile->first_member + r]];
}

static int32_t step_row(const struct attention_plan *plan, const struct plan_tile *tile, int32_t r)
{
    return tile->first_member < 0 ? tile->row + r : owner(plan, tile, r)->row;
}

/* Queries of a tile in the order (row, head of the group), scaled. */
static void load_queries(const struct attention_job *job, const struct plan_tile *tile,
                         int32_t head, float *q)
{
    int32_t dim = job->shape->head_dim;
    float scale = 1.0f / sqrtf((float)dim);
    for (int32_t r = 0; r < tile->rows; r++) {
        const float *row = job->q->data + step_row(job->backend->plan, tile, r) * job->q->stride;
        const float *from = row + (int64_t)head * job->group * dim;
        for (int32_t g = 0; g < job->group; g++, q += QUERY_STRIDE)
            for (int32_t d = 0; d < dim; d++)
                q[d] = from[g * dim + d] * scale;
    }
}

/* Where the items of a part's first chunk begin and end. */
static const int32_t *first_chunk(const struct attention_plan *plan, const struct plan_part *part)
{
    const struct plan_tile *tile = &plan->tiles[part->tile];
    return plan->chunk_items + plan->sequences[tile->sequence].first_chunk + part->first_chunk;
}

/* Runs chunk `chunk` of a tile; returns the first query that sees it (those before it have ended).
 */
static int32_t run_chunk(const struct attention_job *job, const struct plan_tile *tile,
                         int32_t head, int32_t chunk, const struct tile_scratch *s)
{
    const struct attention_plan *plan = job->backend->plan;
    const struct plan_sequence *sequence = &plan->sequences[tile->sequence];
    const int32_t *bounds = plan->chunk_items + sequence->first_chunk + chunk;
    int32_t first_row = max_i32(0, chunk * ATTENTION_CHUNK + 1 - tile->context);
    int32_t first = first_row * job->group, queries = tile->rows * job->group;
    for (int32_t i = first; i < queries; i++) {
        int32_t context = tile->context + (tile->first_member < 0 ? i / job->group : 0);
        s->limit[i] = min_i32(ATTENTION_CHUNK, context - chunk * ATTENTION_CHUNK);
    }
    const struct kv_pool *pool = job->pool;
    const struct attention_unit *next = s->next;
    const int32_t *next_bounds = next ? first_chunk(plan, next->part) : NULL;
    struct attend_args args = {
        .kv = kv_head(pool, job->layer, 0, head),
        .block_bytes = pool->head_bytes * (size_t)pool->kv_heads,
        .type = pool->type,
        .head_dim = pool->head_dim,
        .v_stride = pool->v_stride,
        .v_offset = pool->v_offset,
        .items = plan->items + bounds[0],
        .item_count = bounds[1] - bounds[0],
        .items_behind = plan->chunk_items[sequence->first_chunk + tile->end_chunk] - bounds[1],
        .next_kv = next ? kv_head(pool, job->layer, 0, next->head) : NULL,
        .next_items = next ? plan->items + next_bounds[0] : NULL,
        .next_count = next ? next_bounds[1] - next_bounds[0] : 0,
        .queries = queries - first,
        .q = s->q + (int64_t)first * QUERY_STRIDE,
        .limit = s->limit + first,
        .scores = s->scores + (int64_t)first * SCORE_STRIDE,
        .m = s->m + first,
        .l = s->l + first,
        .o = s->o + (int64_t)first * pool->v_stride,
    };
    job->backend->kernels->attend(&args);
    return first;
}

/* Takes one query's chunk into its sums; the first chunk is taken as it is. */
static void merge_query(const struct attention_job *job, int32_t chunk, float *m_sum, float *l_sum,
                        float *sum, float m, float l, const float *o)
{
    int32_t stride = job->pool->v_stride;
    if (chunk > 0) {
        job->backend->kernels->attend_merge(m_sum, l_sum, sum, m, l, o, stride);
        return;
    }
    *m_sum = m;
    *l_sum = l;
    memcpy(sum, o, (size_t)stride * sizeof(float));
}

static void write_out(const struct attention_job *job, const struct plan_tile *tile, int32_t head,
                      const struct tile_scratch *s)
{
    int32_t dim = job->shape->head_dim;
    for (int32_t i = 0; i < tile->rows * job->group; i++) {
        float *row = job->out->data + (tile->row + i / job->group) * job->out->stride;
        float *to = row + (int64_t)(head * job->group + i % job->group) * dim;
        const float *from = s->sum + (int64_t)i * job->pool->v_stride;
        float inverse = 1.0f / s->l_sum[i];
        for (int32_t d = 0; d < dim; d++)
            to[d] = from[d] * inverse;
    }
}

/* --- whole units */

static void run_unit(const struct attention_job *job, const struct plan_tile *tile, int32_t head,
                     const struct tile_scratch *s)
{
    int32_t stride = job->pool->v_stride;
    load_queries(job, tile, head, s->q);
    for (int32_t chunk = 0; chunk < tile->end_chunk; chunk++) {
        int32_t first = run_chunk(job, tile, head, chunk, s);
        for (int32_t i = first; i < tile->rows * job->group; i++)
            merge_query(job, chunk, &s->m_sum[i], &s->l_sum[i], s->sum + (int64_t)i * stride,
                        s->m[i], s->l[i], s->o + (int64_t)i * stride);
    }
    write_out(job, tile, head, s);
}

/* --- units cut into parts */

/* The place of a row's partial results of a chunk: for each of its queries m, l, then o. */
static float *partial(const struct attention_job *job, const struct plan_tile *tile, int32_t head,
                      int32_t chunk, int32_t r)
{
    const struct attention_plan *plan = job->backend->plan;
    const struct plan_tile *own = owner(plan, tile, r);
    int64_t at = own == tile ? (int64_t)chunk * tile->rows + r : chunk;
    at += (int64_t)head * plan->partial_rows + own->first_partial;
    return job->partials + at * job->group * (job->pool->v_stride + 2);
}

static void merge_unit(const struct attention_job *job, const struct plan_tile *tile, int32_t head,
                       const struct tile_scratch *s)
{
    int32_t stride = job->pool->v_stride;
    for (int32_t chunk = 0; chunk < tile->end_chunk; chunk++) {
        int32_t first_row = max_i32(0, chunk * ATTENTION_CHUNK + 1 - tile->context);
        for (int32_t i = first_row * job->group; i < tile->rows * job->group; i++) {
            const float *from = partial(job, tile, head, chunk, i / job->group) +
                                (int64_t)(i % job->group) * (stride + 2);
            merge_query(job, chunk, &s->m_sum[i], &s->l_sum[i], s->sum + (int64_t)i * stride,
                        from[0], from[1], from + 2);
        }
    }
    write_out(job, tile, head, s);
}

/* Whoever finishes the last part sees all others' results: each has released them with its
 * decrement, and this one acquires. */
static bool is_last(const struct attention_job *job, int32_t head, int32_t counter)
{
    const struct attention_plan *plan = job->backend->plan;
    int64_t at = (int64_t)head * (plan->tile_count + plan->branch_count) + counter;
    return atomic_fetch_sub_explicit(&job->left[at], 1, memory_order_acq_rel) == 1;
}

static void run_part(const struct attention_job *job, const struct plan_part *part, int32_t head,
                     const struct tile_scratch *s)
{
    const struct attention_plan *plan = job->backend->plan;
    const struct plan_tile *tile = &plan->tiles[part->tile];
    int32_t stride = job->pool->v_stride;
    load_queries(job, tile, head, s->q);
    int32_t end = min_i32(tile->end_chunk, part->first_chunk + tile->part_chunks);
    for (int32_t chunk = part->first_chunk; chunk < end; chunk++) {
        int32_t first = run_chunk(job, tile, head, chunk, s);
        for (int32_t i = first; i < tile->rows * job->group; i++) {
            float *to = partial(job, tile, head, chunk, i / job->group) +
                        (int64_t)(i % job->group) * (stride + 2);
            to[0] = s->m[i];
            to[1] = s->l[i];
            memcpy(to + 2, s->o + (int64_t)i * stride, (size_t)stride * sizeof(float));
        }
    }
    if (tile->first_member < 0) {
        if (is_last(job, head, part->tile)) merge_unit(job, tile, head, s);
        return;
    }
    for (int32_t r = 0; r < tile->rows; r++) {
        int32_t branch = plan->members[tile->first_member + r];
        if (is_last(job, head, plan->tile_count + branch))
            merge_unit(job, &plan->branches[branch], head, s);
    }
}

/* A part and a head: a member's share is one stretch of them, because the heads of a part lie side
 * by side in memory (1.03 times as fast from memory as every members-th one); then, unless only
 * `own` ones are asked for, what others have left, which also evens out long and short ones. */
static bool take_unit(const struct attention_job *job, int member, bool own,
                      struct attention_unit *unit)
{
    const struct attention_plan *plan = job->backend->plan;
    int64_t units = (int64_t)plan->part_count * job->shape->kv_heads, next, end;
    int members = job->backend->members;
    for (int i = 0; i < (own ? 1 : members); i++) {
        int owner = (member + i) % members;
        int64_t first = units * owner / members, size = units * (owner + 1) / members - first;
        if (!share_take(job->backend, owner, size, false, &next, &end)) continue;
        int64_t at = first + next;
        unit->part = &plan->parts[at / job->shape->kv_heads];
        unit->head = (int32_t)(at % job->shape->kv_heads);
        return true;
    }
    return false;
}

static void run_any(const struct attention_job *job, const struct attention_unit *unit,
                    const struct tile_scratch *s)
{
    const struct plan_tile *tile = &job->backend->plan->tiles[unit->part->tile];
    if (tile->parts == 1 && tile->first_member < 0)
        run_unit(job, tile, unit->head, s);
    else
        run_part(job, unit->part, unit->head, s);
}

static void take_parts(void *argument, int member, int members)
{
    (void)members;
    struct attention_job *job = argument;
    const struct attention_plan *plan = job->backend->plan;
    struct tile_scratch s;
    lay_out(&s, job, job->backend->scratch[member].attention);
    /* The first part is the longest. Of short ones a member takes one more before it needs it, so
     * that its K is on the way in time; a long one must not wait for who is not free. */
    bool early = plan->tiles[plan->parts[0].tile].part_chunks == 1;
    struct attention_unit unit, next;
    bool more = take_unit(job, member, false, &unit);
    while (more) {
        bool taken = early && take_unit(job, member, true, &next);
        s.next = taken ? &next : NULL;
        run_any(job, &unit, &s);
        more = taken || take_unit(job, member, false, &next);
        unit = next;
    }
    stage_end(job->backend, member, STEP_ATTENTION);
}

/* Partial results and counters lie after each other in the backend's shared scratch. */
static void reserve_partials(struct attention_job *job)
{
    struct cpu_backend *cpu = job->backend;
    const struct attention_plan *plan = cpu->plan;
    int64_t heads = job->shape->kv_heads;
    size_t results = (size_t)(heads * plan->partial_rows * job->group) *
                     (size_t)(job->pool->v_stride + 2) * sizeof(float);
    int32_t count = plan->tile_count + plan->branch_count;
    size_t counters = (size_t)(heads * count) * sizeof *job->left;
    cpu->shared = scratch_reserve(cpu->shared, &cpu->shared_bytes, results + counters);
    job->partials = (float *)cpu->shared;
    job->left = (_Atomic int32_t *)(cpu->shared + results);
    for (int64_t h = 0; h < heads; h++)
        for (int32_t i = 0; i < count; i++) {
            const struct plan_tile *owner =
                i < plan->tile_count ? &plan->tiles[i] : &plan->branches[i - plan->tile_count];
            atomic_store_explicit(&job->left[h * count + i], owner->parts, memory_order_relaxed);
        }
}

void cpu_attention(struct backend *backend, const struct attention_shape *shape,
                   const struct tensor *q, const struct kv_pool *pool, int32_t layer,
                   struct tensor *out)
{
    struct cpu_backend *cpu = cpu_of(backend);
    invariant(shape->heads % shape->kv_heads == 0 && pool->kv_heads == shape->kv_heads &&
                  pool->head_dim == shape->head_dim,
              "%d heads, %d kv heads of %d; the pool has %d of %d", shape->heads, shape->kv_heads,
              shape->head_dim, pool->kv_heads, pool->head_dim);
    struct attention_job job = {.backend = cpu,
                                .shape = shape,
                                .q = q,
                                .pool = pool,
                                .layer = layer,
                                .out = out,
                                .group = shape->heads / shape->kv_heads};
    job.queries = max_i32(1, TILE_QUERIES / job.group) * job.group;
    attention_plan_tiles(cpu->plan, job.group, shape->kv_heads, cpu->members);
    struct tile_scratch sizes;
    size_t bytes = lay_out(&sizes, &job, NULL);
    for (int i = 0; i < cpu->members; i++) {
        struct member_scratch *own = &cpu->scratch[i];
        own->attention = scratch_reserve(own->attention, &own->attention_bytes, bytes);
    }
    if (cpu->plan->partial_rows) reserve_partials(&job);
    shares_begin(cpu);
    thread_pool_run(cpu->pool, take_parts, &job);
    stage_end(cpu, 0, STEP_WAIT);
    cpu->projection = STEP_OUTPUT;
}
