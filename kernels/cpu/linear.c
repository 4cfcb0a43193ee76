/* The operators that multiply: embed, norm_qkv, linear_add, norm_gate_up, norm_head.
 *
 * Preparing a row (norm, quantisation) takes 0.2 to 0.4 us, as a meeting of the members does. So
 * one or two rows every member prepares for itself and goes straight to its products; more rows the
 * members prepare together and meet before the products, in the same run of the pool.
 *
 * A unit is a group of panels by a block of rows. A member begins with its share of them, one
 * stretch of weights, and goes on with what others have left. Few rows: all rows in one block, so
 * each weight is read from memory once. Many rows: still all rows if there are units enough for
 * every member; a pair of panels (18 KB at 576 inputs) then stays in L1 while the rows stream past
 * it from L2 at 2 bytes a cycle, and the products run near the VNNI peak without blocking over k.
 */
#include "kernels/cpu/shares.h"
#include "kernels/cpu/vsq4z_panel.h"

#include <string.h>

/* Up to this many rows each member prepares all rows for itself. */
#define PRIVATE_ROWS 2
/* Rows of a piece where there are many: what rows have side by side is 4 bytes each, and no cache
 * line of it is to be written by two. */
#define SHARED_ROWS (CACHE_LINE / 4)
/* Up to this many rows the KV memory of a head is fetched while the head is computed. The rows of a
 * prompt share blocks, and the memory of more would not stay near. */
#define FETCHED_ROWS 32
/* Units for each member, where the shape allows: what the last one to finish keeps the others
 * waiting is then at most a fraction of the operator. */
#define UNITS_PER_MEMBER 6

/* --- preparing rows */

/* Row i of the product is row index[i] (or i) of x, normalised when norm is given. */
struct rows_source {
    const struct tensor *x;
    const float *norm;
    float eps;
    const int32_t *index;
    int32_t count;
};

/* Where prepared rows lie inside one piece of scratch. */
struct rows_layout {
    enum weight_format format;
    int64_t stride; /* bytes of a row of q8 or f32 */
    int64_t padded; /* rows, to a multiple of 16, so that every array starts on a cache line */
    int64_t vectors;
    size_t scale_at, start_at, vector_sum_at, outliers_at, bytes;
};

static struct rows_layout rows_layout(enum weight_format format, int64_t cols, int32_t rows)
{
    struct rows_layout layout = {.format = format, .padded = round_up(rows, 16)};
    layout.stride = row_stride(format == WEIGHT_NATIVE ? cols * 4 : cols);
    int64_t starts = format == WEIGHT_W8 ? w8_groups(cols) : 1, padded = layout.padded;
    if (format == WEIGHT_VSQ4Z) layout.vectors = vsq4z_blocks(cols) * BLOCK_VECTORS;
    layout.scale_at = (size_t)layout.stride * (size_t)rows;
    layout.start_at = layout.scale_at + (size_t)padded * sizeof(float);
    layout.vector_sum_at = layout.start_at + (size_t)(padded * starts) * sizeof(int32_t);
    layout.outliers_at = layout.vector_sum_at + (size_t)(padded * layout.vectors) * sizeof(int16_t);
    layout.bytes = layout.outliers_at + (size_t)rows * sizeof(struct outliers);
    return layout;
}

/* Native products without a norm read the tensor itself: nothing to prepare. */
static bool rows_need_preparing(const struct weight *w, const struct rows_source *source)
{
    return w->format != WEIGHT_NATIVE || source->norm || source->index;
}

/* One row to int8: outliers out, then one scale for the rest. x is changed. */
static void quantize_row(const struct cpu_kernels *kernels, float *x, int64_t cols,
                         const struct rows_layout *layout, char *memory, int32_t i)
{
    int8_t *out = (int8_t *)(memory + i * layout->stride);
    int32_t *start = (int32_t *)(memory + layout->start_at) + i;
    float *scale = (float *)(memory + layout->scale_at) + i;
    kernels->split_outliers(x, cols, (struct outliers *)(memory + layout->outliers_at) + i);
    float limit = kernels->largest(x, cols);
    bool zero = limit < 1e-30f; /* 127 / limit would not be finite */
    *scale = zero ? 0.0f : limit / 127.0f;
    float inverse = zero ? 0.0f : 127.0f / limit;
    if (layout->format == WEIGHT_VSQ4Z) {
        int32_t sum = kernels->quantize(x, cols, inverse, out);
        *start = (int32_t)(0u - 128u * (uint32_t)sum); /* sums of products wrap as well */
        int64_t inputs = layout->vectors * VSQ4Z_VECTOR, padded = round_up(cols, 16);
        memset(out + padded, 0, (size_t)(inputs - padded));
        if (kernels->vector_sums)
            kernels->vector_sums(out, layout->vectors,
                                 (int16_t *)(memory + layout->vector_sum_at) + i * layout->vectors);
        return;
    }
    for (int64_t at = 0; at < cols; at += W8_GROUP, start += layout->padded) {
        int64_t count = cols - at < W8_GROUP ? cols - at : W8_GROUP;
        *start = -128 * kernels->quantize(x + at, count, inverse, out + at);
    }
}

