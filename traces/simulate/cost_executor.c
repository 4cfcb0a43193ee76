#include "traces/simulate/cost_executor.h"

#include "base/base.h"

#include <math.h>
#include <stdlib.h>

#define MAX_IN_FLIGHT 2
#define STEP_MOST_US  1e10 /* so that no profile makes the clock run over */

struct flight {
    const struct step_plan *plan;
    uint64_t ticket;
    int64_t submitted_us;
    double predicted_us;
    struct step_load load;
};

struct cost_executor {
    const struct profile *profile;
    struct executor_capacity capacity;
    struct load_meter *meter;
    uint64_t seed, tickets;
    int64_t *now_us;
    int64_t free_us; /* when the device is done with what was collected */
    struct flight flights[MAX_IN_FLIGHT];
    int32_t oldest, in_flight;
    void (*on_step)(void *context, const struct cost_step *step);
    void *context;
};

struct cost_executor *cost_executor_create(const struct profile *profile, uint64_t seed,
                                           int64_t *now_us)
{
    struct cost_executor *cost = try_alloc(1, sizeof *cost);
    if (!cost) return NULL;
    cost->profile = profile;
    cost->seed = seed;
    cost->now_us = now_us;
    profile_capacity(profile, &cost->capacity);
    cost->meter = load_meter_create(profile_shared_prefix(profile), cost->capacity.max_rows,
                                    cost->capacity.block_count);
    if (cost->meter) return cost;
    free(cost);
    return NULL;
}

void cost_executor_free(struct cost_executor *cost)
{
    if (!cost) return;
    invariant(cost->in_flight == 0, "%d steps are in flight at the end", cost->in_flight);
    load_meter_free(cost->meter);
    free(cost);
}

void cost_executor_on_step(struct cost_executor *cost,
                           void (*on_step)(void *context, const struct cost_step *step),
                           void *context)
{
    cost->on_step = on_step;
    cost->context = context;
}

static void cost_capacity(void *self, struct executor_capacity *capacity)
{
    *capacity = ((struct cost_executor *)self)->capacity;
}

static enum status cost_submit(void *self, const struct step_plan *plan, uint64_t *ticket,
                               struct error *err)
{
    struct cost_executor *cost = self;
    (void)err;
    invariant(cost->in_flight < cost->capacity.depth, "%d steps are in flight already",
              cost->in_flight);
    struct flight *flight = &cost->flights[(cost->oldest + cost->in_flight++) % MAX_IN_FLIGHT];
    flight->plan = plan;
    flight->ticket = *ticket = ++cost->tickets;
    flight->submitted_us = *cost->now_us;
    flight->load = load_meter_measure(cost->meter, plan->rows, plan->row_count);
    flight->predicted_us = profile_step_us(cost->profile, &flight->load);
    return ST_OK;
}

/* Of its own for each step. */
static double noise_of(const struct cost_executor *cost, uint64_t ticket)
{
    struct rng rng = {rng_at(cost->seed, ticket)};
    return profile_draw_noise(cost->profile, &rng);
}

static void finish_step(struct cost_executor *cost, const struct flight *flight)
{
    int64_t start = flight->submitted_us > cost->free_us ? flight->submitted_us : cost->free_us;
    double latency = fmin(flight->predicted_us * noise_of(cost, flight->ticket), STEP_MOST_US);
    int64_t end = start + (latency < 1 ? 1 : (int64_t)llround(latency));
    cost->free_us = end;
    if (*cost->now_us < end) *cost->now_us = end;
    struct cost_step step = {.start_us = start,
                             .end_us = end,
                             .predicted_us = flight->predicted_us,
                             .rows = flight->plan->row_count,
                             .load = flight->load};
    if (cost->on_step) cost->on_step(cost->context, &step);
}

static int32_t some_token(const struct cost_executor *cost, const struct plan_row *row)
{
    uint64_t bits = mix64(row->sequence * 0x9e3779b97f4a7c15u + row->sample_index);
    return (int32_t)((bits >> 32) * (uint64_t)cost->capacity.vocab >> 32);
}

static enum status cost_collect(void *self, uint64_t ticket, struct row_result *results,
                                struct error *err)
{
    struct cost_executor *cost = self;
    const struct flight *flight = &cost->flights[cost->oldest];
    (void)err;
    invariant(cost->in_flight > 0 && flight->ticket == ticket, "ticket %llu is not the oldest",
              (unsigned long long)ticket);
    cost->oldest = (cost->oldest + 1) % MAX_IN_FLIGHT;
    cost->in_flight--;
    for (int32_t i = 0; i < flight->plan->row_count; i++) {
        /* Field by field: the alternatives of a result are large and nobody asked for any. */
        const struct plan_row *row = &flight->plan->rows[i];
        results[i].sampled.token = row->sample ? some_token(cost, row) : -1;
        results[i].sampled.logprob = 0;
        results[i].sampled.top_count = 0;
        results[i].scores = NULL;
    }
    finish_step(cost, flight);
    return ST_OK;
}

struct executor cost_executor_door(struct cost_executor *cost)
{
    static const struct executor_ops ops = {cost_capacity, cost_submit, cost_collect};
    return (struct executor){&ops, cost};
}
