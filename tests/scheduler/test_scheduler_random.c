/* Random workloads, each made from one seed: requests, arrivals, cancellations, priorities, n,
 * stops, pool and chunk sizes, rows, depths, and in a quarter of them an executor that fails.
 * Checked: every tick  all invariants and the conservation law; blocks that nobody holds are filled
 * with garbage; the sequence that stands first is never without a row for long every end   each
 * stream is what the sequence alone would have got, or its beginning when it was cut fairness among
 * equal priorities first admission is in order of arrival, and a request ends within a bound made
 * of its own work and that of those before it A failure prints the command that repeats it.
 * ESPALIER_SEED=N runs that one, ESPALIER_RUNS=N the first N. */
#include "support_client.h"
#include "support_policies.h"
#include "support_random.h"

#include "scheduler/core.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_REQUESTS 64

struct planned {
    struct request_params params; /* prompt and stop ids are this struct's */
    int32_t prompt[256], stop_ids[4];
    int32_t verdict_stop;
    int64_t arrival_tick, cancel_tick; /* cancel_tick 0: never */
    struct client *client;
    bool refused; /* it would have been late: nobody ever hears of it */
    int64_t accepted_tick, done_tick, bound_ticks;
};

struct workload {
    uint64_t seed;
    struct rng rng;
    struct simulated_options sim_options;
    struct scheduler_options options;
    struct predictor predictor; /* the policy's */
    bool equal_priorities, failures;
    bool eager;          /* the policy: else a request has a row, not each sequence of it */
    bool shared_prompts; /* beginnings are often the same */
    bool pressure;       /* short prompts, long answers without an early stop: the pool runs dry */
    int32_t count;
    struct planned planned[MAX_REQUESTS]; /* by arrival */

    int64_t now_us, tick;
    struct simulated *sim;
    struct scheduler *s;
    int32_t finished;
    uint64_t first_id;
    int32_t first_without_row; /* ticks in a row */
};

/* Most values small, some up to `high`. */
static int32_t skewed(struct rng *rng, int32_t high)
{
    int32_t top = chance(rng, 0.25) ? high : max_i32(1, high / 6);
    return between(rng, 1, top);
}

static void choose_house(struct workload *w)
{
    struct rng *rng = &w->rng;
    w->failures = chance(rng, 0.25);
    w->equal_priorities = chance(rng, 0.5);
    w->pressure = chance(rng, 0.5);
    w->shared_prompts = chance(rng, 0.6);
    w->sim_options = (struct simulated_options){
        .capacity = {.depth = between(rng, 1, 2),
                     .block_count = between(rng, 2, chance(rng, 0.7) ? 14 : 60),
                     .max_rows = between(rng, 1, 12),
                     .max_tokens = between(rng, 1, chance(rng, 0.5) ? 8 : 80),
                     .max_context = between(rng, 8, 256),
                     .vocab = between(rng, 2, 60)},
        .seed = rng_next(rng),
        .submit_failures = w->failures ? 0.01 : 0,
        .collect_failures = w->failures ? 0.01 : 0,
        .bad_tokens = w->failures ? 0.002 : 0,
        .now_us = &w->now_us,
    };
    w->options = (struct scheduler_options){.max_rows = between(rng, 0, 8),
                                            .prefill_chunk = between(rng, 1, 40),
                                            .max_queue = between(rng, 4, 40)};
    const char *name = random_policy(rng, &w->options, &w->predictor);
    w->eager = name[0] == 'e';
    if (mix64(w->seed + 1) % 4) return;
    w->options.admission = ADMISSION_REFUSE;
    if (w->options.predictor.predict) return;
    struct step_prior prior = some_prior(1000);
    predictor_init(&w->predictor, SHARED_BLOCKS, &prior);
    w->options.predictor = predictor_door(&w->predictor);
}

