/* espalier bench --planning: what it takes taper to decide who gets a row.
 *
 * 256 requests of 16 branches each run on an executor that computes nothing, and the policy's part
 * of every step is timed: from the sequences that could use a row to those that are chosen. What
 * must be done at least is to look at each sequence once; so long it takes on this machine, in the
 * same steps, is the floor.
 *
 *   all      nobody has a limit, and every sequence gets a row
 *   512      the same, but the executor takes 512 rows
 *   half     the limit leaves room for about half of the sequences
 *   none     no limit can be met: the baseline, and the first that do not fit
 *   prefill  half of the requests compute their prompts, 400 tokens each, and share the chunk
 */
#include "bench/idle_executor.h"
#include "bench/measure.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define REQUESTS 256
#define BRANCHES 16
#define PROMPT   33
#define LONG     400
#define VOCAB    1024
#define CHUNK    512
#define STEPS    64 /* that are timed, once all branches are there */

struct mix {
    const char *name;
    int32_t max_rows, filling; /* requests of long prompts */
    struct request_slo slo;
};
static const struct mix mixes[] = {
    {"all", REQUESTS *BRANCHES, 0, {0}},
    {"512", 512, 0, {0}},
    {"half", REQUESTS *BRANCHES, 0, {3600000000, 36000}},
    {"none", REQUESTS *BRANCHES, 0, {3600000000, 1}},
    {"prefill", REQUESTS *BRANCHES, REQUESTS / 2, {3600000000, 36000}},
};

/* 4 ms a step, 14 us a row, a little for its context, 100 us a prompt token. */
static double predict(const void *self, const struct step_load *load)
{
    (void)self;
    return 4000 + 14.0 * load->decode_rows + 0.001 * (double)load->context_read +
           100.0 * load->prefill_tokens + 0.005 * load->prefill_attention;
}

static double us_now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return 1e6 * (double)at.tv_sec + 1e-3 * (double)at.tv_nsec;
}

/* --- taper, with a watch on it */

static struct {
    bool on;
    double plan_us[STEPS], floor_us[STEPS];
    int64_t chosen, ready, filling;
    int32_t count, last_ready;
    volatile uint64_t seen; /* so that looking is not left out */
} watch;

static void look_at_each(const struct ready *ready)
{
    uint64_t sum = 0;
    for (int32_t i = 0; i < ready->count; i++)
        sum += ready->sequences[i]->row_step + (uint64_t)ready->sequences[i]->generated;
    watch.seen += sum;
}

static void choose_timed(const struct policy *policy, struct ready *ready)
{
    watch.last_ready = ready->count;
    if (!watch.on || watch.count == STEPS) {
        policy_taper.choose(policy, ready);
        return;
    }
    ready->fit = (struct prediction_fit){.bias = 1}; /* the executor takes no time at all */
    double from = us_now();
    policy_taper.choose(policy, ready);
    double done = us_now();
    look_at_each(ready);
    watch.floor_us[watch.count] = us_now() - done;
    watch.plan_us[watch.count++] = done - from;
    watch.ready += ready->count;
    for (int32_t i = 0; i < ready->count; i++) {
        watch.chosen += ready->sequences[i]->chosen_step == ready->step;
        watch.filling += !sequence_is_decoding(ready->sequences[i]);
    }
}
static const struct policy_ops timed = {"taper, timed", choose_timed, true};

/* --- the requests */

static void add_requests(struct scheduler *s, const struct mix *mix, int32_t from, int32_t to,
                         int32_t prompt_count, struct rng *rng)
{
    int32_t prompt[LONG];
    struct error err = {0};
    uint64_t id;
    for (int32_t i = from; i < to; i++) {
        for (int32_t k = 0; k < prompt_count; k++)
            prompt[k] = (int32_t)rng_below(rng, VOCAB);
        struct request_params params = {.prompt = prompt,
                                        .prompt_count = prompt_count,
                                        .n = BRANCHES,
                                        .max_tokens = 1 << 14,
                                        .slo = mix->slo,
                                        .events = idle_events()};
        enum status status = scheduler_add(s, &params, &id, &err);
        invariant(status == ST_OK, "%s", err.text);
    }
}

