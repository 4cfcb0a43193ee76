/* espalier bench: decode steps and prefill, each beside its floor.
 *
 * Decode: R sequences with a context of `depth` tokens each, every step through the executor that
 * serves (forward pass, greedy sampling, hand-out). Prefill: one prompt, in steps of at most
 * --prefill-chunk. The floor of a step is what no program on this machine could beat: max(bytes
 * read / bandwidth, product operations / int8 or f32 rate + other operations / f32 rate) with
 * bandwidth and rates measured at the start of the run (bench/roof.h). --stages: each stage of the
 * step beside its own floor (bench/stages.h), in measurements of their own behind the others.
 */
#include "bench/measure.h"
#include "base/progress.h"
#include "bench/stages.h"
#include "model/load_options.h"
#include "quant/checkpoint/load_cache.h"

#include <stdio.h>
#include <stdlib.h>

struct bench {
    const struct bench_options *o;
    struct model *model;
    struct executor executor;
    struct roof roof;
    struct model_options options;
    struct clock clock;
    int32_t *blocks; /* the pool's numbers, ascending: sequence s owns a run of them */
    int32_t blocks_each;
    struct kv_span *spans;
    struct plan_row *rows;
    struct row_result *results;
    int32_t *tokens; /* [rows, longest] */
    int32_t max_rows, longest;
    struct sample_spec greedy;
    struct step_clock stages; /* of the step in work, where it is asked for */
};

static void fill_row(struct bench *b, int32_t sequence, int32_t first, int32_t count, bool sample)
{
    struct kv_span *span = &b->spans[sequence];
    *span = (struct kv_span){b->blocks + (int64_t)sequence * b->blocks_each, 0, first + count, 0};
    b->rows[sequence] =
        (struct plan_row){.sequence = (uint64_t)sequence,
                          .tokens = b->tokens + (int64_t)sequence * b->longest + first,
                          .count = count,
                          .previous_row = -1,
                          .first_position = first,
                          .view = {span, 1, first + count},
                          .sample = sample ? &b->greedy : NULL};
}

/* Runs rows [0, count) as one step; returns its milliseconds. */
static double run_step(struct bench *b, const struct plan_row *rows, int32_t count)
{
    struct step_plan plan = {.rows = rows, .row_count = count};
    struct error err = {0};
    uint64_t ticket;
    for (int32_t i = 0; i < count; i++)
        plan.token_count += rows[i].count;
    step_clock_start(&b->stages);
    int64_t start = clock_now(&b->clock);
    enum status status = b->executor.ops->submit(b->executor.self, &plan, &ticket, &err);
    if (!status) status = b->executor.ops->collect(b->executor.self, ticket, b->results, &err);
    invariant(!status, "a benchmark step failed: %s", err.text);
    step_clock_mark(&b->stages, STEP_SAMPLE); /* what is behind the head's products */
    return (double)(clock_now(&b->clock) - start) / 1e3;
}

/* Computes tokens [0, length) of one sequence in chunks; returns milliseconds. */
static double run_prefill(struct bench *b, int32_t sequence, int32_t length, bool sample)
{
    double total = 0;
    for (int32_t at = 0; at < length; at += (int32_t)b->o->chunk) {
        int32_t count = min_i32((int32_t)b->o->chunk, length - at);
        fill_row(b, sequence, at, count, sample && at + count == length);
        total += run_step(b, &b->rows[sequence], 1);
    }
    return total;
}

/* --- the two measurements
 * ----------------------------------------------------------------------------- */

static void stages_on(struct bench *b, bool on)
{
    b->stages = (struct step_clock){0};
    model_step_clock(b->model, on ? &b->stages : NULL);
}

/* Decode steps of `rows` sequences: their milliseconds, or where their time goes. */
static int32_t decode_steps(struct bench *b, int32_t rows, double *times,
                            struct stage_times *stages)
{
    int32_t depth = (int32_t)b->o->depth, at = 0;
    for (int32_t repeat = 0; repeat < b->o->repeats; repeat++)
        for (int32_t step = 0; step < b->o->steps; step++) {
            for (int32_t s = 0; s < rows; s++)
                fill_row(b, s, depth + step, 1, true);
            stages_on(b, stages);
            times[at++] = run_step(b, b->rows, rows);
            if (stages) stage_times_add(stages, &b->stages);
        }
    return at;
}

