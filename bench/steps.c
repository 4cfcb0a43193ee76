/* espalier bench: decode steps and prefill, each beside its floor.
 *
 * Decode: R sequences with a context of `depth` tokens each, every step through the executor that
 * serves (forward pass, greedy sampling, hand-out). Prefill: one prompt, in steps of at most
 * --prefill-chunk. The floor of a step is what no program on this machine could beat: max(bytes
 * read / bandwidth, product operations / int8 or f32 rate + attention operations / f32 rate) with
 * bandwidth and rates measured at the start of the run (bench/roof.h).
 */
#include "bench/measure.h"
#include "base/progress.h"
#include "model/load_options.h"

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
    int64_t start = clock_now(&b->clock);
    enum status status = b->executor.ops->submit(b->executor.self, &plan, &ticket, &err);
    if (!status) status = b->executor.ops->collect(b->executor.self, ticket, b->results, &err);
    invariant(!status, "a benchmark step failed: %s", err.text);
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

/* --- floors
 * ----------------------------------------------------------------------------------------- */

/* Weights multiplied per token: the head only for rows whose logits are wanted. */
static double floor_ms(const struct bench *b, double tokens, double logit_rows, double mean_context,
                       double kv_reads)
{
    const struct model_config *c = model_config(b->model);
    double head = (double)c->hidden * c->vocab;
    double all = (double)model_weight_count(b->model);
    double body = all - head * (c->tied ? 1 : 2);
    double byte_share = (double)model_weight_bytes(b->model) / all;
    double kv_width = b->options.kv_type == DT_F32 ? 4 : 2;
    double kv_token = 2 * kv_width * c->layers * c->kv_heads * c->head_dim;
    double bytes = (body + head) * byte_share + kv_reads * kv_token;
    double products = 2 * (body * tokens + head * logit_rows);
    double attention = 4.0 * c->layers * c->heads * c->head_dim * mean_context * tokens;
    double rate = b->options.weights == WEIGHT_W8 ? b->roof.int8_ops_per_s : b->roof.f32_ops_per_s;
    double by_bytes = bytes / b->roof.bytes_per_s;
    double by_operations = products / rate + attention / b->roof.f32_ops_per_s;
    return 1e3 * (by_bytes > by_operations ? by_bytes : by_operations);
}

/* --- the two measurements
 * ----------------------------------------------------------------------------- */

static json_t *measure_decode(struct bench *b, int32_t rows)
{
    int32_t depth = (int32_t)b->o->depth, steps = (int32_t)b->o->steps, at = 0;
    int32_t samples = steps * (int32_t)b->o->repeats;
    double *times = must_alloc((size_t)samples * sizeof *times);
    for (int32_t s = 0; s < rows; s++)
        run_prefill(b, s, depth, false);
    for (int32_t repeat = 0; repeat < b->o->repeats; repeat++) {
        for (int32_t step = 0; step < steps; step++) {
            for (int32_t s = 0; s < rows; s++)
                fill_row(b, s, depth + step, 1, true);
            times[at++] = run_step(b, b->rows, rows);
        }
    }
    double context = depth + steps / 2.0;
    double middle = bench_median(times, samples), best = times[0];
    double least = floor_ms(b, rows, rows, context, context * rows);
    free(times);
    return json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "rows", rows, "depth", depth, "step_ms",
                     middle, "best_ms", best, "tokens_per_s", 1e3 * rows / middle, "floor_ms",
                     least, "of_floor", middle / least);
}

static json_t *measure_prefill(struct bench *b, int32_t tokens)
{
    int32_t repeats = (int32_t)b->o->repeats;
    double *times = must_alloc((size_t)repeats * sizeof *times);
    for (int32_t i = 0; i < repeats; i++)
        times[i] = run_prefill(b, 0, tokens, true);
    double middle = bench_median(times, repeats), best = times[0];
    double least = floor_ms(b, tokens, 1, tokens / 2.0, 0);
    free(times);
    return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f}", "tokens", tokens, "ms", middle, "best_ms",
                     best, "tokens_per_s", 1e3 * tokens / middle, "floor_ms", least, "of_floor",
                     middle / least);
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
    enum status status = model_load(&b->options, &b->model, err);
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

void print_steps(const json_t *doc)
{
    json_t *row;
    size_t i;
    printf("%s, %s, %s weights, ", json_string_value(json_object_get(doc, "model")),
           json_string_value(json_object_get(doc, "backend")),
           json_string_value(json_object_get(doc, "weights")));
    print_roof_words(doc);
    printf("\n%-10s %10s %10s %12s %10s %9s\n", "", "ms", "best ms", "tokens/s", "floor ms",
           "of floor");
    json_array_foreach(json_object_get(doc, "decode"), i, row)
    {
        char name[32];
        snprintf(name, sizeof name, "decode %lld",
                 json_integer_value(json_object_get(row, "rows")));
        printf("%-10s %10.3f %10.3f %12.1f %10.3f %8.2fx\n", name,
               json_real_value(json_object_get(row, "step_ms")),
               json_real_value(json_object_get(row, "best_ms")),
               json_real_value(json_object_get(row, "tokens_per_s")),
               json_real_value(json_object_get(row, "floor_ms")),
               json_real_value(json_object_get(row, "of_floor")));
    }
    json_array_foreach(json_object_get(doc, "prefill"), i, row)
    {
        char name[32];
        snprintf(name, sizeof name, "prefill %lld",
                 json_integer_value(json_object_get(row, "tokens")));
        printf("%-10s %10.1f %10.1f %12.1f %10.1f %8.2fx\n", name,
               json_real_value(json_object_get(row, "ms")),
               json_real_value(json_object_get(row, "best_ms")),
               json_real_value(json_object_get(row, "tokens_per_s")),
               json_real_value(json_object_get(row, "floor_ms")),
               json_real_value(json_object_get(row, "of_floor")));
    }
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
