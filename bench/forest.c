/* espalier bench --forest: attention alone, over branches of one prefix and over strangers.
 *
 * A step of R decode rows through every layer of a model's shape, K and V of all layers in memory:
 * once with views of one prefix and a few tokens of their own, once with as many tokens each in
 * blocks of their own. The floor is max(bytes / bandwidth, operations / f32 rate): the bytes of
 * every block that is in some row's view, once; the operations of scores and weighted values, which
 * sharing does not save. The roof is measured before and after, and the better one counts, so that
 * a machine that was busy for a moment does not make a low floor.
 */
#include "bench/measure.h"
#include "base/progress.h"
#include "kernels/cpu/attention_plan.h" /* what a step reads is known to the plan alone */
#include "model/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN_SLOTS     32 /* of a branch, or behind the prefix's length of a stranger */
#define PATTERN_BYTES ((size_t)1 << 20)

struct forest_bench {
    struct model_config config;
    enum dtype kv_type;
    int32_t rows, depth, repeats;
    struct bench_machine machine;
    struct backend *backend;
    struct kv_pool *pool;
    struct tensor *q, *out;
    int32_t *blocks; /* the pool's numbers, ascending */
    struct attention_span *spans;
    struct attention_sequence *sequences;
    struct step_input input;
};

/* --- views */

static int32_t blocks_of(int32_t slots)
{
    return (slots + BLOCK_SLOTS - 1) / BLOCK_SLOTS;
}

static void view_branches(struct forest_bench *b)
{
    for (int32_t row = 0; row < b->rows; row++) {
        int32_t own = blocks_of(b->depth) + row * blocks_of(OWN_SLOTS);
        b->spans[2 * row] = (struct attention_span){b->blocks, 0, b->depth};
        b->spans[2 * row + 1] = (struct attention_span){b->blocks + own, 0, OWN_SLOTS};
        b->sequences[row].span_count = 2;
    }
}

static void view_strangers(struct forest_bench *b)
{
    for (int32_t row = 0; row < b->rows; row++) {
        int32_t own = row * blocks_of(b->depth + OWN_SLOTS);
        b->spans[2 * row] = (struct attention_span){b->blocks + own, 0, b->depth + OWN_SLOTS};
        b->sequences[row].span_count = 1;
    }
}

/* --- a step */

static double run_step(struct forest_bench *b)
{
    struct attention_shape shape = {
        .heads = b->config.heads, .kv_heads = b->config.kv_heads, .head_dim = b->config.head_dim};
    struct clock clock = clock_monotonic();
    int64_t start = clock_now(&clock);
    b->backend->ops->step_begin(b->backend, &b->input);
    for (int32_t layer = 0; layer < b->config.layers; layer++)
        b->backend->ops->attention(b->backend, &shape, b->q, b->pool, layer, b->out);
    return (double)(clock_now(&clock) - start) / 1e3;
}

static double slot_bytes(const struct forest_bench *b)
{
    double width = b->kv_type == DT_F32 ? 4 : 2;
    return 2 * width * b->config.layers * b->config.kv_heads * b->config.head_dim;
}

/* `slots`: of all views together, each counted once. */
static json_t *measure_views(struct forest_bench *b, double slots)
{
    double *times = must_alloc((size_t)b->repeats * sizeof *times);
    run_step(b); /* takes the scratch memory */
    for (int32_t i = 0; i < b->repeats; i++)
        times[i] = run_step(b);
    double middle = bench_median(times, b->repeats), best = times[0];
    free(times);
    const struct attention_plan *plan = cpu_of(b->backend)->plan;
    double operations =
        4.0 * b->config.layers * b->config.heads * b->config.head_dim * (double)plan->slots_seen;
    return json_pack("{s:f, s:f, s:I, s:I, s:f, s:f, s:f}", "step_ms", middle, "best_ms", best,
                     "slots_read", (json_int_t)plan->slots_read, "slots_seen",
                     (json_int_t)plan->slots_seen, "kv_bytes_read",
                     (double)plan->slots_read * slot_bytes(b), "kv_bytes_least",
                     slots * slot_bytes(b), "operations", operations);
}