static int32_t prefills(struct bench *b, int32_t tokens, double *times, struct stage_times *stages)
{
    int32_t repeats = (int32_t)b->o->repeats;
    for (int32_t i = 0; i < repeats; i++) {
        stages_on(b, stages);
        times[i] = run_prefill(b, 0, tokens, true);
        if (stages) stage_times_add(stages, &b->stages);
    }
    return repeats;
}

typedef int32_t (*measuring)(struct bench *b, int32_t size, double *times,
                             struct stage_times *stages);

/* What both have in common: `name` says in the document what `size` counts. */
static json_t *measure(struct bench *b, measuring run, const char *name, int32_t size,
                       double tokens, int32_t samples, struct step_work work)
{
    double *times = must_alloc((size_t)samples * sizeof *times);
    struct step_costs costs = step_costs(b->model, b->options.kv_type, work);
    double middle = bench_median(times, run(b, size, times, NULL)), best = times[0];
    double least = step_floor_ms(&costs, &b->roof);
    json_t *row = json_pack("{s:i, s:f, s:f, s:f, s:f, s:f}", name, size, "ms", middle, "best_ms",
                            best, "tokens_per_s", 1e3 * tokens / middle, "floor_ms", least,
                            "of_floor", middle / least);
    if (b->o->stages) {
        struct stage_times stages = stage_times_create(samples);
        run(b, size, times, &stages);
        json_object_set_new(row, "stages", stages_to_json(&stages, &costs, &b->roof));
        stage_times_free(&stages);
        stages_on(b, false);
    }
    free(times);
    return row;
}

static json_t *measure_decode(struct bench *b, int32_t rows)
{
    int32_t depth = (int32_t)b->o->depth, steps = (int32_t)b->o->steps;
    double context = depth + steps / 2.0;
    struct step_work work = {rows, rows, context, context * rows};
    for (int32_t s = 0; s < rows; s++)
        run_prefill(b, s, depth, false);
    json_t *row =
        measure(b, decode_steps, "rows", rows, rows, steps * (int32_t)b->o->repeats, work);
    json_object_set_new(row, "depth", json_integer(depth));
    json_object_set(row, "step_ms", json_object_get(row, "ms"));
    return row;
}

static json_t *measure_prefill(struct bench *b, int32_t tokens)
{
    struct step_work work = {tokens, 1, tokens / 2.0, 0};
    return measure(b, prefills, "tokens", tokens, tokens, (int32_t)b->o->repeats, work);
}

static enum status prepare(struct bench *b, struct error *err)
{
    const struct bench_options *o = b->o;
    int64_t prompt = 1;
    b->max_rows = 1;
    for (int i = 0; i < o->rows.count; i++)
        b->max_rows = max_i32(b->max_rows, (int32_t)o->rows.values[i]);
    for (int i = 0; i < o->prompts.count; i++)
        prompt = o->prompts.values[i] > prompt ? o->prompts.values[i] : prompt;
    b->longest = (int32_t)(o->depth + o->steps > prompt ? o->depth + o->steps : prompt);
    b->blocks_each = (b->longest + BLOCK_SLOTS - 1) / BLOCK_SLOTS;
    b->options.max_rows = b->max_rows;
    b->options.max_tokens = max_i32((int32_t)o->chunk, b->max_rows);
    b->options.context = b->longest;
    b->options.kv_blocks = b->max_rows * b->blocks_each;
    b->options.progress = true;
    enum status status = load_cache_model(&b->options, &b->model, err);
    if (status) return status;
    b->executor = model_executor(b->model);
    int64_t block_count = (int64_t)b->max_rows * b->blocks_each;
    b->blocks = must_alloc((size_t)block_count * sizeof *b->blocks);
    for (int32_t i = 0; i < block_count; i++)
        b->blocks[i] = i;
    size_t rows = (size_t)b->max_rows;
    b->spans = must_alloc(rows * sizeof *b->spans);
    b->rows = must_alloc(rows * sizeof *b->rows);
    b->results = must_alloc(rows * sizeof *b->results);
    b->tokens = must_alloc(rows * (size_t)b->longest * sizeof *b->tokens);
    struct rng rng = {1};
    for (int64_t i = 0; i < (int64_t)b->max_rows * b->longest; i++)
        b->tokens[i] = (int32_t)rng_below(&rng, (uint64_t)model_config(b->model)->vocab);
    return ST_OK;
}