static struct scheduler *open_scheduler(struct idle_executor *idle, const struct mix *mix)
{
    struct scheduler_options options = scheduler_options_default();
    struct scheduler *s;
    struct error err = {0};
    idle->capacity = (struct executor_capacity){.depth = 1,
                                                .block_count = 1 << 19,
                                                .max_rows = mix->max_rows,
                                                .max_tokens = mix->max_rows + CHUNK,
                                                .max_context = 1 << 15,
                                                .vocab = VOCAB};
    options.prefill_chunk = CHUNK;
    options.max_queue = REQUESTS * BRANCHES;
    options.policy = (struct policy){.ops = &timed};
    options.predictor = (struct step_predictor){.predict = predict, .shared = SHARED_SIBLINGS};
    enum status status =
        scheduler_create(&options, idle_executor_door(idle), clock_monotonic(), &s, &err);
    invariant(status == ST_OK, "%s", err.text);
    return s;
}

static json_t *measure_mix(const struct mix *mix)
{
    struct idle_executor idle = {0};
    struct scheduler *s = open_scheduler(&idle, mix);
    struct rng rng = {1};
    int32_t decoding = REQUESTS - mix->filling;
    watch.on = false;
    watch.count = watch.last_ready = 0;
    watch.chosen = watch.ready = watch.filling = 0;
    add_requests(s, mix, 0, decoding, PROMPT, &rng);
    while (watch.last_ready < decoding * BRANCHES)
        scheduler_tick(s);
    add_requests(s, mix, decoding, REQUESTS, LONG, &rng);
    watch.on = true;
    while (watch.count < STEPS)
        scheduler_tick(s);
    scheduler_free(s);
    double floor_us = bench_median(watch.floor_us, STEPS);
    double plan_us = bench_median(watch.plan_us, STEPS);
    return json_pack("{ss si si si sf sf sf}", "mix", mix->name, "sequences",
                     (int)(watch.ready / STEPS), "rows", (int)(watch.chosen / STEPS), "in_prefill",
                     (int)(watch.filling / STEPS), "plan_us", plan_us, "plan_us_p90",
                     watch.plan_us[STEPS * 9 / 10], "floor_us", floor_us);
}

enum status measure_planning(const struct bench_options *o, json_t **out, struct error *err)
{
    json_t *list = json_array();
    (void)o;
    (void)err;
    for (size_t i = 0; i < COUNT_OF(mixes); i++)
        json_array_append_new(list, measure_mix(&mixes[i]));
    *out = json_pack("{s:s, s:s, s:i, s:i, s:o}", "command", "bench --planning", "version",
                     ESPALIER_VERSION, "requests", REQUESTS, "branches", BRANCHES, "mixes", list);
    return ST_OK;
}

void print_planning(const json_t *doc)
{
    size_t i;
    json_t *row;
    printf("taper's choice of rows, %d requests of %d branches, medians of %d steps (floor: "
           "looking at each sequence once)\n\n%10s %10s %8s %12s %10s %10s %10s %10s\n",
           REQUESTS, BRANCHES, STEPS, "mix", "sequences", "rows", "in prefill", "plan us", "p90 us",
           "floor us", "of floor");
    json_array_foreach(json_object_get(doc, "mixes"), i, row)
    {
        double plan = json_number_value(json_object_get(row, "plan_us"));
        double least = json_number_value(json_object_get(row, "floor_us"));
        printf("%10s %10lld %8lld %12lld %10.1f %10.1f %10.1f %9.1fx\n",
               json_string_value(json_object_get(row, "mix")),
               json_integer_value(json_object_get(row, "sequences")),
               json_integer_value(json_object_get(row, "rows")),
               json_integer_value(json_object_get(row, "in_prefill")), plan,
               json_number_value(json_object_get(row, "plan_us_p90")), least, plan / least);
    }
}
