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

/* Predicted latency of what is chosen; with a chunk of so many tokens instead; and with one more
 * row, of a sequence that is not chosen yet. */
double taper_now_us(const struct taper_batch *batch);
double taper_chunk_us(const struct taper_batch *batch, int32_t chunk);
double taper_row_us(const struct taper_batch *batch, const struct sequence *seq);

void taper_set_chunk(struct taper_batch *batch, int32_t chunk);
/* The largest chunk, of those between `least` and what is wanted and allowed, with which the step
 * takes `most_us` at most; `least` if there is none. */
int32_t taper_fit_chunk(const struct taper_batch *batch, int32_t least, double most_us);

/* Whether the pool has a block for its row without taking one from anybody. */
bool taper_has_room(const struct taper_batch *batch, const struct sequence *seq);
void taper_choose(struct taper_batch *batch, struct sequence *seq);

/* The sequences of one request that are not chosen, the one to choose first on top. */
struct taper_line {
    struct sequence **heap;
    int32_t count;
};
/* Those of the request whose sequences begin at `first`; *end: behind its last. In ready.scratch,
 * at the same places. */
struct taper_line taper_line_of(const struct ready *ready, int32_t first, int32_t *end);
struct sequence *taper_line_pop(struct taper_line *line); /* NULL: none is left */

#endif
