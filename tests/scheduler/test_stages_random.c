/* Random workloads of requests in stages, each made from one seed: widths, lengths, stops, cuts and
 * appended tokens, arrivals, cancellations, policies, pools that are too small for all, rows, chunk
 * sizes, depths, evictions of everything cached, and in an eighth of them an executor that fails.
 * Checked: often, all invariants and the conservation law, blocks that nobody holds are filled with
 * garbage; at every end, each sequence is what plain recursion says (support_stage_reference.h), or
 * its beginning when it was cut; at the very end nothing is held. A failure prints the command that
 * repeats it. ESPALIER_SEED=N runs that one (and checks at every tick), ESPALIER_RUNS=N the first
 * N. */
#include "support_stage_reference.h"
#include "support_policies.h"
#include "support_random.h"

#include "scheduler/core.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_REQUESTS 16
#define RUNS         4000 /* of 4 to 12 requests: 32,000, a quarter of them without stages */

struct planned {
    struct script script;
    int64_t arrival_tick, cancel_tick; /* cancel_tick 0: never */
    struct stage_client *client;
    bool judged;
    bool refused; /* it would have been late: nobody ever hears of it */
};

struct workload {
    struct rng rng;
    struct simulated_options sim_options;
    struct scheduler_options options;
    struct predictor predictor; /* the policy's */
    bool failures, every_tick, shared;
    bool pressure;   /* long answers in a pool that has hardly more than one request needs */
    double eviction; /* chance of one in a tick */
    int32_t count, finished;
    struct planned planned[MAX_REQUESTS]; /* by arrival */
    int64_t now_us, tick, tick_bound;
    struct simulated *sim;
    struct scheduler *s;
};

/* Of all workloads: that they reach the corners they are for. */
struct totals {
    int64_t requests, sequences, forked, steps, preemptions, copies, cached, evictions, failed,
        refused;
    int64_t finished[FINISH_REASONS];
};

static void choose_house(struct workload *w)
{
    struct rng *rng = &w->rng;
    w->failures = chance(rng, 0.125);
    w->shared = chance(rng, 0.5);
    w->pressure = chance(rng, 0.6);
    w->eviction = chance(rng, 0.3) ? 0.05 : 0;
    int32_t blocks = between(rng, 2, chance(rng, 0.7) ? 24 : 80);
    w->sim_options = (struct simulated_options){
        .capacity = {.depth = between(rng, 1, 2),
                     .block_count = blocks,
                     .max_rows = between(rng, w->pressure ? 6 : 1, 12),
                     .max_tokens = between(rng, 1, chance(rng, 0.5) ? 12 : 80),
                     .max_context = between(rng, 8, 300),
                     .vocab = between(rng, 2, 60)},
        .seed = rng_next(rng),
        .submit_failures = w->failures ? 0.01 : 0,
        .collect_failures = w->failures ? 0.01 : 0,
        .bad_tokens = w->failures ? 0.002 : 0,
        .now_us = &w->now_us,
    };
    w->options = (struct scheduler_options){.max_rows = w->pressure ? 0 : between(rng, 0, 8),
                                            .prefill_chunk = between(rng, 1, 40),
                                            .max_queue = between(rng, 8, 40)};
    random_policy(rng, &w->options, &w->predictor);
    if (mix64(w->sim_options.seed + 1) % 8) return;
    w->options.admission = ADMISSION_REFUSE;
    if (w->options.predictor.predict) return;
    struct step_prior prior = some_prior(1000);
    predictor_init(&w->predictor, SHARED_BLOCKS, &prior);
    w->options.predictor = predictor_door(&w->predictor);
}

/* The same again, the same with other seeds, or the same beginning. */
static void share(struct workload *w, struct planned *p, const struct planned *earlier)
{
    struct rng *rng = &w->rng;
    if (chance(rng, 0.5)) {
        script_free(&p->script);
        script_copy(&p->script, &earlier->script);
        if (p->script.staged && chance(rng, 0.5))
            p->script.branches[p->script.sequence_count - 1].seed++;
    } else {
        struct script_branch *to = &p->script.branches[0];
        const struct script_branch *from = &earlier->script.branches[0];
        int32_t same = between(rng, 0, min_i32(to->prompt_count, from->prompt_count));
        for (int32_t i = 0; i < (p->script.staged ? 1 : p->script.params.n); i++)
            memcpy(to[i].prompt, from->prompt, (size_t)same * sizeof to->prompt[0]);
    }
}