static void prepare_row(const struct cpu_backend *backend, const struct weight *w,
                        const struct rows_source *source, const struct rows_layout *layout,
                        char *memory, int32_t i, float *norm_row)
{
    const struct tensor *tensor = source->x;
    const float *x = tensor->data + (source->index ? source->index[i] : i) * tensor->stride;
    char *out = memory + i * layout->stride;
    if (w->format == WEIGHT_NATIVE) {
        if (source->norm)
            backend->kernels->rmsnorm(x, source->norm, w->cols, source->eps, (float *)out);
        else
            memcpy(out, x, (size_t)w->cols * sizeof(float));
        return;
    }
    if (source->norm)
        backend->kernels->rmsnorm(x, source->norm, w->cols, source->eps, norm_row);
    else
        memcpy(norm_row, x, (size_t)round_up(w->cols, 16) * sizeof(float));
    quantize_row(backend->kernels, norm_row, w->cols, layout, memory, i);
}

static struct activations rows_view(const struct weight *w, const struct rows_source *source,
                                    const struct rows_layout *layout, const char *memory)
{
    if (!rows_need_preparing(w, source))
        return (struct activations){.f32 = source->x->data, .f32_stride = source->x->stride};
    if (w->format == WEIGHT_NATIVE)
        return (struct activations){.f32 = (const float *)memory, .f32_stride = layout->stride / 4};
    return (struct activations){.q8 = (const int8_t *)memory,
                                .q8_stride = layout->stride,
                                .scale = (const float *)(memory + layout->scale_at),
                                .start = (const int32_t *)(memory + layout->start_at),
                                .start_stride = layout->padded,
                                .vector_sum = (const int16_t *)(memory + layout->vector_sum_at),
                                .vector_stride = layout->vectors,
                                .outliers =
                                    (const struct outliers *)(memory + layout->outliers_at)};
}

/* --- one product over the pool */

struct linear_job {
    struct cpu_backend *backend;
    struct rows_source source;
    struct rows_layout layout;
    struct product product;
    enum step_stage stage;
    bool private_rows, expand;
    int64_t unit_panels, panel_units; /* panels of a unit, units along the panels */
    int64_t unit_rows, row_units;
    const struct head_job
        *heads; /* QKV: units are whole heads, finished where they were computed */
    int64_t units;
    _Atomic int64_t pieces; /* of rows to prepare, taken behind the members' first ones */
};

/* The members prepare a piece of the rows each, then whoever is free the next ones, and meet: all
 * rows are needed by everybody. */
static void prepare_together(struct linear_job *job, int member, int members)
{
    struct cpu_backend *backend = job->backend;
    int64_t rows = job->source.count, each = (rows + members - 1) / members;
    if (each > SHARED_ROWS) each = SHARED_ROWS;
    int64_t pieces = (rows + each - 1) / each, piece = member;
    while (piece < pieces) {
        int64_t row = piece * each, end = row + each < rows ? row + each : rows;
        for (; row < end; row++)
            prepare_row(backend, job->product.w, &job->source, &job->layout, backend->shared,
                        (int32_t)row, backend->scratch[member].norm_row);
        piece = pieces;
        if (pieces > members)
            piece = members + atomic_fetch_add_explicit(&job->pieces, 1, memory_order_relaxed);
    }
    stage_end(backend, member, STEP_PREPARE);
    thread_pool_meet(backend->pool);
    stage_end(backend, member, STEP_WAIT);
}

typedef void product_fn(const struct product *p, int64_t panel, int panels, int64_t row, int rows);

