/* The scheduler: a request comes in at scheduler_add, waits, runs, and leaves through its events.
 * scheduler_tick is the place to start reading; core.h names the files of its four verbs. */
#include "scheduler/core.h"

#include "base/base.h"

#include <stdlib.h>

struct scheduler_options scheduler_options_default(void)
{
    return (struct scheduler_options){.max_rows = 0, .prefill_chunk = 512, .max_queue = 256};
}

static enum status check_options(const struct scheduler_options *options,
                                 const struct executor_capacity *capacity, struct error *err)
{
    if (options->max_rows < 0)
        return fail(err, ST_INVALID, "max-rows is %d; 1 or more is allowed, 0 means the most",
                    options->max_rows);
    if (options->prefill_chunk < 1)
        return fail(err, ST_INVALID, "prefill-chunk is %d; 1 or more is allowed",
                    options->prefill_chunk);
    if (options->step_target_us < 0 || (options->step_target_us && !options->predictor.predict))
        return fail(err, ST_INVALID,
                    "the target of a step is %lld us; 0 (none) is allowed, with a predictor more",
                    (long long)options->step_target_us);
    if (policy_needs_predictor(&options->policy) && !options->predictor.predict)
        return fail(err, ST_INVALID, "the policy needs a predictor of step latency");
    if (options->max_queue < 1)
        return fail(err, ST_INVALID, "max-queue is %d; 1 or more is allowed", options->max_queue);
    if (capacity->depth < 1 || capacity->depth > MAX_DEPTH)
        return fail(err, ST_INVALID, "the executor's depth is %d; 1 or 2 is allowed",
                    capacity->depth);
    if (capacity->block_count < 1 || capacity->max_rows < 1 || capacity->max_tokens < 1 ||
        capacity->max_context < 2 || capacity->vocab < 1)
        return fail(err, ST_INVALID,
                    "the executor has %d KV blocks, %d rows, %d tokens a step, a context of %d and "
                    "a vocabulary of %d; at least 1, 1, 1, 2 and 1 are needed",
                    capacity->block_count, capacity->max_rows, capacity->max_tokens,
                    capacity->max_context, capacity->vocab);
    return ST_OK;
}

static bool make_arrays(struct scheduler *s, int64_t queue_capacity)
{
    if (queue_capacity > INT32_MAX) return false;
    s->pool = block_pool_create(s->capacity.block_count);
    s->running = try_alloc((size_t)s->max_rows, sizeof s->running[0]);
    s->ready = try_alloc((size_t)s->max_rows, sizeof s->ready[0]);
    s->chosen = try_alloc((size_t)s->max_rows, sizeof s->chosen[0]);
    s->scratch = try_alloc(2 * (size_t)s->max_rows, sizeof s->scratch[0]);
    s->ready_capacity = s->max_rows;
    bool made = s->pool && s->running && s->ready && s->chosen && s->scratch &&
                request_queue_init(&s->waiting, (int32_t)queue_capacity);
    for (int32_t i = 0; i < s->capacity.depth; i++)
        made = made && step_init(&s->steps[i], s->max_rows, s->capacity.max_tokens);
    if (s->admission == ADMISSION_REFUSE) {
        s->known = known_blocks_create(s->capacity.block_count);
        made = made && s->known;
    }
    if (!s->predictor.predict) return made;
    s->meter = load_meter_create(s->predictor.shared, s->max_rows, s->capacity.block_count);
    return made && s->meter;
}

static void free_arrays(struct scheduler *s)
{
    for (int32_t i = 0; i < MAX_DEPTH; i++)
        step_release(&s->steps[i]);
    request_queue_release(&s->waiting);
    load_meter_free(s->meter);
    known_blocks_free(s->known);
    free(s->running);
    free(s->ready);
    free(s->chosen);
    free(s->scratch);
    block_pool_free(s->pool);
    free(s);
}

enum status scheduler_create(const struct scheduler_options *options, struct executor executor,
                             struct clock clock, struct scheduler **out, struct error *err)
{
    struct executor_capacity capacity = {0};
    executor.ops->capacity(executor.self, &capacity);
    enum status status = check_options(options, &capacity, err);
    if (status) return status;

