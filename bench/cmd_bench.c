/* espalier bench: how fast the engine computes, each figure beside its floor.
 *
 * Decode: R sequences with a context of `depth` tokens each, every step through the executor that
 * serves (forward pass, greedy sampling, hand-out). Prefill: one prompt, in steps of at most
 * --prefill-chunk. The floor of a step is what no program on this machine could beat: max(bytes
 * read / bandwidth, product operations / int8 or f32 rate + attention operations / f32 rate) with
 * bandwidth and rates measured at the start of the run (bench/roof.h).
 */
#include "bench/commands.h"
#include "bench/roof.h"
#include "base/progress.h"
#include "model/load_options.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench_options {
    struct load_words load;
    struct option_ints rows, prompts;
    int64_t depth, steps, repeats, chunk;
    bool json;
};

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

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int32_t count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
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
    double middle = median(times, samples), best = times[0];
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
    double middle = median(times, repeats), best = times[0];
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

static void print_table(const json_t *doc)
{
    json_t *row;
    size_t i;
    double gb = json_number_value(json_object_get(doc, "roof_gb_per_s"));
    printf("%s, %s, %s weights, %lld threads; roof %.1f GB/s, %.0f int8 Gop/s, %.0f f32 Gop/s\n",
           json_string_value(json_object_get(doc, "model")),
           json_string_value(json_object_get(doc, "backend")),
           json_string_value(json_object_get(doc, "weights")),
           json_integer_value(json_object_get(doc, "threads")), gb,
           json_number_value(json_object_get(doc, "roof_int8_gop_per_s")),
           json_number_value(json_object_get(doc, "roof_f32_gop_per_s")));
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
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:f, s:f, s:f, s:o, s:o}",
                     "command", "bench", "version", ESPALIER_VERSION, "model",
                     model_config(b->model)->name, "backend", model_backend_name(b->model),
                     "weights", weight_format_name(b->options.weights), "kv_type",
                     dtype_name(b->options.kv_type), "threads", b->options.threads, "weight_bytes",
                     (json_int_t)model_weight_bytes(b->model), "prefill_chunk",
                     (json_int_t)o->chunk, "roof_gb_per_s", b->roof.bytes_per_s / 1e9,
                     "roof_int8_gop_per_s", b->roof.int8_ops_per_s / 1e9, "roof_f32_gop_per_s",
                     b->roof.f32_ops_per_s / 1e9, "decode", decode, "prefill", prefill);
}

static enum status measure(const struct bench_options *o, struct error *err)
{
    struct bench b = {.o = o, .options = model_options_default(), .clock = clock_monotonic()};
    enum cpu_isa isa;
    enum status status = load_options_resolve(&o->load, &b.options, err);
    struct thread_pool *pool;
    if (!status) status = cpu_isa_select(&isa, err);
    if (!status) status = thread_pool_create(b.options.threads, &pool, err);
    if (status) return status;
    b.options.threads = thread_pool_size(pool);
    b.roof = roof_measure(pool, isa);
    thread_pool_free(pool);
    status = prepare(&b, err);
    if (!status) {
        json_t *doc = measure_all(&b);
        invariant(doc, "the result's JSON could not be made");
        if (o->json) {
            json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
            putchar('\n');
        } else {
            print_table(doc);
        }
        json_decref(doc);
    }
    release(&b);
    return status;
}

int command_bench(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier bench",
        "espalier bench --model models/SmolLM2-135M-Instruct.Q4_1.gguf --rows 1,8",
        "Measures decode steps and prefill, each beside the floor of this machine."};
    struct bench_options o = {.load = load_words_default(),
                              .rows = {{1, 4, 8, 16}, 4},
                              .prompts = {{512}, 1},
                              .depth = 128,
                              .steps = 32,
                              .repeats = 5,
                              .chunk = 512};
    struct option_spec table[8 + LOAD_OPTION_COUNT] = {
        {"rows", OPT_INTS, &o.rows, "LIST", "sequences in a decode step (default 1,4,8,16)", 1,
         1024},
        {"prompt", OPT_INTS, &o.prompts, "LIST", "prompt tokens of a prefill (default 512)", 1,
         1 << 20},
        {"depth", OPT_INT, &o.depth, "N",
         "context of each sequence when decode starts (default 128)", 1, 1 << 20},
        {"steps", OPT_INT, &o.steps, "N", "decode steps of a repeat (default 32)", 1, 1 << 16},
        {"repeats", OPT_INT, &o.repeats, "N", "repeats; the median is reported (default 5)", 1,
         1000},
        {"prefill-chunk", OPT_INT, &o.chunk, "N", "prompt tokens of a step (default 512)", 1,
         1 << 16},
        {"json", OPT_FLAG, &o.json, NULL, "print one JSON document", 0, 0},
    };
    size_t count = 7, loads = load_options_table(&o.load, table + count);
    size_t kept = count;
    for (size_t i = count; i < count + loads; i++) /* the benchmark sizes its own cache */
        if (strcmp(table[i].name, "context") != 0 && strcmp(table[i].name, "kv-memory") != 0)
            table[kept++] = table[i];
    int parsed = options_parse(&help, table, kept, argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    struct error err = {0};
    enum status status = measure(&o, &err);
    if (status) log_error("%s", err.text);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