/* The tile function of a product, and rows of its largest tile. */
static product_fn *tile_of(const struct cpu_kernels *kernels, const struct product *p,
                           int64_t *most)
{
    switch (p->w->format) {
    case WEIGHT_NATIVE:
        *most = kernels->native_rows;
        return kernels->product_native;
    case WEIGHT_W8:
        *most = kernels->w8_rows;
        return kernels->product_w8;
    case WEIGHT_VSQ4Z:
        *most = p->expanded[0] ? kernels->expanded_rows : kernels->vsq4z_rows;
        return kernels->product_vsq4z;
    }
    die("a weight of format %d", (int)p->w->format);
}

/* Whether a product's panels are expanded before its tiles read them. */
static bool expands(const struct cpu_kernels *kernels, const struct weight *w, int64_t rows)
{
    return w->format == WEIGHT_VSQ4Z && rows > kernels->vsq4z_rows && kernels->expand_vsq4z;
}

/* Register tiles over panels [panel, panel_end) and rows [row, row_end), two panels at a time, rows
 * in tiles of nearly equal size. `expanded`: a place for two expanded panels, or NULL. */
static void unit_tiles(const struct cpu_kernels *kernels, struct product p, int64_t panel,
                       int64_t panel_end, int64_t row, int64_t row_end, unsigned char *expanded)
{
    if (expanded) {
        p.expanded[0] = expanded;
        p.expanded[1] = expanded + vsq4z_expanded_bytes(p.w->cols);
    }
    int64_t most;
    product_fn *tile = tile_of(kernels, &p, &most);
    int64_t tiles = (row_end - row + most - 1) / most;
    for (; panel < panel_end; panel += 2) {
        int panels = panel + 2 <= panel_end ? 2 : 1;
        for (int c = 0; expanded && c < panels; c++)
            kernels->expand_vsq4z(p.w, panel + c, (unsigned char *)p.expanded[c]);
        int64_t at = row;
        for (int64_t left = tiles; left > 0; left--) {
            int rows = (int)((row_end - at + left - 1) / left);
            tile(&p, panel, panels, at, rows);
            at += rows;
        }
    }
}

/* Where a member's share of the units begins. */
static int64_t share_begin(const struct linear_job *job, int64_t member)
{
    return job->units * member / job->backend->members;
}

/* The next units, up to *end: from the own share first, which is one stretch of weights, then from
 * those of others. False when nothing is left. */
static bool take_units(const struct linear_job *job, int member, int64_t *unit, int64_t *end)
{
    int members = job->backend->members;
    for (int i = 0; i < members; i++) {
        int owner = (member + i) % members;
        int64_t begin = share_begin(job, owner), size = share_begin(job, owner + 1) - begin;
        if (!share_take(job->backend, owner, size, true, unit, end)) continue;
        *unit += begin;
        *end += begin;
        return true;
    }
    return false;
}

static void run_unit(const struct linear_job *job, const struct product *p, int64_t unit,
                     int member)
{
    int64_t column = unit / job->row_units;
    int64_t panel = column * job->unit_panels, panel_end = panel + job->unit_panels;
    if (panel_end > p->w->panels) panel_end = p->w->panels;
    int64_t row = unit % job->row_units * job->unit_rows, row_end = row + job->unit_rows;
    if (row_end > job->source.count) row_end = job->source.count;
    if (job->heads && job->source.count <= FETCHED_ROWS)
        for (int64_t r = row; r < row_end; r++)
            heads_fetch(job->backend, job->heads, (int32_t)r, (int32_t)column);
    unit_tiles(job->backend->kernels, *p, panel, panel_end, row, row_end,
               job->expand ? (unsigned char *)job->backend->scratch[member].expanded : NULL);
    if (!job->heads) return;
    stage_end(job->backend, member, job->stage);
    for (; row < row_end; row++)
        heads_finish(job->backend, job->heads, (int32_t)row, p->out + row * p->out_stride,
                     (int32_t)column, (int32_t)column + 1);
    stage_end(job->backend, member, STEP_HEADS);
}