    struct scheduler *s = must_alloc(sizeof *s);
    s->executor = executor;
    s->clock = clock;
    s->capacity = capacity;
    s->limits = (struct request_limits){.max_context = capacity.max_context,
                                        .block_count = capacity.block_count,
                                        .max_queue = options->max_queue,
                                        .vocab = capacity.vocab,
                                        .hasher = options->hasher};
    /* Every running request has a row in a step, so there are no more than tokens in a step. */
    s->max_rows = min_i32(capacity.max_rows, capacity.max_tokens);
    if (options->max_rows > 0) s->max_rows = min_i32(s->max_rows, options->max_rows);
    s->prefill_chunk = options->prefill_chunk;
    s->every_gap = options->every_gap;
    s->policy = options->policy;
    s->predictor = options->predictor;
    s->fit.bias = 1;
    s->step_target_us = (double)options->step_target_us;
    if (s->predictor.predict) s->admission = options->admission;
    /* See queue.h: what waits or runs never exceeds this. */
    if (!make_arrays(s, (int64_t)options->max_queue + s->max_rows)) {
        free_arrays(s);
        return fail(err, ST_NO_MEMORY, "out of memory for a queue of %d and %d KV blocks",
                    options->max_queue, capacity.block_count);
    }
    *out = s;
    return ST_OK;
}

void scheduler_wind_up(struct scheduler *s)
{
    for (struct request *request = s->first; request; request = request->next)
        request->cancelled = true;
    s->any_ends = true;
    while (scheduler_tick(s)) {
    }
}

void scheduler_free(struct scheduler *s)
{
    if (!s) return;
    scheduler_wind_up(s);
    invariant(!s->first, "request %llu is left when the scheduler goes",
              (unsigned long long)s->first->id);
    free_arrays(s);
}

struct request_limits scheduler_limits(const struct scheduler *s)
{
    return s->limits;
}

struct known_blocks *scheduler_known_blocks(const struct scheduler *s)
{
    return s->known;
}

int32_t scheduler_max_length(const struct scheduler *s, int32_t n)
{
    return request_limits_length(&s->limits, n);
}

/* Sequences with blocks, as many as a step has rows. A request between two stages counts one. */
static int32_t running_count(const struct scheduler *s)
{
    int32_t count = 0;
    for (int32_t i = 0; i < s->running_count; i++)
        count += max_i32(1, request_resident_count(s->running[i]));
    return min_i32(count, s->max_rows);
}

/* All others that have not ended: without blocks, or without a place in the steps. */
static int32_t waiting_count(const struct scheduler *s)
{
    return s->unfinished_count - running_count(s);
}

/* Room in the queue for `n` more. Those that run are counted only where it depends on them. */
static bool has_place(const struct scheduler *s, int32_t n)
{
    int32_t most = s->limits.max_queue - n;
    return s->unfinished_count <= most || waiting_count(s) <= most;
}

static bool anybody_waits(const struct scheduler *s)
{
    const struct request *request = s->first;
    while (request && request->state == REQUEST_ENDED) /* with rows in flight: few */
        request = request->next;
    return request != NULL;
}

static enum status check_time(const struct scheduler *s, const struct request_params *params,
                              int32_t known, struct error *err)
{
    if (s->admission == ADMISSION_QUEUE || !request_awaits_token(params)) return ST_OK;
    struct ttft_outlook outlook = scheduler_outlook(s);
    double us = request_ttft_us(&outlook, &outlook.line, params, known, clock_now(&s->clock));
    struct ttft_verdict verdict;
    return ttft_in_time(us, params->slo.ttft_us, &verdict) ? ST_OK : ttft_fail(&verdict, err);
}

