/* What TAPER's policies share: the baseline of a step, and what more would make of its latency.
 *
 * The baseline (S_0 in arXiv 2605.06914) has one row for each request that could use one. The
 * externality of what is added is predict(baseline and it) - predict(baseline). Two things are
 * added: further rows of requests whose branches wait, and tokens to the chunk that the rows in
 * prefill share.
 */
#ifndef SCHEDULER_TAPER_BATCH_H
#define SCHEDULER_TAPER_BATCH_H

#include "scheduler/policy.h"

struct taper_batch {
    const struct ready *ready;
    struct step_load decode;   /* of the rows that decode */
    struct step_load prefill;  /* of the others, with a chunk of `chunk` tokens */
    struct step_load least;    /* of the others, with one token each */
    struct sequence **filling; /* [filling_count] those others, in their order */
    int32_t filling_count;
    int32_t wanted; /* tokens that they have left to compute */
    int32_t chunk;
    int32_t rows, left_rows;
    int32_t left_blocks; /* of the pool, behind what was chosen */
};

/* Chooses the baseline: of each request the sequence that had no row for longest. The chunk is 0:
 * each row in prefill has one token. */
void taper_begin(struct taper_batch *batch, const struct ready *ready);

double taper_now_us(const struct taper_batch *batch); /* predicted latency of what is chosen */

void taper_set_chunk(struct taper_batch *batch, int32_t chunk);
/* The largest chunk, of those between `least` and what is wanted and allowed, with which the step
 * takes `most_us` at most; `least` if there is none. Each row in prefill is looked at once. */
int32_t taper_fit_chunk(const struct taper_batch *batch, int32_t least, double most_us);

/* Whether the pool has a block for its row without taking one from anybody. */
bool taper_has_room(const struct taper_batch *batch, const struct sequence *seq);

/* The sequences of one request that are not chosen. */
struct taper_line {
    struct sequence **heap; /* a heap once it is ordered, the one to choose first on top */
    int32_t count;
    bool read; /* a sibling that is chosen decodes: what they share is read in this step already */
};
/* Those of the request whose sequences begin at `first`; *end: behind its last. In ready.scratch,
 * at the same places. */
struct taper_line taper_line_of(const struct ready *ready, int32_t first, int32_t *end);
/* All of them, if they decode, have room and the step then takes `most_us` at most; or none. */
bool taper_choose_line(struct taper_batch *batch, const struct taper_line *line, double most_us);
/* To take them one by one. */
void taper_line_order(struct taper_line *line);
struct sequence *taper_line_pop(struct taper_line *line); /* NULL: none is left */

/* Predicted latency with a row of this one, taken from the line; and to choose it. */
double taper_row_us(const struct taper_batch *batch, const struct taper_line *line,
                    const struct sequence *seq);
void taper_choose(struct taper_batch *batch, struct taper_line *line, struct sequence *seq);

#endif