static void run_units(void *argument, int member, int members)
{
    struct linear_job *job = argument;
    struct product p = job->product;
    if (job->private_rows) {
        struct member_scratch *own = &job->backend->scratch[member];
        for (int32_t i = 0; i < job->source.count; i++)
            prepare_row(job->backend, p.w, &job->source, &job->layout, own->activations, i,
                        own->norm_row);
        p.in = rows_view(p.w, &job->source, &job->layout, own->activations);
        stage_end(job->backend, member, STEP_PREPARE);
    } else if (rows_need_preparing(p.w, &job->source)) {
        prepare_together(job, member, members);
    }
    int64_t unit, end;
    while (take_units(job, member, &unit, &end))
        for (; unit < end; unit++)
            run_unit(job, &p, unit, member);
    stage_end(job->backend, member, job->stage);
}

/* unit_panels is given by the caller for QKV (a head); else pairs of panels, or more where there
 * are plenty. Rows are cut only when the panels alone make too few units. */
static void plan_units(struct linear_job *job)
{
    int64_t rows = job->source.count, wanted = (int64_t)job->backend->members * UNITS_PER_MEMBER;
    if (!job->unit_panels) job->unit_panels = 2;
    job->panel_units = (job->product.w->panels + job->unit_panels - 1) / job->unit_panels;
    int64_t tile;
    tile_of(job->backend->kernels, &job->product, &tile);
    if (job->expand) tile = job->backend->kernels->expanded_rows;
    int64_t row_units = (wanted + job->panel_units - 1) / job->panel_units;
    job->unit_rows = round_up((rows + row_units - 1) / row_units, tile);
    job->row_units = (rows + job->unit_rows - 1) / job->unit_rows;
    job->units = job->panel_units * job->row_units;
}

static void run_product(struct linear_job *job)
{
    struct cpu_backend *backend = job->backend;
    const struct weight *w = job->product.w;
    int32_t rows = job->source.count;
    if (rows == 0) return;
    invariant(job->source.x->cols == w->cols, "activations of %lld columns, weights of %lld inputs",
              (long long)job->source.x->cols, (long long)w->cols);
    job->layout = rows_layout(w->format, w->cols, rows);
    job->private_rows = rows <= PRIVATE_ROWS && rows_need_preparing(w, &job->source);
    job->expand = expands(backend->kernels, w, rows);
    for (int i = 0; i < backend->members; i++) {
        struct member_scratch *own = &backend->scratch[i];
        if (job->expand)
            own->expanded = scratch_reserve(own->expanded, &own->expanded_bytes,
                                            2 * vsq4z_expanded_bytes(w->cols));
        size_t norm_bytes = (size_t)round_up(w->cols, 16) * sizeof(float);
        own->norm_row = scratch_reserve(own->norm_row, &own->norm_row_bytes, norm_bytes);
        if (job->private_rows)
            own->activations =
                scratch_reserve(own->activations, &own->activations_bytes, job->layout.bytes);
    }
    if (!job->private_rows) {
        if (rows_need_preparing(w, &job->source)) {
            backend->shared =
                scratch_reserve(backend->shared, &backend->shared_bytes, job->layout.bytes);
        }
        job->product.in = rows_view(w, &job->source, &job->layout, backend->shared);
    }
    plan_units(job);
    shares_begin(backend);
    thread_pool_run(backend->pool, run_units, job);
    stage_end(backend, 0, STEP_WAIT);
}

/* --- the operators */

static const float *vector_of(const struct tensor *tensor)
{
    return tensor ? tensor->data : NULL;
}

struct embed_job {
    const struct cpu_backend *backend;
    const struct weight *table;
    struct tensor *x;
};

static void embed_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct embed_job *job = argument;
    for (int64_t row = begin; row < end; row++)
        weight_row(job->table, job->backend->input->tokens[row],
                   job->x->data + row * job->x->stride);
}

void cpu_embed(struct backend *backend, const struct weight *table, struct tensor *x)
{
    struct cpu_backend *cpu = cpu_of(backend);
    invariant(x->cols == table->cols, "x has %lld columns, the embedding %lld", (long long)x->cols,
              (long long)table->cols);
    struct embed_job job = {cpu, table, x};
    thread_pool_for(cpu->pool, cpu->input->rows, 8, embed_rows, &job);
    stage_end(cpu, 0, STEP_EMBED);
}

struct finish_job {
    struct cpu_backend *backend;
    const struct head_job *heads;
    int64_t stride;
};

static void finish_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct finish_job *job = argument;
    int32_t heads = job->heads->shape->heads + 2 * job->heads->shape->kv_heads;
    for (int64_t row = begin; row < end; row++)
        heads_finish(job->backend, job->heads, (int32_t)row, job->backend->qkv + row * job->stride,
                     0, heads);
}

