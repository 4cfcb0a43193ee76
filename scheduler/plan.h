/* A step: the plan that the executor reads and the scheduler's notes beside it.
 *
 * The arrays by row are sized when the scheduler is made; those of spans grow with the contexts of
 * branches, and a row that finds no memory for its spans waits. There are as many
 * steps as can be in flight, and a plan is written only into one that is not: what a plan points at
 * stays as it is until its ticket is collected. A sequence's tokens and block table never move, and
 * live as long as a row of it is in flight.
 */
#ifndef SCHEDULER_PLAN_H
#define SCHEDULER_PLAN_H

#include "scheduler/sequence.h"
#include "scheduler/step_load.h"

struct step {
    struct step_plan plan;     /* views of the arrays */
    struct plan_row *rows;     /* [max_rows] */
    struct kv_span *spans;     /* [span_capacity], those of a row in its view's order */
    struct token_run *runs;    /* [span_capacity] the tokens of the spans */
    struct block_copy *copies; /* [max_rows] */
    int32_t span_count, span_capacity;
    struct sequence **owners;   /* [max_rows], whose row it is */
    struct row_result *results; /* [max_rows] */
    int32_t max_rows, max_tokens;
    uint64_t number; /* 1, 2, ... in the order of planning */
    uint64_t ticket;
    int64_t began_us;      /* when its planning did */
    double predicted_us;   /* 0: nobody predicts */
    struct step_load load; /* with a predictor */
};

bool step_init(struct step *step, int32_t max_rows, int32_t max_tokens); /* false: out of memory */
void step_release(struct step *step);

/* Empties it for the next plan, with room for `spans` if there is memory for them. */
void step_begin(struct step *step, uint64_t number, int32_t spans);

/* Whether the spans of one more row of `seq` fit. */
bool step_has_spans(const struct step *step, const struct sequence *seq);

/* Adds the next `count` tokens of a sequence from sequence_start on, whose table covers them, and
 * notes in the sequence that they are being computed. What stands before the first of a fork's is
 * copied. */
void step_add_row(struct step *step, struct sequence *seq, int32_t count);

#endif