static void choose_request(struct workload *w, struct planned *p, int64_t arrival_tick)
{
    struct rng *rng = &w->rng;
    int32_t longest = min_i32(w->sim_options.capacity.max_context,
                              w->sim_options.capacity.block_count * KV_BLOCK_SLOTS);
    int32_t vocab = w->sim_options.capacity.vocab;
    int32_t prompt_count = skewed(rng, w->pressure ? max_i32(1, longest / 4) : longest - 1);
    int32_t max_tokens =
        w->pressure ? between(rng, 1, longest - prompt_count) : skewed(rng, longest - prompt_count);
    if (chance(rng, 0.05)) max_tokens = 0;
    for (int32_t i = 0; i < prompt_count; i++)
        p->prompt[i] = between(rng, 0, vocab - 1);
    if (w->shared_prompts && chance(rng, 0.8)) {
        const struct planned *stem = &w->planned[between(rng, 0, w->count - 1)];
        int32_t same = between(rng, 1, prompt_count); /* of one that came before, or zeros */
        memcpy(p->prompt, stem->prompt, (size_t)same * sizeof p->prompt[0]);
    }
    /* n answers share a block that one alone would not need. */
    bool several = chance(rng, 0.25) && prompt_count + max_tokens <= longest - KV_BLOCK_SLOTS;
    int32_t stop_count = chance(rng, w->pressure ? 0.1 : 0.6) ? between(rng, 1, 3) : 0;
    for (int32_t i = 0; i < stop_count; i++)
        p->stop_ids[i] = between(rng, 0, vocab - 1);
    p->params = (struct request_params){
        .prompt = p->prompt,
        .prompt_count = prompt_count,
        .n = several ? between(rng, 2, 4) : 1,
        .max_tokens = max_tokens,
        .min_tokens = chance(rng, 0.2) ? between(rng, 1, 20) : 0,
        .ignore_eos = chance(rng, 0.2),
        .score_prompt = chance(rng, 0.25),
        .stop_ids = p->stop_ids,
        .stop_count = stop_count,
        .eos_count = between(rng, 0, stop_count),
        .sample = {.temperature = chance(rng, 0.5) ? 1.0f : 0.0f,
                   .seed = rng_next(rng),
                   .want_logprob = chance(rng, 0.3),
                   .top_logprobs = chance(rng, 0.3) ? between(rng, 1, 3) : 0},
        .priority = w->equal_priorities ? 3 : between(rng, -2, 2),
        .slo = random_slo(w->seed, p - w->planned),
        .cache_salt = "tenant",
        .cache_salt_length = chance(rng, 0.2) ? 6 : 0,
    };
    p->verdict_stop = chance(rng, w->pressure ? 0.05 : 0.2) ? between(rng, 0, vocab - 1) : -1;
    p->arrival_tick = arrival_tick;
    p->cancel_tick = chance(rng, 0.15) ? arrival_tick + between(rng, 1, 60) : 0;
}

/* What it takes to compute it alone, one token a step. */
static int64_t work(const struct planned *p)
{
    return (int64_t)p->params.n * (p->params.prompt_count + p->params.max_tokens);
}

/* The promise: the sequence that stands first gets at least one token further in every step, or
 * waits a step for blocks that a step in flight still writes. So a request is done when all the
 * work that stood before it and its own is done, at two ticks a token. */
static int64_t bound_ticks(const struct workload *w, const struct planned *p)
{
    int64_t tokens = work(p);
    for (const struct planned *other = w->planned; other < p; other++)
        if (other->client && !other->client->done) tokens += work(other);
    return 2 * tokens + 4;
}