enum status scheduler_add(struct scheduler *s, const struct request_params *params, uint64_t *id,
                          struct error *err)
{
    struct request *request;
    enum status status = request_check(&s->limits, params, err);
    if (status) return status;
    if (!has_place(s, params->n))
        return fail(err, ST_FULL, "The queue is full: %d sequences wait, at most %d may.",
                    waiting_count(s), s->limits.max_queue);
    int32_t known = request_known(s->known, &s->limits, params);
    status = check_time(s, params, known, err);
    if (!status) status = request_create(&s->limits, params, clock_now(&s->clock), &request, err);
    if (status) return status;
    request_make_known(s->known, &s->limits, params);
    request->known = known;
    request->id = *id = ++s->last_id;
    scheduler_enqueue(s, request);
    return ST_OK;
}

void scheduler_enqueue(struct scheduler *s, struct request *request)
{
    request->next = NULL;
    request->previous = s->last;
    if (s->last)
        s->last->next = request;
    else
        s->first = request;
    s->last = request;
    count_stage(s, request->first_stage, 1);
    s->unfinished_count += request_width(request);
    for (struct sequence *seq = request_begin(request); seq; seq = sequence_next(seq))
        seq->name = ++s->last_sequence;
    request_queue_push(&s->waiting, request);
}

void scheduler_cancel(struct scheduler *s, uint64_t id)
{
    for (struct request *request = s->first; request; request = request->next) {
        if (request->id != id) continue;
        request->cancelled = s->any_ends = true;
        return;
    }
}

static void receive(struct scheduler *s)
{
    if (!s->any_ends) return;
    s->any_ends = false;
    struct request *next;
    for (struct request *request = s->first; request; request = next) {
        next = request->next;
        if (request->cancelled)
            request_end(s, request, FINISH_ABORT);
        else if (request->at_pool)
            request_end(s, request, FINISH_LENGTH);
    }
}

static struct step *schedule(struct scheduler *s)
{
    struct step *step = &s->steps[(s->oldest + s->in_flight) % s->capacity.depth];
    return plan_step(s, step) ? step : NULL;
}

static void predict(struct scheduler *s, struct step *step)
{
    if (!s->predictor.predict) return;
    s->last_load = step->load = load_meter_measure(s->meter, step->rows, step->plan.row_count);
    double us = s->predictor.predict(s->predictor.self, &step->load);
    step->predicted_us = us >= 0 && us <= LONGEST_STEP_US ? us : 0; /* else it says nothing */
}

static void forward(struct scheduler *s, struct step *step)
{
    struct error err = {0};
    step->began_us = s->began_us;
    predict(s, step);
    int64_t since_us = clock_now(&s->clock);
    enum status status =
        s->executor.ops->submit(s->executor.self, &step->plan, &step->ticket, &err);
    s->counters.executor_us += clock_now(&s->clock) - since_us;
    s->counters.steps++;
    s->counters.step_rows = step->plan.row_count;
    s->counters.step_tokens = step->plan.token_count;
    if (status)
        fail_step(s, step, status, &err);
    else
        s->in_flight++;
}

bool scheduler_tick(struct scheduler *s)
{
    s->began_us = clock_now(&s->clock);
    receive(s);
    struct step *step = schedule(s);
    if (step) forward(s, step);
    bool busy = step || s->in_flight > 0;
    if (s->in_flight == s->capacity.depth || (!step && s->in_flight > 0)) process(s);

    bool left = s->running_count > 0 || anybody_waits(s);
    s->idle_ticks = busy || !left ? 0 : s->idle_ticks + 1;
    invariant(s->idle_ticks < 3,
              "nothing moves: %d requests run, %d sequences wait, %d blocks are free",
              s->running_count, waiting_count(s), block_pool_available(s->pool));
#ifndef NDEBUG
    scheduler_check(s);
#endif
    return busy || left;
}

void scheduler_counters(const struct scheduler *s, struct scheduler_counters *counters)
{
    struct block_counts blocks = block_pool_counts(s->pool);
    *counters = s->counters;
    counters->running = running_count(s);
    counters->waiting = s->unfinished_count - counters->running;
    counters->blocks_total = blocks.total;
    counters->blocks_held = blocks.held;
    counters->blocks_cached = blocks.cached;
    counters->blocks_free = blocks.free;
}
