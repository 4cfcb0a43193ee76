/* Steps that nobody asked for, to learn what steps take before the first request comes.
 *
 * It plans them itself, straight for the executor: rows of random tokens over blocks of its own
 * choice, so that a step with many rows and a long context needs no prompt computed before it. Only
 * while no scheduler has a step in flight and no block is in use; what it leaves in the blocks
 * nobody reads, because nobody knows of it. One step at a time, whatever the executor's depth.
 */
#ifndef SCHEDULER_PROFILING_H
#define SCHEDULER_PROFILING_H

#include "base/clock.h"
#include "scheduler/predictor.h"

struct profiling_options {
    struct executor executor;
    struct clock clock;
    enum shared_prefix shared; /* how the executor reads a prefix that rows share */
    int32_t max_rows, prefill_chunk;
    uint64_t seed;
};

struct profiling;

/* ST_INVALID: the executor has too few blocks (2), rows, tokens or positions to tell anything from;
 * ST_NO_MEMORY. */
enum status profiling_create(const struct profiling_options *options, struct profiling **out,
                             struct error *err);
void profiling_free(struct profiling *profiling);

/* Steps of one row, for about most_us, at least two: what a quarter of them keep to,
 * because others use the machine too. What the executor says when it fails. */
enum status profiling_single_row(struct profiling *profiling, int64_t most_us, double *single_us,
                                 struct error *err);

/* One random step (rows up to max_rows, a chunk up to prefill_chunk, or both), of those that
 * `predictor` expects to take most_us at most, if there are any; it learns from it. */
enum status profiling_step(struct profiling *profiling, struct predictor *predictor,
                           int64_t most_us, struct error *err);

#endif