static void set_floor(const struct roof *roof, json_t *views)
{
    double bytes = json_number_value(json_object_get(views, "kv_bytes_least"));
    double operations = json_number_value(json_object_get(views, "operations"));
    double by_bytes = 1e3 * bytes / roof->bytes_per_s;
    double by_operations = 1e3 * operations / roof->f32_ops_per_s;
    double least = by_bytes > by_operations ? by_bytes : by_operations;
    json_object_set_new(views, "floor_bytes_ms", json_real(by_bytes));
    json_object_set_new(views, "floor_operations_ms", json_real(by_operations));
    json_object_set_new(views, "floor_ms", json_real(least));
    double middle = json_number_value(json_object_get(views, "step_ms"));
    json_object_set_new(views, "of_floor", json_real(middle / least));
}

/* --- life */

static enum status read_shape(struct forest_bench *b, const struct bench_options *o,
                              struct error *err)
{
    struct load_words words = o->load;
    struct model_options options = model_options_default();
    struct checkpoint *checkpoint;
    if (!words.model) words.model = "synthetic:smollm2-135m";
    enum status status = load_options_resolve(&words, &options, err);
    if (!status) status = checkpoint_open(words.model, &checkpoint, err);
    if (status) return status;
    b->config = *checkpoint_config(checkpoint);
    b->kv_type = options.kv_type;
    checkpoint_close(checkpoint);
    return ST_OK;
}

/* Pages that nobody wrote would all be one page of zeros, in the cache: writes every byte. */
static void fill_pool(struct kv_pool *pool)
{
    struct rng rng = {1};
    char *pattern = must_alloc(PATTERN_BYTES);
    for (size_t i = 0; i < PATTERN_BYTES / 4; i++) {
        float value = (float)(2 * rng_unit(&rng) - 1);
        uint16_t pair[2] = {float_to_bf16(value), float_to_bf16(-value)};
        memcpy(pattern + 4 * i, pool->type == DT_F32 ? (void *)&value : (void *)pair, 4);
    }
    for (size_t at = 0; at < pool->bytes; at += PATTERN_BYTES)
        memcpy(pool->data + at, pattern,
               pool->bytes - at < PATTERN_BYTES ? pool->bytes - at : PATTERN_BYTES);
    free(pattern);
}

static void fill_queries(struct forest_bench *b, int32_t width)
{
    struct rng rng = {2};
    float *row = must_alloc((size_t)width * sizeof *row);
    for (int32_t i = 0; i < b->rows; i++) {
        for (int32_t k = 0; k < width; k++)
            row[k] = (float)rng_normal(&rng);
        b->backend->ops->tensor_write(b->backend, b->q, i, row);
    }
    free(row);
}

static enum status prepare(struct forest_bench *b, const struct bench_options *o, struct error *err)
{
    const struct model_config *c = &b->config;
    int64_t blocks = (int64_t)b->rows * blocks_of(b->depth + OWN_SLOTS);
    enum status status = backend_cpu_create(b->machine.pool, b->machine.isa, !o->load.no_hugepages,
                                            &b->backend, err);
    if (status) return status;
    if (blocks <= INT32_MAX)
        b->pool = b->backend->ops->kv_create(b->backend, b->kv_type, c->layers, c->kv_heads,
                                             c->head_dim, (int32_t)blocks);
    if (!b->pool)
        return fail(err, ST_NO_MEMORY, "no memory for the K and V of %d rows of %d tokens: %.1f GB",
                    b->rows, b->depth, (double)blocks * BLOCK_SLOTS * slot_bytes(b) / 1e9);
    fill_pool(b->pool);
    b->q = b->backend->ops->tensor_create(b->backend, b->rows, c->heads * c->head_dim);
    b->out = b->backend->ops->tensor_create(b->backend, b->rows, c->heads * c->head_dim);
    if (!b->q || !b->out) return fail(err, ST_NO_MEMORY, "no memory for %d rows", b->rows);
    fill_queries(b, c->heads * c->head_dim);
    b->blocks = must_alloc((size_t)blocks * sizeof *b->blocks);
    for (int32_t i = 0; i < blocks; i++)
        b->blocks[i] = i;
    b->spans = must_alloc(2 * (size_t)b->rows * sizeof *b->spans);
    b->sequences = must_alloc((size_t)b->rows * sizeof *b->sequences);
    for (int32_t i = 0; i < b->rows; i++)
        b->sequences[i] = (struct attention_sequence){
            .first_row = i, .rows = 1, .context = b->depth + OWN_SLOTS, .spans = b->spans + 2 * i};
    b->input =
        (struct step_input){.rows = b->rows, .sequences = b->sequences, .sequence_count = b->rows};
    return ST_OK;
}