void cpu_norm_qkv(struct backend *backend, const struct attention_shape *shape,
                  const struct tensor *x, const struct tensor *norm, float eps,
                  const struct weight *wqkv, const struct tensor *bias, const struct tensor *q_norm,
                  const struct tensor *k_norm, struct kv_pool *pool, int32_t layer,
                  struct tensor *q)
{
    struct cpu_backend *cpu = cpu_of(backend);
    int32_t rows = cpu->input->rows, heads = shape->heads + 2 * shape->kv_heads;
    invariant(wqkv->outputs == (int64_t)heads * shape->head_dim,
              "wqkv has %lld outputs for %d heads", (long long)wqkv->outputs, heads);
    rope_prepare(cpu, shape);
    int64_t stride = row_stride(wqkv->panels * PANEL * 4) / 4;
    cpu->qkv = scratch_reserve(cpu->qkv, &cpu->qkv_bytes, (size_t)(rows * stride) * sizeof(float));
    struct head_job finish = {.shape = shape,
                              .bias = vector_of(bias),
                              .q_norm = vector_of(q_norm),
                              .k_norm = vector_of(k_norm),
                              .pool = pool,
                              .layer = layer,
                              .q = q};
    struct linear_job job = {
        .backend = cpu,
        .source = {.x = x, .norm = vector_of(norm), .eps = eps, .count = rows},
        .product = {.w = wqkv, .out = cpu->qkv, .out_stride = stride},
        .stage = STEP_QKV,
    };
    bool whole_panels = shape->head_dim % PANEL == 0;
    if (whole_panels) {
        job.heads = &finish;
        job.unit_panels = shape->head_dim / PANEL;
    }
    run_product(&job);
    if (whole_panels) return;
    struct finish_job rest = {cpu, &finish, stride};
    thread_pool_for(cpu->pool, rows, 1, finish_rows, &rest);
    stage_end(cpu, 0, STEP_HEADS);
}

void cpu_linear_add(struct backend *backend, const struct weight *w, const struct tensor *in,
                    struct tensor *x)
{
    struct cpu_backend *cpu = cpu_of(backend);
    invariant(x->cols == w->outputs, "x has %lld columns, the product %lld", (long long)x->cols,
              (long long)w->outputs);
    struct linear_job job = {
        .backend = cpu,
        .source = {.x = in, .count = cpu->input->rows},
        .product = {.w = w, .epilogue = EPILOGUE_ADD, .out = x->data, .out_stride = x->stride},
        .stage = cpu->projection,
    };
    run_product(&job);
}

void cpu_norm_gate_up(struct backend *backend, const struct tensor *x, const struct tensor *norm,
                      float eps, const struct weight *w_gate_up, struct tensor *out)
{
    struct cpu_backend *cpu = cpu_of(backend);
    invariant(w_gate_up->paired && out->cols == w_gate_up->outputs,
              "gate and up make %lld columns, out has %lld", (long long)w_gate_up->outputs,
              (long long)out->cols);
    struct linear_job job = {
        .backend = cpu,
        .source = {.x = x, .norm = vector_of(norm), .eps = eps, .count = cpu->input->rows},
        .product = {.w = w_gate_up,
                    .epilogue = EPILOGUE_SWIGLU,
                    .out = out->data,
                    .out_stride = out->stride},
        .stage = STEP_GATE_UP,
    };
    run_product(&job);
    cpu->projection = STEP_DOWN;
}

void cpu_norm_head(struct backend *backend, const struct tensor *x, const struct tensor *norm,
                   float eps, const struct weight *head, struct tensor *logits)
{
    struct cpu_backend *cpu = cpu_of(backend);
    invariant(logits->cols == head->outputs && logits->rows >= cpu->input->logit_count,
              "logits [%lld, %lld] for %d rows of %lld", (long long)logits->rows,
              (long long)logits->cols, cpu->input->logit_count, (long long)head->outputs);
    struct linear_job job = {
        .backend = cpu,
        .source = {.x = x,
                   .norm = vector_of(norm),
                   .eps = eps,
                   .index = cpu->input->logit_rows,
                   .count = cpu->input->logit_count},
        .product = {.w = head, .out = logits->data, .out_stride = logits->stride},
        .stage = STEP_HEAD,
    };
    run_product(&job);
}
