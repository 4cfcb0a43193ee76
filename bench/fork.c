/* espalier bench --fork: what it costs the scheduler to fork one prompt into branches.
 *
 * A scheduler runs over an executor that computes nothing, so a tick's time is the scheduler's own.
 * The prompt of a request with n answers is computed, and the next tick is timed: all branches are
 * admitted (blocks shared by reference, at most 15 slots of each planned as a copy) and get their
 * first row. It must not grow with the prompt, and the blocks held are the prompt's once and one or
 * two of each branch's own.
 */
#include "bench/idle_executor.h"
#include "bench/measure.h"
#include "scheduler/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FORK_VOCAB 1024
#define FORK_CHUNK 4096

static const int32_t prefixes[] = {1010, 8010, 64010}; /* 1, 9 and 9 slots are copied */

struct fork_result {
    double us;
    int32_t blocks_before, blocks_after, copies;
};

/* One request from its prompt to the tick that forks it. */
static struct fork_result fork_once(struct scheduler *s, struct idle_executor *idle,
                                    const int32_t *prompt, int32_t prefix, int32_t branches)
{
    struct scheduler_counters counters;
    struct fork_result result;
    struct error err = {0};
    uint64_t id;
    struct request_params params = {.prompt = prompt,
                                    .prompt_count = prefix,
                                    .n = branches,
                                    .max_tokens = 8,
                                    .events = idle_events()};
    enum status status = scheduler_add(s, &params, &id, &err);
    invariant(status == ST_OK, "%s", err.text);
    for (int32_t computed = 0; computed < prefix - 1; computed += FORK_CHUNK)
        scheduler_tick(s);
    scheduler_counters(s, &counters);
    result.blocks_before = counters.blocks_held;

    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    scheduler_tick(s);
    clock_gettime(CLOCK_MONOTONIC, &to);
    result.us =
        1e6 * (double)(to.tv_sec - from.tv_sec) + 1e-3 * (double)(to.tv_nsec - from.tv_nsec);

    scheduler_counters(s, &counters);
    result.blocks_after = counters.blocks_held;
    result.copies = idle->copies;
    invariant(idle->row_count == branches, "%d rows in the step of a fork into %d", idle->row_count,
              branches);
    while (scheduler_tick(s)) {
    }
    return result;
}

static json_t *measure_prefix(const struct bench_options *o, int32_t prefix, int32_t branches)
{
    struct idle_executor idle = {.capacity = {.depth = 1,
                                              .block_count = prefix / KV_BLOCK_SLOTS + 4 * branches,
                                              .max_rows = branches,
                                              .max_tokens = FORK_CHUNK + branches,
                                              .max_context = prefix + 64,
                                              .vocab = FORK_VOCAB}};
    struct scheduler_options options = scheduler_options_default();
    struct scheduler *s;
    struct error err = {0};
    options.prefill_chunk = FORK_CHUNK;
    options.max_queue = branches;
    enum status status =
        scheduler_create(&options, idle_executor_door(&idle), clock_monotonic(), &s, &err);
    invariant(status == ST_OK, "%s", err.text);

    int32_t *prompt = must_alloc((size_t)prefix * sizeof *prompt);
    double *us = must_alloc((size_t)o->repeats * sizeof *us);
    struct fork_result last = {0};
    for (int64_t i = 0; i < o->repeats; i++) {
        struct rng rng = {(uint64_t)i + 1}; /* another prompt each time: nothing is found */
        for (int32_t k = 0; k < prefix; k++)
            prompt[k] = (int32_t)rng_below(&rng, FORK_VOCAB);
        last = fork_once(s, &idle, prompt, prefix, branches);
        us[i] = last.us;
    }
    json_t *doc =
        json_pack("{s:i, s:i, s:f, s:f, s:i, s:i, s:i}", "prefix", prefix, "branches", branches,
                  "fork_us", bench_median(us, (int32_t)o->repeats), "us_per_branch",
                  us[o->repeats / 2] / branches, "blocks_prefix", last.blocks_before, "blocks_own",
                  last.blocks_after - last.blocks_before, "copies", last.copies);
    scheduler_free(s);
    free(prompt);
    free(us);
    return doc;
}

enum status measure_fork(const struct bench_options *o, json_t **out, struct error *err)
{
    int32_t branches = o->rows.values[0];
    json_t *list = json_array();
    for (size_t i = 0; i < COUNT_OF(prefixes); i++)
        json_array_append_new(list, measure_prefix(o, prefixes[i], branches));
    (void)err;
    *out = json_pack("{s:s, s:s, s:o}", "command", "bench --fork", "version", ESPALIER_VERSION,
                     "prefixes", list);
    return ST_OK;
}

void print_fork(const json_t *doc)
{
    size_t i;
    json_t *row;
    printf("the tick that forks one prompt, the scheduler's own time (the executor computes "
           "nothing)\n\n%10s %10s %12s %14s %16s %12s\n",
           "prefix", "branches", "fork us", "us a branch", "prefix's blocks", "own blocks");
    json_array_foreach(json_object_get(doc, "prefixes"), i, row)
    {
        printf("%10lld %10lld %12.1f %14.2f %16lld %12lld\n",
               json_integer_value(json_object_get(row, "prefix")),
               json_integer_value(json_object_get(row, "branches")),
               json_number_value(json_object_get(row, "fork_us")),
               json_number_value(json_object_get(row, "us_per_branch")),
               json_integer_value(json_object_get(row, "blocks_prefix")),
               json_integer_value(json_object_get(row, "blocks_own")));
    }
}