static void choose_request(struct workload *w, int32_t index, int64_t arrival_tick)
{
    struct rng *rng = &w->rng;
    struct planned *p = &w->planned[index];
    const struct executor_capacity *capacity = &w->sim_options.capacity;
    struct script_limits limits = {
        .vocab = capacity->vocab,
        .positions = min_i32(capacity->max_context, capacity->block_count * KV_BLOCK_SLOTS),
        .blocks = capacity->block_count,
        .width = min_i32(8, w->options.max_queue),
        .length = between(rng, w->pressure ? 30 : 1, 120),
        .long_answers = w->pressure};
    script_random(&p->script, rng, &limits);
    p->script.params.priority = chance(rng, 0.5) ? 0 : between(rng, -2, 2);
    p->script.params.slo = random_slo(w->sim_options.seed, index);
    if (w->shared && index > 0 && chance(rng, 0.6))
        share(w, p, &w->planned[between(rng, 0, index - 1)]);
    p->arrival_tick = arrival_tick;
    p->cancel_tick = chance(rng, 0.15) ? arrival_tick + between(rng, 1, 80) : 0;
    for (int32_t i = 0; i < p->script.sequence_count; i++) {
        const struct script_branch *branch = &p->script.branches[i];
        /* Generous: everything one token a step, after a preemption at every token. */
        w->tick_bound += 200 + 40 * (branch->prompt_count + branch->max_tokens);
    }
}

static void tighten(struct workload *w)
{
    int32_t most = 1;
    for (int32_t i = 0; i < w->count; i++)
        most = max_i32(most, script_extent(&w->planned[i].script).blocks);
    w->sim_options.capacity.block_count = most + between(&w->rng, 0, 4);
}

