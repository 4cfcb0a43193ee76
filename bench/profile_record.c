#include "bench/profile_record.h"

#include "base/base.h"
#include "base/progress.h"
#include "scheduler/scheduler.h"
#include "traces/simulate/player.h"

#include <math.h>
#include <stdlib.h>

#define KINDS            64 /* of requests, drawn once and used in turn */
#define LEAST_PROMPT     16
#define PROMPT_MEDIAN    220.0
#define PROMPT_SIGMA     1.0
#define LEAST_ANSWER     8
#define ANSWER_SPREAD    56
#define BRANCHING_SHARE  0.35
#define MOST_BRANCHES    8
#define PHASE_STEPS      32 /* that one number of clients is held; none is sent in the second half */
#define SAMPLES_AT_FIRST 4096

struct recorder {
    const struct record_options *options;
    struct executor inner;
    struct load_meter *meter;
    struct clock clock;
    const struct step_plan *plan; /* in flight */
    int64_t since_us, now_us;
    struct recorded_steps *steps;
    int64_t capacity;

    struct rng rng;
    struct trace *trace; /* KINDS requests */
    struct scheduler *scheduler;
    struct player_room room;
    int32_t active;
    int64_t sent;
    struct error failure; /* of a step: the recording ends */
};

/* --- the executor in between */

static void note_capacity(void *self, struct executor_capacity *capacity)
{
    struct recorder *r = self;
    r->inner.ops->capacity(r->inner.self, capacity);
    invariant(capacity->depth == 1, "steps of an executor of depth %d overlap", capacity->depth);
}

static enum status note_submit(void *self, const struct step_plan *plan, uint64_t *ticket,
                               struct error *err)
{
    struct recorder *r = self;
    r->plan = plan;
    if (r->since_us == 0) r->since_us = clock_now(&r->clock);
    return r->inner.ops->submit(r->inner.self, plan, ticket, err);
}

static void add_sample(struct recorder *r, int64_t us)
{
    struct recorded_steps *steps = r->steps;
    if (steps->count == r->capacity) {
        r->capacity = r->capacity ? 2 * r->capacity : SAMPLES_AT_FIRST;
        steps->samples = must_realloc(steps->samples, (size_t)r->capacity * sizeof *steps->samples);
    }
    struct step_load load = load_meter_measure(r->meter, r->plan->rows, r->plan->row_count);
    steps->samples[steps->count++] = (struct step_sample){load, (double)us};
}

static enum status note_collect(void *self, uint64_t ticket, struct row_result *results,
                                struct error *err)
{
    struct recorder *r = self;
    enum status status = r->inner.ops->collect(r->inner.self, ticket, results, err);
    r->now_us = clock_now(&r->clock);
    if (status) r->failure = *err;
    if (!status && r->now_us > r->since_us) add_sample(r, r->now_us - r->since_us);
    r->since_us = r->now_us;
    return status;
}

/* --- the load */

static int32_t draw(struct rng *rng, int32_t least, int32_t most)
{
    return least + (int32_t)rng_below(rng, (uint64_t)(most - least + 1));
}

/* Prompts up to half of the context, so that every answer fits. */
static void make_requests(struct recorder *r, int32_t max_context)
{
    int32_t tokens[MOST_BRANCHES], most = max_i32(LEAST_PROMPT, max_context / 2);
    r->trace = trace_create();
    for (int i = 0; i < KINDS; i++) {
        double length = PROMPT_MEDIAN * exp(PROMPT_SIGMA * rng_normal(&r->rng));
        int32_t answer = draw(&r->rng, LEAST_ANSWER, LEAST_ANSWER + ANSWER_SPREAD);
        int32_t width = draw(&r->rng, 2, MOST_BRANCHES);
        for (int32_t b = 0; b < width; b++)
            tokens[b] = draw(&r->rng, LEAST_ANSWER, LEAST_ANSWER + ANSWER_SPREAD);
        struct trace_stage stages[] = {{false, 1, &answer}, {true, width, tokens}};
        struct trace_request request = {
            .prompt_tokens = max_i32(LEAST_PROMPT, min_i32(most, (int32_t)fmin(length, 1e9))),
            .stages = stages,
            .stage_count = rng_unit(&r->rng) < BRANCHING_SHARE ? 2 : 1,
            .class_name = "",
        };
        trace_add(r->trace, &request);
    }
}

