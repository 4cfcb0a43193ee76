/* An executor without a model (scheduler/executor.h): a step takes as long as the profile says (1
 * us at least, 10^10 at most), on a clock of its own. It computes nothing; a sampled token is a
 * hash of its sequence and index, so it never depends on when it was sampled, and no request should
 * name ids that end it.
 *
 * The device computes one step at a time, in the order of submission. submit takes no time; collect
 * puts the clock forward to the end of the step. Whoever owns the clock may put it forward too
 * (while nothing runs), never back.
 */
#ifndef TRACES_SIMULATE_COST_EXECUTOR_H
#define TRACES_SIMULATE_COST_EXECUTOR_H

#include "traces/simulate/profile.h"

struct cost_executor;

/* A step that was computed. */
struct cost_step {
    int64_t start_us, end_us;
    double predicted_us; /* without the noise */
    int32_t rows;
    struct step_load load;
};

/* `profile` and `*now_us` are borrowed; the noise is a function of `seed` and the step's number.
 * NULL: out of memory. */
struct cost_executor *cost_executor_create(const struct profile *profile, uint64_t seed,
                                           int64_t *now_us);
void cost_executor_free(struct cost_executor *cost);

struct executor cost_executor_door(struct cost_executor *cost);

/* Called in each collect, when the clock shows the step's end and before the scheduler sees its
 * tokens. */
void cost_executor_on_step(struct cost_executor *cost,
                           void (*on_step)(void *context, const struct cost_step *step),
                           void *context);

#endif
