/* What a step is made of, as far as its latency goes, and who can tell the latency from it.
 *
 * A decode row is a row of one token that is to be sampled from; every other row is prefill. The
 * cost model of traces/simulate reads a step like this, and so does whoever plans one with a
 * latency in mind: the chunk that fits a target (plan.c), a policy that weighs an extra branch.
 */
#ifndef SCHEDULER_STEP_LOAD_H
#define SCHEDULER_STEP_LOAD_H

#include "scheduler/executor.h"

enum shared_prefix {
    SHARED_NONE,     /* every row reads its own context */
    SHARED_SIBLINGS, /* the branches of one stage read what they share once */
    SHARED_BLOCKS,   /* every KV block is read once a step, whoever shares it */
};

struct step_load {
    int32_t decode_rows, prefill_tokens;
    int64_t context_read; /* slots that decode rows attend to, shared ones as enum shared_prefix */
    double prefill_attention; /* sum over prefill rows of tokens * mean context */
};

static inline bool row_decodes(const struct plan_row *row)
{
    return row->count == 1 && row->sample;
}

/* tokens * mean context of a prefill row whose last token attends to `end` slots. */
static inline double prefill_attention(int32_t count, int32_t end)
{
    return (double)count * (end - count + 0.5 * count);
}

/* Adds up rows. For SHARED_SIBLINGS it remembers whose context was read, for SHARED_BLOCKS which
 * blocks: memory of its own, made once. */
struct load_meter;

/* max_rows in a step, blocks of the pool. NULL: out of memory. */
struct load_meter *load_meter_create(enum shared_prefix shared, int32_t max_rows,
                                     int32_t block_count);
void load_meter_free(struct load_meter *meter);

/* The load of `count` rows, all of one step. */
struct step_load load_meter_measure(struct load_meter *meter, const struct plan_row *rows,
                                    int32_t count);

/* Latency before the step runs. `shared` says how predict wants context_read. NULL predict: none.
 * NULL observe: it does not learn. */
struct step_predictor {
    double (*predict)(const void *self, const struct step_load *load); /* microseconds */
    void (*observe)(void *self, const struct step_load *load, double us);
    void *self;
    enum shared_prefix shared;
};

/* How far a predictor was off of late, by what steps took: for who plans with its word. */
struct prediction_fit {
    double bias;   /* what a step takes, over what was said */
    double spread; /* mean size of what is left, as a share of the step */
};

#endif