static void release(struct forest_bench *b)
{
    if (b->backend) {
        b->backend->ops->kv_free(b->backend, b->pool);
        b->backend->ops->tensor_free(b->backend, b->q);
        b->backend->ops->tensor_free(b->backend, b->out);
        b->backend->ops->free(b->backend);
    }
    thread_pool_free(b->machine.pool);
    free(b->blocks);
    free(b->spans);
    free(b->sequences);
}

static json_t *measure(struct forest_bench *b)
{
    view_branches(b);
    json_t *branches = measure_views(b, b->depth + (double)b->rows * OWN_SLOTS);
    view_strangers(b);
    json_t *strangers = measure_views(b, (double)b->rows * (b->depth + OWN_SLOTS));
    roof_raise(&b->machine.roof, roof_measure(b->machine.pool, b->machine.isa));
    set_floor(&b->machine.roof, branches);
    set_floor(&b->machine.roof, strangers);
    json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "command",
                            "bench --forest", "version", ESPALIER_VERSION, "model", b->config.name,
                            "backend", b->backend->ops->name, "kv_type", dtype_name(b->kv_type),
                            "threads", thread_pool_size(b->machine.pool), "rows", b->rows, "prefix",
                            b->depth, "own", OWN_SLOTS);
    roof_to_json(&b->machine.roof, doc);
    json_object_set_new(doc, "branches", branches);
    json_object_set_new(doc, "strangers", strangers);
    return doc;
}

enum status measure_forest(const struct bench_options *o, json_t **out, struct error *err)
{
    if (o->rows.count != 1) return fail(err, ST_USAGE, "--rows: one number with --forest");
    struct forest_bench b = {.rows = (int32_t)o->rows.values[0],
                             .depth = (int32_t)o->depth,
                             .repeats = (int32_t)(o->repeats * o->steps)};
    enum status status = read_shape(&b, o, err);
    if (!status) status = bench_machine_open(o, &b.machine, err);
    if (!status) status = prepare(&b, o, err);
    if (!status) *out = measure(&b);
    release(&b);
    return status;
}

static void print_views(const char *name, const json_t *views)
{
    printf("%-10s %10.3f %10.3f %10.1f %10.1f %10.3f %8.2fx\n", name,
           json_number_value(json_object_get(views, "step_ms")),
           json_number_value(json_object_get(views, "best_ms")),
           json_number_value(json_object_get(views, "kv_bytes_read")) / 1e6,
           json_number_value(json_object_get(views, "kv_bytes_least")) / 1e6,
           json_number_value(json_object_get(views, "floor_ms")),
           json_number_value(json_object_get(views, "of_floor")));
}

void print_forest(const json_t *doc)
{
    printf("attention of %s, %s, %s KV, ", json_string_value(json_object_get(doc, "model")),
           json_string_value(json_object_get(doc, "backend")),
           json_string_value(json_object_get(doc, "kv_type")));
    print_roof_words(doc);
    printf("%lld rows; prefix %lld tokens, and %lld of each row\n",
           json_integer_value(json_object_get(doc, "rows")),
           json_integer_value(json_object_get(doc, "prefix")),
           json_integer_value(json_object_get(doc, "own")));
    printf("\n%-10s %10s %10s %10s %10s %10s %9s\n", "", "ms", "best ms", "MB read", "least MB",
           "floor ms", "of floor");
    print_views("branches", json_object_get(doc, "branches"));
    print_views("strangers", json_object_get(doc, "strangers"));
}
