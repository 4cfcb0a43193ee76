#include "traces/simulate/simulation.h"

#include "base/base.h"
#include "scheduler/scheduler.h"
#include "traces/simulate/cost_executor.h"
#include "traces/simulate/player.h"

#include <math.h>
#include <stdlib.h>

/* Steps between two looks at the requests that are there for some that are lost already. */
#define LOOK_STEPS 32
#define TELL_STEPS 64 /* between two words of how far the run is */

#define TIME_MOST_US 1e18 /* a trace that is stretched further ends there */

struct run {
    const struct simulation_options *options;
    const struct trace *trace;
    struct simulation_result *result;
    int64_t now_us;
    struct cost_executor *cost;
    struct scheduler *scheduler;
    struct predictor predictor; /* the policy's, or of who is refused */
    struct step_predictor planned_with;
    struct step_predictor unbiased;
    struct player_room room;
    struct results_builder *builder;

    struct player *first, *last; /* that are there, in order of arrival */
    int32_t active;
    size_t arrived;
    int64_t scored, scored_ended, missed; /* open loop; `scored` from the beginning */
    int64_t steps;
    bool closing; /* the run is over: what ends now was cut off */
};

static bool is_closed(const struct run *run)
{
    return run->options->concurrency > 0;
}

static bool in_window(const struct run *run, int64_t time_us)
{
    const struct simulation_options *options = run->options;
    return time_us >= options->warm_us && (options->until_us == 0 || time_us < options->until_us);
}

/* --- arrivals */

static size_t index_of(const struct run *run, size_t arrival)
{
    return (run->options->first % run->trace->count + arrival) % run->trace->count;
}

/* Open loop. Behind the trace's end its beginning follows after a mean gap. */
static int64_t due_us(const struct run *run, size_t arrival)
{
    const struct trace *trace = run->trace;
    size_t first = run->options->first % trace->count, index = index_of(run, arrival);
    double ms = trace->requests[index].arrival_ms - trace->requests[first].arrival_ms;
    if (index < first) {
        double span = trace->requests[trace->count - 1].arrival_ms - trace->requests[0].arrival_ms;
        ms += span + span / (double)(trace->count - 1);
    }
    return llround(fmin(ms * 1000 / run->options->rate_scale, TIME_MOST_US));
}

/* The arrival number `arrival` comes at all: each request once, in closed loop again and again
 * while there is time. */
static bool comes(const struct run *run, size_t arrival)
{
    const struct simulation_options *options = run->options;
    if (!is_closed(run))
        return arrival < run->trace->count &&
               (options->duration_us == 0 || due_us(run, arrival) <= options->duration_us);
    int64_t end_us = options->duration_us ? options->duration_us : options->until_us;
    return end_us ? run->now_us < end_us : arrival < run->trace->count;
}

static void unlink_player(struct run *run, struct player *player)
{
    if (player->previous)
        player->previous->next = player->next;
    else
        run->first = player->next;
    if (player->next)
        player->next->previous = player->previous;
    else
        run->last = player->previous;
    run->active--;
}

static void link_player(struct run *run, struct player *player)
{
    player->previous = run->last;
    player->next = NULL;
    if (run->last)
        run->last->next = player;
    else
        run->first = player;
    run->last = player;
    run->active++;
}

static void arrive(struct run *run, int64_t due)
{
    struct request_params params;
    struct error err = {0};
    uint64_t id;
    size_t index = index_of(run, run->arrived++);
    struct player *player =
        player_start(&run->room, &run->trace->requests[index], (int64_t)index, due, &params);
    player->scored = in_window(run, due);
    link_player(run, player);
    enum status status = scheduler_add(run->scheduler, &params, &id, &err);
    if (status) player_refuse(player, status == ST_INVALID ? "too long" : status_words(status));
}