static void submit_due(struct workload *w)
{
    for (int32_t i = 0; i < w->count; i++) {
        struct planned *p = &w->planned[i];
        if (p->client || p->refused || p->arrival_tick > w->tick) continue;
        struct error err = {0};
        struct client *client = client_create(&p->params, p->verdict_stop);
        enum status status = client_add(client, w->s, &err);
        if (status == ST_FULL) {
            client_free(client);
            return; /* those behind wait too, so that arrival is in the order of the list */
        }
        if (status == ST_LATE && w->options.admission == ADMISSION_REFUSE &&
            p->params.slo.ttft_us) {
            client_free(client);
            p->refused = true;
            w->finished++;
            continue;
        }
        invariant(status == ST_OK, "request %d is refused: %s", i, err.text);
        p->client = client;
        p->accepted_tick = w->tick;
        p->bound_ticks = bound_ticks(w, p);
    }
}

static void cancel_due(struct workload *w)
{
    for (int32_t i = 0; i < w->count; i++) {
        struct planned *p = &w->planned[i];
        if (!p->client || p->client->done || p->cancel_tick == 0 || p->cancel_tick > w->tick)
            continue;
        scheduler_cancel(w->s, p->client->id);
        p->client->cancelled = true;
    }
    scheduler_cancel(w->s, 1u << 30); /* nobody's */
}

static void check_done(struct workload *w)
{
    for (int32_t i = 0; i < w->count; i++) {
        struct planned *p = &w->planned[i];
        if (!p->client || p->done_tick) continue;
        invariant(p->client->done || !p->client->cancelled, "request %d outlives its cancellation",
                  i);
        if (!p->client->done) continue;
        p->done_tick = w->tick;
        w->finished++;
        const char *mistake =
            client_mistake(p->client, w->sim_options.capacity.vocab, p->prompt, p->stop_ids);
        invariant(!mistake, "request %d: %s", i, mistake);
        invariant(!w->equal_priorities || !w->eager || w->tick - p->accepted_tick <= p->bound_ticks,
                  "request %d took %" PRId64 " ticks, the bound is %" PRId64, i,
                  w->tick - p->accepted_tick, p->bound_ticks);
    }
}

/* Only among equals: else more urgent ones may come and go in the steps between. */
static void check_first(struct workload *w)
{
    if (!w->equal_priorities || !w->eager) return;
    const struct request *first = w->s->running_count ? w->s->running[0] : NULL;
    bool same = first && first->id == w->first_id, without = false;
    for (const struct sequence *seq = first ? request_begin(first) : NULL; seq;
         seq = sequence_next(seq)) {
        if (seq->row_step == w->s->step_number) {
            without = false;
            break;
        }
        without = without || sequence_wants_row(seq);
    }
    w->first_without_row = without ? (same ? w->first_without_row + 1 : 1) : 0;
    w->first_id = first ? first->id : 0;
    invariant(w->first_without_row < 3, "the first request has no row for %d ticks",
              w->first_without_row);
}

static void poison_free_blocks(struct workload *w)
{
    for (int32_t block = 0; block < w->sim_options.capacity.block_count; block++)
        if (block_pool_holders(w->s->pool, block) == 0 && !prefix_tree_holds(w->s->pool, block))
            simulated_poison(w->sim, block);
}

static void run_tick(struct workload *w)
{
    w->tick++;
    submit_due(w);
    cancel_due(w);
    scheduler_tick(w->s);
    scheduler_check(w->s);
    poison_free_blocks(w);
    check_first(w);
    check_done(w);
}

static void check_admission_order(const struct workload *w)
{
    int64_t latest_us = 0;
    for (int32_t i = 0; i < w->count; i++) {
        if (w->planned[i].refused) continue;
        int64_t scheduled_us = w->planned[i].client->stats.scheduled_us;
        if (scheduled_us == 0) continue; /* cancelled before */
        invariant(scheduled_us >= latest_us, "request %d was admitted before an earlier one", i);
        latest_us = scheduled_us;
    }
}

