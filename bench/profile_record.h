/* Steps of a live engine, recorded: the scheduler that serves over the executor that serves, under
 * a random load that is sometimes light and sometimes heavy.
 *
 * A step's time runs from the end of the step before it (or, out of idleness, from its submit) to
 * its own end, so what the host does between two steps is in it.
 */
#ifndef BENCH_PROFILE_RECORD_H
#define BENCH_PROFILE_RECORD_H

#include "base/clock.h"
#include "bench/profile_fit.h"

#define ENOUGH_STEPS 300

struct record_options {
    struct executor executor;
    struct clock clock;
    enum shared_prefix shared; /* how the executor reads a prefix that rows share */
    int32_t max_rows, prefill_chunk;
    double seconds; /* and as much longer as it takes to have ENOUGH_STEPS */
    uint64_t seed;
};

struct recorded_steps {
    struct step_sample *samples; /* [count]; caller frees */
    int64_t count;
};

enum status profile_record(const struct record_options *options, struct recorded_steps *steps,
                           struct error *err);

#endif