static void let_arrive(struct run *run)
{
    if (is_closed(run)) {
        /* A trace of which nothing fits does not keep us here for ever. */
        size_t refused = 0;
        while (refused < run->trace->count && run->active < run->options->concurrency &&
               comes(run, run->arrived)) {
            int32_t before = run->active;
            arrive(run, run->now_us);
            refused = run->active > before ? 0 : refused + 1;
        }
        return;
    }
    while (comes(run, run->arrived)) {
        int64_t due = due_us(run, run->arrived);
        if (due > run->now_us) return;
        arrive(run, due);
    }
}

/* Open loop. */
static void count_scored(struct run *run)
{
    for (size_t i = 0; comes(run, i); i++) {
        bool scored = in_window(run, due_us(run, i));
        run->scored += scored;
        run->result->not_scored += !scored;
    }
}

/* --- what the run hears of */

static void note_step(void *context, const struct cost_step *step)
{
    struct run *run = context;
    const struct simulation_options *options = run->options;
    int64_t latency_us = step->end_us - step->start_us;
    run->steps++;
    /* What whoever planned it expected: a predictor has not learned from this step yet. */
    double predicted_us = run->planned_with.predict
                              ? run->planned_with.predict(run->planned_with.self, &step->load)
                              : step->predicted_us;
    if (in_window(run, step->end_us))
        results_add_step(run->builder, latency_us, step->rows, predicted_us);
    if (options->on_step)
        options->on_step(options->context, step->end_us, latency_us, step->rows, &step->load);
}

/* In closed loop nobody knows yet which requests will end in time: gaps in it count. */
static void note_token(void *context, struct player *player, int64_t gap_us)
{
    struct run *run = context;
    bool counts = is_closed(run) ? in_window(run, run->now_us) : player->scored;
    if (gap_us >= 0 && counts) results_add_gap(run->builder, gap_us);
}

static void note_end(void *context, struct player *player)
{
    struct run *run = context;
    unlink_player(run, player);
    if (run->closing) return;
    if (is_closed(run)) player->scored = in_window(run, run->now_us);
    if (!player->scored) return;
    run->scored_ended++;
    if (!player->lost && !record_meets(&player->record, run->options->kind)) run->missed++;
    results_add(run->builder, &player->record);
    if (run->options->on_record) run->options->on_record(run->options->context, &player->record);
}

/* --- giving up */

static int64_t serial_gaps(const struct trace_request *request)
{
    int64_t gaps = 0;
    for (int32_t i = 0; i < request->stage_count; i++)
        if (!request->stages[i].parallel) gaps += request->stages[i].branch_tokens[0] - 1;
    return gaps;
}

/* Whatever comes, the request will miss its SLO; false may be wrong. */
static bool is_lost(const struct run *run, const struct player *player)
{
    const struct request_record *record = &player->record;
    int64_t ttft = record->slo.ttft_us, tpot = record->slo.tpot_us;
    int64_t reached = record->output_tokens ? record->first_us : run->now_us;
    if (ttft && reached - record->sent_us > ttft) return true;
    if (!tpot || record->output_tokens == 0) return false;
    double tokens = (double)trace_request_output(player->request);
    switch (run->options->kind) {
    case SLO_MEAN:
        return (double)(run->now_us - record->first_us) > (double)tpot * (tokens - 1);
    case SLO_ENVELOPE:
        return record->running.late_us > 0;
    case SLO_GAPS:
        return (double)record->running.late_gaps > 0.05 * (double)serial_gaps(player->request);
    case SLO_STAGES:
        return record->branching && ttft &&
               (double)(run->now_us - record->sent_us) > (double)ttft + (double)tpot * tokens;
    }
    return false;
}

static void look_for_lost(struct run *run)
{
    for (struct player *player = run->first; player; player = player->next) {
        if (!player->scored || player->lost || !is_lost(run, player)) continue;
        player->lost = true;
        run->missed++;
    }
}

static bool gives_up(struct run *run)
{
    double below = run->options->give_up_below;
    if (below <= 0 || is_closed(run)) return false;
    if (run->steps % LOOK_STEPS == 0) look_for_lost(run);
    double best = (double)(run->scored - run->missed);
    return run->missed > 0 && best < below * (double)run->scored - 1e-9;
}