static void check_totals(const struct workload *w)
{
    struct scheduler_counters counters;
    struct simulated_counts computed = simulated_counts(w->sim);
    int64_t output = 0, finished = 0, sequences = 0;
    scheduler_counters(w->s, &counters);
    for (int32_t i = 0; i < w->count; i++) {
        if (w->planned[i].refused) continue;
        output += w->planned[i].client->stats.output_tokens;
        sequences += w->planned[i].params.n;
    }
    for (int32_t reason = 0; reason < FINISH_REASONS; reason++)
        finished += counters.finished[reason];
    invariant(counters.generated_tokens == output, "generated tokens: %" PRId64 " of %" PRId64,
              counters.generated_tokens, output);
    invariant(finished == sequences, "%" PRId64 " of %" PRId64 " sequences finished", finished,
              sequences);
    invariant(counters.running == 0 && counters.waiting == 0 && counters.blocks_held == 0,
              "something is left: %d running, %d waiting, %d blocks", counters.running,
              counters.waiting, counters.blocks_held);
    invariant(computed.most_rows <= w->s->max_rows, "%d rows in a step of at most %d",
              computed.most_rows, w->s->max_rows);
}

/* Of all workloads. */
struct totals {
    struct scheduler_counters counters;
    int64_t refused;
};

static void run_workload(uint64_t seed, struct totals *totals)
{
    struct scheduler_counters *sum = &totals->counters;
    struct workload *w = must_alloc(sizeof *w);
    print_repeat_on_abort("test_scheduler_random", seed);
    w->seed = seed;
    w->rng = (struct rng){mix64(seed)};
    w->now_us = 1;
    choose_house(w);
    w->count = between(&w->rng, 4, MAX_REQUESTS);
    int64_t arrival = 0, gap = between(&w->rng, 0, 20);
    for (int32_t i = 0; i < w->count; i++) {
        arrival += between(&w->rng, 0, (int32_t)gap);
        choose_request(w, &w->planned[i], arrival);
    }

    struct error err = {0};
    w->sim = simulated_create(&w->sim_options);
    enum status status = scheduler_create(&w->options, simulated_executor(w->sim),
                                          clock_virtual(&w->now_us), &w->s, &err);
    invariant(status == ST_OK, "no scheduler: %s", err.text);
    while (w->finished < w->count) {
        run_tick(w);
        invariant(w->tick < 1000000, "it never ends");
    }
    while (scheduler_tick(w->s)) /* what is in flight of the last that ended */
        scheduler_check(w->s);
    if (w->equal_priorities) check_admission_order(w);
    check_totals(w);

    struct scheduler_counters counters;
    scheduler_counters(w->s, &counters);
    sum->steps += counters.steps;
    sum->preemptions += counters.preemptions;
    sum->failed_steps += counters.failed_steps;
    for (int32_t reason = 0; reason < FINISH_REASONS; reason++)
        sum->finished[reason] += counters.finished[reason];
    scheduler_free(w->s);
    simulated_free(w->sim);
    for (int32_t i = 0; i < w->count; i++) {
        totals->refused += w->planned[i].refused;
        if (!w->planned[i].refused) client_free(w->planned[i].client);
    }
    free(w);
}

Test(scheduler_random, every_stream_is_what_it_would_be_alone)
{
    struct totals totals = {0};
    const struct scheduler_counters *sum = &totals.counters;
    log_set_level(LOG_ERROR); /* failing steps warn */
    int64_t only = from_environment("ESPALIER_SEED", -1);
    int64_t runs = from_environment("ESPALIER_RUNS", 1000);
    if (only >= 0) {
        run_workload((uint64_t)only, &totals);
        return;
    }
    for (int64_t seed = 1; seed <= runs; seed++)
        run_workload((uint64_t)seed, &totals);
    /* That the workloads reach the corners they are for. */
    cr_log_info("%" PRId64 " steps, %" PRId64 " preemptions", sum->steps, sum->preemptions);
    cr_assert_gt(sum->preemptions, 2 * runs);
    cr_assert_gt(totals.refused, runs);

    for (int32_t reason = 0; reason < FINISH_REASONS; reason++)
        cr_assert_gt(sum->finished[reason], runs, "only %" PRId64 " ended with reason %d",
                     sum->finished[reason], reason);
}