static void on_end(void *context, struct player *player)
{
    struct recorder *r = context;
    (void)player;
    r->active--;
}

static enum status send_one(struct recorder *r, struct error *err)
{
    struct request_params params;
    uint64_t id;
    int64_t index = r->sent++ % KINDS;
    struct player *player =
        player_start(&r->room, &r->trace->requests[index], index, r->now_us, &params);
    r->active++;
    enum status status = scheduler_add(r->scheduler, &params, &id, err);
    if (status) player_refuse(player, "refused");
    return status;
}

/* Clients of a phase: from 1 to the most, each doubling as likely as the other. */
static int32_t draw_clients(struct recorder *r, int32_t most)
{
    return (int32_t)lround(exp(rng_unit(&r->rng) * log(most)));
}

static enum status play(struct recorder *r, int32_t most_clients, struct error *err)
{
    struct progress bar;
    int64_t begin_us = clock_now(&r->clock), total_us = llround(r->options->seconds * 1e6);
    int32_t clients = 1, step = 0;
    enum status status = ST_OK;
    progress_begin(&bar, "recording steps", total_us);
    r->now_us = begin_us;
    while (!status && (r->now_us - begin_us < total_us || r->steps->count < ENOUGH_STEPS)) {
        if (step == 0) clients = draw_clients(r, most_clients);
        bool sending = step < PHASE_STEPS / 2 || r->active == 0;
        while (!status && sending && r->active < clients)
            status = send_one(r, err);
        if (!status) scheduler_tick(r->scheduler);
        if (r->failure.status) status = fail(err, r->failure.status, "%s", r->failure.text);
        step = (step + 1) % PHASE_STEPS;
        int64_t done_us = r->now_us - begin_us;
        progress_update(&bar, done_us < total_us ? done_us : total_us);
    }
    progress_end(&bar);
    return status;
}

static enum status run(struct recorder *r, struct error *err)
{
    static const struct executor_ops ops = {note_capacity, note_submit, note_collect};
    struct executor_capacity capacity;
    struct scheduler_options scheduling = scheduler_options_default();
    note_capacity(r, &capacity);
    r->meter = load_meter_create(r->options->shared, capacity.max_rows, capacity.block_count);
    if (!r->meter) return fail(err, ST_NO_MEMORY, "out of memory for the step recorder");
    scheduling.prefill_chunk = r->options->prefill_chunk;
    scheduling.max_rows = r->options->max_rows;
    scheduling.max_queue = r->options->max_rows * MOST_BRANCHES; /* all clients at once */
    enum status status =
        scheduler_create(&scheduling, (struct executor){&ops, r}, r->clock, &r->scheduler, err);
    if (status) return status;
    make_requests(r, min_i32(capacity.max_context, scheduler_max_length(r->scheduler, 1)));
    r->room = (struct player_room){.now_us = &r->now_us,
                                   .vocab = capacity.vocab,
                                   .longest = capacity.max_context,
                                   .context = r,
                                   .on_end = on_end};
    return play(r, min_i32(capacity.max_rows, scheduling.max_rows), err);
}

enum status profile_record(const struct record_options *options, struct recorded_steps *steps,
                           struct error *err)
{
    struct recorder r = {.options = options,
                         .inner = options->executor,
                         .clock = options->clock,
                         .steps = steps,
                         .rng = {options->seed}};
    *steps = (struct recorded_steps){0};
    enum status status = run(&r, err);
    scheduler_free(r.scheduler);
    player_room_free(&r.room);
    trace_free(r.trace);
    load_meter_free(r.meter);
    if (status) {
        free(steps->samples);
        *steps = (struct recorded_steps){0};
    }
    return status;
}