static void submit_due(struct workload *w)
{
    for (int32_t i = 0; i < w->count; i++) {
        struct planned *p = &w->planned[i];
        if (p->client || p->refused || p->arrival_tick > w->tick) continue;
        struct error err = {0};
        struct stage_client *client = stage_client_create(&p->script);
        enum status status = stage_client_add(client, w->s, &err);
        if (status == ST_FULL) {
            stage_client_free(client);
            return; /* those behind wait too */
        }
        if (status == ST_LATE && w->options.admission == ADMISSION_REFUSE &&
            p->script.params.slo.ttft_us) {
            stage_client_free(client);
            p->refused = true;
            w->finished++;
            continue;
        }
        invariant(status == ST_OK, "request %d is refused: %s", i, err.text);
        p->client = client;
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
}

static void check_done(struct workload *w)
{
    for (int32_t i = 0; i < w->count; i++) {
        struct planned *p = &w->planned[i];
        if (!p->client || p->judged) continue;
        invariant(p->client->done || !p->client->cancelled, "request %d outlives its cancellation",
                  i);
        if (!p->client->done) continue;
        p->judged = true;
        w->finished++;
        struct reference *reference = reference_create(&p->script, w->sim_options.capacity.vocab);
        const char *mistake = stage_client_mistake(p->client, reference);
        invariant(!mistake, "request %d: %s", i, mistake);
        invariant(!stage_client_was_cut(p->client) || p->client->cancelled || w->failures,
                  "request %d ends with reason %d and nobody asked for it", i,
                  p->client->stats.reason);
        reference_free(reference);
    }
}

static void poison_free_blocks(struct workload *w)
{
    for (int32_t block = 0; block < w->sim_options.capacity.block_count; block++)
        if (block_pool_holders(w->s->pool, block) == 0 && !prefix_tree_holds(w->s->pool, block))
            simulated_poison(w->sim, block);
}

static void check_now(struct workload *w)
{
    scheduler_check(w->s);
    invariant(block_pool_conserves(w->s->pool), "a block is lost");
    poison_free_blocks(w);
}

static bool run_tick(struct workload *w)
{
    w->tick++;
    submit_due(w);
    cancel_due(w);
    bool busy = scheduler_tick(w->s);
    if (chance(&w->rng, w->eviction)) prefix_tree_clear(w->s->pool);
    if (chance(&w->rng, 0.3) || w->every_tick) check_now(w);
    check_done(w);
    return busy;
}

static void check_totals(const struct workload *w, struct totals *totals)
{
    struct scheduler_counters counters;
    struct simulated_counts computed = simulated_counts(w->sim);
    int64_t output = 0, finished = 0, sequences = 0;
    scheduler_counters(w->s, &counters);
    for (int32_t i = 0; i < w->count; i++) {
        const struct planned *p = &w->planned[i];
        totals->refused += p->refused;
        if (p->refused) continue;
        output += p->client->stats.output_tokens;
        totals->requests++;
        totals->forked += p->script.staged;
        for (int32_t k = 0; k < p->script.sequence_count; k++)
            sequences += p->client->streams[k].finished;
    }
    for (int32_t reason = 0; reason < FINISH_REASONS; reason++) {
        finished += counters.finished[reason];
        totals->finished[reason] += counters.finished[reason];
    }
    invariant(counters.generated_tokens == output, "generated tokens: %" PRId64 " of %" PRId64,
              counters.generated_tokens, output);
    invariant(finished == sequences, "%" PRId64 " sequences finished, %" PRId64 " were told",
              finished, sequences);
    invariant(counters.running == 0 && counters.waiting == 0 && counters.blocks_held == 0,
              "something is left: %d running, %d waiting, %d blocks", counters.running,
              counters.waiting, counters.blocks_held);
    invariant(counters.blocks_free + counters.blocks_cached == counters.blocks_total,
              "%d blocks free, %d cached of %d", counters.blocks_free, counters.blocks_cached,
              counters.blocks_total);
    invariant(computed.most_rows <= w->s->max_rows, "%d rows in a step of at most %d",
              computed.most_rows, w->s->max_rows);
    totals->sequences += sequences;
    totals->steps += counters.steps;
    totals->preemptions += counters.preemptions;
    totals->failed += counters.failed_steps;
    totals->cached += counters.cached_tokens;
    totals->copies += computed.copies;
    totals->evictions += block_pool_counts(w->s->pool).evictions;
}

static void run_workload(uint64_t seed, bool every_tick, struct totals *totals)
{
    struct workload *w = must_alloc(sizeof *w);
    print_repeat_on_abort("test_stages_random", seed);
    w->rng = (struct rng){mix64(seed)};
    w->now_us = 1;
    w->every_tick = every_tick;
    choose_house(w);
    w->count = between(&w->rng, 4, 12);
    int64_t arrival = 0, gap = between(&w->rng, 0, w->pressure ? 2 : 20);
    for (int32_t i = 0; i < w->count; i++) {
        arrival += between(&w->rng, 0, (int32_t)gap);
        choose_request(w, i, arrival);
    }
    w->tick_bound += arrival;
    if (w->pressure) tighten(w);

    struct error err = {0};
    w->sim = simulated_create(&w->sim_options);
    enum status status = scheduler_create(&w->options, simulated_executor(w->sim),
                                          clock_virtual(&w->now_us), &w->s, &err);
    invariant(status == ST_OK, "no scheduler: %s", err.text);
    while (w->finished < w->count) {
        run_tick(w);
        invariant(w->tick < w->tick_bound, "it never ends");
    }
    while (run_tick(w)) /* what is in flight of the last that ended */
        ;
    check_now(w);
    check_totals(w, totals);
    scheduler_free(w->s);
    simulated_free(w->sim);
    for (int32_t i = 0; i < w->count; i++) {
        if (!w->planned[i].refused) stage_client_free(w->planned[i].client);
        script_free(&w->planned[i].script);
    }
    free(w);
}

Test(stages_random, every_branch_is_what_recursion_says)
{
    struct totals sum = {0};
    log_set_level(LOG_ERROR); /* failing steps warn */
    int64_t only = from_environment("ESPALIER_SEED", -1);
    int64_t runs = from_environment("ESPALIER_RUNS", RUNS);
    if (only >= 0) {
        run_workload((uint64_t)only, true, &sum);
        return;
    }
    for (int64_t seed = 1; seed <= runs; seed++)
        run_workload((uint64_t)seed, false, &sum);
    printf("%" PRId64 " requests (%" PRId64 " in stages) of %" PRId64 " sequences, %" PRId64
           " steps, %" PRId64 " copies, %" PRId64 " preemptions, %" PRId64
           " tokens cached, %" PRId64 " evictions, %" PRId64 " failed steps\n",
           sum.requests, sum.forked, sum.sequences, sum.steps, sum.copies, sum.preemptions,
           sum.cached, sum.evictions, sum.failed);
    cr_assert_gt(sum.preemptions, runs);
    cr_assert_gt(sum.refused, runs / 16, "only %" PRId64 " were refused", sum.refused);
    cr_assert_gt(sum.copies, 8 * runs);
    cr_assert_gt(sum.evictions, runs);
    cr_assert_gt(sum.cached, 5 * runs);
    for (int32_t reason = 0; reason < FINISH_REASONS; reason++)
        cr_assert_gt(sum.finished[reason], runs / 2, "only %" PRId64 " ended with reason %d",
                     sum.finished[reason], reason);
}