static void release(struct bench *b)
{
    model_free(b->model);
    free(b->blocks);
    free(b->spans);
    free(b->rows);
    free(b->results);
    free(b->tokens);
}

/* --- report
 * ------------------------------------------------------------------------------------------- */

static void print_row(const char *name, const json_t *row, int digits)
{
    printf("%-12s %10.*f %10.*f %12.1f %10.*f %8.2fx\n", name, digits,
           json_real_value(json_object_get(row, "ms")), digits,
           json_real_value(json_object_get(row, "best_ms")),
           json_real_value(json_object_get(row, "tokens_per_s")), digits,
           json_real_value(json_object_get(row, "floor_ms")),
           json_real_value(json_object_get(row, "of_floor")));
}

/* Of each measurement a line, or the stages where it has them. */
static void print_rows(const json_t *doc, const char *kind, const char *size, int digits,
                       bool stages)
{
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(doc, kind), i, row)
    {
        char name[32];
        snprintf(name, sizeof name, "%s %lld", kind,
                 json_integer_value(json_object_get(row, size)));
        const json_t *list = json_object_get(row, "stages");
        if (!stages)
            print_row(name, row, digits);
        else if (list)
            print_stages(name, list);
    }
}

void print_steps(const json_t *doc)
{
    printf("%s, %s, %s weights, ", json_string_value(json_object_get(doc, "model")),
           json_string_value(json_object_get(doc, "backend")),
           json_string_value(json_object_get(doc, "weights")));
    print_roof_words(doc);
    printf("\n%-12s %10s %10s %12s %10s %9s\n", "", "ms", "best ms", "tokens/s", "floor ms",
           "of floor");
    print_rows(doc, "decode", "rows", 3, false);
    print_rows(doc, "prefill", "tokens", 1, false);
    print_rows(doc, "decode", "rows", 3, true);
    print_rows(doc, "prefill", "tokens", 1, true);
    print_below_floor(doc);
}

static json_t *measure_all(struct bench *b)
{
    const struct bench_options *o = b->o;
    struct progress bar;
    json_t *decode = json_array(), *prefill = json_array();
    int done = 0;
    progress_begin(&bar, "measuring", o->rows.count + o->prompts.count);
    for (int i = 0; i < o->rows.count; i++) {
        json_array_append_new(decode, measure_decode(b, (int32_t)o->rows.values[i]));
        progress_update(&bar, ++done);
    }
    for (int i = 0; i < o->prompts.count; i++) {
        json_array_append_new(prefill, measure_prefill(b, (int32_t)o->prompts.values[i]));
        progress_update(&bar, ++done);
    }
    progress_end(&bar);
    json_t *doc = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:I}", "command", "bench", "version",
        ESPALIER_VERSION, "model", model_config(b->model)->name, "backend",
        model_backend_name(b->model), "weights", weight_format_name(model_weights(b->model)),
        "kv_type", dtype_name(b->options.kv_type), "threads", b->options.threads, "weight_bytes",
        (json_int_t)model_weight_bytes(b->model), "prefill_chunk", (json_int_t)o->chunk);
    roof_to_json(&b->roof, doc);
    json_object_set_new(doc, "decode", decode);
    json_object_set_new(doc, "prefill", prefill);
    return doc;
}

enum status measure_steps(const struct bench_options *o, json_t **out, struct error *err)
{
    struct bench b = {.o = o, .options = model_options_default(), .clock = clock_monotonic()};
    struct bench_machine machine;
    enum status status = load_options_resolve(&o->load, &b.options, err);
    if (!status) status = bench_machine_open(o, &machine, err);
    if (status) return status;
    b.options.threads = thread_pool_size(machine.pool);
    b.roof = machine.roof;
    thread_pool_free(machine.pool);
    status = prepare(&b, err);
    if (!status) *out = measure_all(&b);
    release(&b);
    return status;
}
