#include "bench/idle_executor.h"

static void capacity(void *self, struct executor_capacity *out)
{
    *out = ((struct idle_executor *)self)->capacity;
}

static enum status submit(void *self, const struct step_plan *plan, uint64_t *ticket,
                          struct error *err)
{
    struct idle_executor *idle = self;
    (void)err;
    idle->row_count = plan->row_count;
    idle->copies = plan->copy_count;
    *ticket = ++idle->tickets;
    return ST_OK;
}

static enum status collect(void *self, uint64_t ticket, struct row_result *results,
                           struct error *err)
{
    const struct idle_executor *idle = self;
    (void)ticket;
    (void)err;
    for (int32_t i = 0; i < idle->row_count; i++)
        results[i] = (struct row_result){.sampled.token = i % idle->capacity.vocab};
    return ST_OK;
}

struct executor idle_executor_door(struct idle_executor *idle)
{
    static const struct executor_ops ops = {capacity, submit, collect};
    return (struct executor){&ops, idle};
}

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *token,
                                   bool ends)
{
    (void)context;
    (void)index;
    (void)token;
    (void)ends;
    return TOKEN_KEEP;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    (void)context;
    (void)index;
    (void)ending;
}

static void on_done(void *context, const struct request_stats *stats)
{
    (void)context;
    (void)stats;
}

struct request_events idle_events(void)
{
    return (struct request_events){NULL, NULL, on_token, on_finish, NULL, on_done};
}