/* --- the run */

static bool is_over(const struct run *run)
{
    if (!is_closed(run)) return run->scored_ended == run->scored;
    return run->options->until_us > 0 && run->now_us >= run->options->until_us;
}

/* By the requests that have ended; a closed loop that has an end, by its time. */
static double share_done(const struct run *run)
{
    const struct simulation_options *options = run->options;
    if (is_closed(run) && options->until_us > 0)
        return (double)run->now_us / (double)options->until_us;
    int64_t all = is_closed(run) ? (int64_t)run->trace->count : run->scored;
    return all > 0 ? (double)run->scored_ended / (double)all : 1;
}

static void tell_progress(const struct run *run)
{
    const struct simulation_options *options = run->options;
    if (options->on_progress && run->steps % TELL_STEPS == 0)
        options->on_progress(options->context, fmin(share_done(run), 1));
}

static void play(struct run *run)
{
    for (;;) {
        let_arrive(run);
        if (is_over(run)) return;
        tell_progress(run);
        if (!scheduler_tick(run->scheduler)) {
            if (is_closed(run) ? run->active == 0 : !comes(run, run->arrived)) return;
            if (!is_closed(run)) run->now_us = due_us(run, run->arrived);
        }
        run->result->gave_up = gives_up(run);
        if (run->result->gave_up) return;
    }
}

static double scored_seconds(const struct run *run)
{
    int64_t end = run->options->until_us ? run->options->until_us : run->now_us;
    return end > run->options->warm_us ? (double)(end - run->options->warm_us) * 1e-6 : 0;
}

static enum status check(const struct simulation_options *options, const struct trace *trace,
                         struct error *err)
{
    if (trace->count == 0) return fail(err, ST_INVALID, "the trace has no requests");
    if (options->concurrency < 0)
        return fail(err, ST_INVALID, "the concurrency is %d; 0 (open loop) or more is allowed",
                    options->concurrency);
    if (options->concurrency == 0 && !(options->rate_scale > 0))
        return fail(err, ST_INVALID, "the rate is scaled by %g; more than 0 is allowed",
                    options->rate_scale);
    if (options->concurrency > 0 && options->admission == ADMISSION_REFUSE)
        return fail(err, ST_INVALID, "requests are refused in an open loop only");
    if (options->chunk_by_slo && options->step_target_us <= 0)
        return fail(err, ST_INVALID, "--prefill-chunk slo needs a limit for the time per token");
    return ST_OK;
}

/* Nobody is refused for the queue's length: as many sequences as there can ever be. */
static int32_t queue_length(const struct run *run)
{
    int64_t widest = 1, most = 1 << 28;
    for (size_t i = 0; i < run->trace->count; i++)
        for (int32_t s = 0; s < run->trace->requests[i].stage_count; s++)
            if (run->trace->requests[i].stages[s].branch_count > widest)
                widest = run->trace->requests[i].stages[s].branch_count;
    int64_t requests = is_closed(run) ? run->options->concurrency : (int64_t)run->trace->count;
    return (int32_t)(requests > most / widest ? most : requests * widest);
}

#define PRIMING_STEPS 300

void simulation_predictor(const struct simulation_options *options, struct predictor *predictor)
{
    const struct profile *profile = options->profile;
    struct rng rng = {rng_at(options->seed, 0x70726d65)};
    struct step_prior prior = profile_prior(profile);
    predictor_init(predictor, profile_shared_prefix(profile), &prior);
    for (int i = 0; i < PRIMING_STEPS; i++) {
        int32_t rows = 1 + (int32_t)(150 * rng_unit(&rng));
        int32_t tokens = (int32_t)(options->prefill_chunk * rng_unit(&rng));
        if (rng_unit(&rng) < 0.5) tokens = 0;
        double context = rows * (300 + 2000 * rng_unit(&rng));
        struct step_load load = {.decode_rows = rows,
                                 .prefill_tokens = tokens,
                                 .context_read = (int64_t)context,
                                 .prefill_attention = tokens * 2000 * rng_unit(&rng)};
        double us = profile_step_us(profile, &load) * profile_draw_noise(profile, &rng);
        predictor_observe(predictor, &load, us);
    }
}

