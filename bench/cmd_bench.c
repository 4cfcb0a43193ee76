/* espalier bench: its options, and which measurement they ask for (bench/measure.h). */
#include "bench/commands.h"
#include "bench/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct measurement {
    enum status (*measure)(const struct bench_options *o, json_t **out, struct error *err);
    void (*print)(const json_t *doc);
    int64_t depth;
    struct option_ints rows; /* where --depth and --rows are not given */
};

static const struct measurement steps = {measure_steps, print_steps, 128, {{1, 4, 8, 16}, 4}};
static const struct measurement roof = {measure_roof, print_roof, 1, {{1}, 1}};
static const struct measurement forest = {measure_forest, print_forest, 4000, {{8}, 1}};
static const struct measurement tree = {measure_tree, print_tree, 1, {{1}, 1}};
static const struct measurement forks = {measure_fork, print_fork, 1, {{8}, 1}};
static const struct measurement planning = {measure_planning, print_planning, 1, {{16}, 1}};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int32_t count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

/* NULL: two are asked for at once. */
static const struct measurement *measurement_of(const struct bench_options *o)
{
    if (o->roof + o->forest + o->tree + o->fork + o->planning > 1) return NULL;
    if (o->fork) return &forks;
    if (o->planning) return &planning;
    return o->roof ? &roof : o->forest ? &forest : o->tree ? &tree : &steps;
}

static enum status bench(struct bench_options *o, struct error *err)
{
    const struct measurement *m = measurement_of(o);
    json_t *doc = NULL;
    if (!m)
        return fail(err, ST_USAGE,
                    "--roof, --forest, --tree, --fork and --planning: only one of them at a time");
    if (!o->depth) o->depth = m->depth;
    if (!o->rows.count) o->rows = m->rows;
    enum status status = m->measure(o, &doc, err);
    if (status) return status;
    invariant(doc, "the result's JSON could not be made");
    if (o->json) {
        json_dumpf(doc, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        m->print(doc);
    }
    json_decref(doc);
    return ST_OK;
}

int command_bench(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier bench",
        "espalier bench --model models/SmolLM2-135M-Instruct.Q4_1.gguf --rows 1,8",
        "Measures decode steps and prefill, or what the first options name, each beside the floor "
        "of this machine."};
    struct bench_options o = {.load = load_words_default(),
                              .prompts = {{512}, 1},
                              .steps = 32,
                              .repeats = 5,
                              .chunk = 512,
                              .blocks = 1000000};
    struct option_spec table[15 + LOAD_OPTION_COUNT] = {
        {"roof", OPT_FLAG, &o.roof, NULL,
         "only the machine: bytes read and operations a second, which floors come from", 0, 0},
        {"forest", OPT_FLAG, &o.forest, NULL,
         "only attention: --rows branches of one prefix beside as many rows that share\n"
         "nothing (without --model: the shape of the default model)",
         0, 0},
        {"tree", OPT_FLAG, &o.tree, NULL, "only the prefix tree: inserts and look-ups a second", 0,
         0},
        {"fork", OPT_FLAG, &o.fork, NULL,
         "only the scheduler: the tick that forks a prompt into --rows branches", 0, 0},
        {"planning", OPT_FLAG, &o.planning, NULL,
         "only taper: what it takes to choose the rows of 256 requests of 16 branches", 0, 0},
        {"stages", OPT_FLAG, &o.stages, NULL,
         "also where the time of a step goes, each stage beside its floor", 0, 0},
        {"rows", OPT_INTS, &o.rows, "LIST",
         "sequences in a decode step (default 1,4,8,16; with --forest and --fork 8)", 1, 1024},
        {"prompt", OPT_INTS, &o.prompts, "LIST", "prompt tokens of a prefill (default 512)", 1,
         1 << 20},
        {"depth", OPT_INT, &o.depth, "N",
         "context of each sequence when decode starts (default 128), or the common\n"
         "prefix of --forest (default 4000)",
         1, 1 << 20},
        {"steps", OPT_INT, &o.steps, "N", "decode steps of a repeat (default 32)", 1, 1 << 16},
        {"repeats", OPT_INT, &o.repeats, "N", "repeats; the median is reported (default 5)", 1,
         1000},
        {"prefill-chunk", OPT_INT, &o.chunk, "N", "prompt tokens of a step (default 512)", 1,
         1 << 16},
        {"blocks", OPT_INT, &o.blocks, "N", "blocks of --tree (default 1000000)", 1, 1 << 26},
        {"json", OPT_FLAG, &o.json, NULL, "print one JSON document", 0, 0},
    };
    size_t count = 14, loads = load_options_table(&o.load, table + count);
    size_t kept = count;
    for (size_t i = count; i < count + loads; i++) /* the benchmark sizes its own cache */
        if (strcmp(table[i].name, "context") != 0 && strcmp(table[i].name, "kv-memory") != 0)
            table[kept++] = table[i];
    int parsed = options_parse(&help, table, kept, argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    struct error err = {0};
    enum status status = bench(&o, &err);
    if (status) log_error("%s", err.text);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