static double predict_biased(const void *self, const struct step_load *load)
{
    const struct run *run = self;
    return run->options->predictor_bias * run->unbiased.predict(run->unbiased.self, load);
}

static void observe_unbiased(void *self, const struct step_load *load, double us)
{
    const struct run *run = self;
    run->unbiased.observe(run->unbiased.self, load, us);
}

/* What it learns is right, what it says is not. */
static struct step_predictor biased(struct run *run, struct step_predictor predictor)
{
    if (!predictor.predict || run->options->predictor_bias == 0) return predictor;
    run->unbiased = predictor;
    return (struct step_predictor){predict_biased, predictor.observe ? observe_unbiased : NULL, run,
                                   predictor.shared};
}

static enum status open_run(struct run *run, struct error *err)
{
    const struct simulation_options *options = run->options;
    struct executor_capacity capacity;
    profile_capacity(options->profile, &capacity);
    run->room = (struct player_room){.now_us = &run->now_us,
                                     .vocab = capacity.vocab,
                                     .longest = capacity.max_context,
                                     .slo = options->slo,
                                     .context = run,
                                     .on_token = options->brief ? NULL : note_token,
                                     .on_end = note_end};
    run->cost = cost_executor_create(options->profile, options->seed, &run->now_us);
    if (!run->cost) return fail(err, ST_NO_MEMORY, "out of memory for the cost model");
    cost_executor_on_step(run->cost, note_step, run);
    struct scheduler_options settings = {.prefill_chunk = options->prefill_chunk,
                                         .max_queue = queue_length(run),
                                         .policy = options->policy,
                                         .every_gap = options->kind == SLO_GAPS,
                                         .admission = options->admission};
    if (options->chunk_by_slo) {
        settings.predictor = profile_predictor(options->profile);
        settings.step_target_us = options->step_target_us;
    }
    bool refuses = options->admission == ADMISSION_REFUSE && !options->chunk_by_slo;
    if (policy_needs_predictor(&options->policy) || refuses) {
        simulation_predictor(options, &run->predictor);
        settings.predictor = predictor_door(&run->predictor);
    }
    settings.predictor = biased(run, settings.predictor);
    run->planned_with = settings.predictor;
    return scheduler_create(&settings, cost_executor_door(run->cost), clock_virtual(&run->now_us),
                            &run->scheduler, err);
}

static void close_run(struct run *run)
{
    struct scheduler_counters counters = {0};
    if (run->scheduler) scheduler_counters(run->scheduler, &counters);
    run->result->virtual_us = run->now_us;
    run->result->preemptions = counters.preemptions;
    run->closing = true;
    scheduler_free(run->scheduler);
    cost_executor_free(run->cost);
    player_room_free(&run->room);
}

enum status simulation_run(const struct simulation_options *options, const struct trace *trace,
                           struct simulation_result *result, struct error *err)
{
    struct run run = {.options = options, .trace = trace, .result = result};
    *result = (struct simulation_result){0};
    enum status status = check(options, trace, err);
    if (status) return status;
    status = open_run(&run, err);
    if (!status) {
        run.builder = options->builder ? options->builder
                      : options->brief ? results_begin_brief()
                                       : results_begin();
        if (!is_closed(&run)) count_scored(&run);
        play(&run);
        if (is_closed(&run)) result->not_scored = (int64_t)run.arrived - run.scored_ended;
        result->scored_s = scored_seconds(&run);
        if (!options->builder) result->results = results_end(run.builder, result->scored_s);
    }
    close_run(&run);
    return status;
}
