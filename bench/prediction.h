/* How well recorded steps could have been predicted: by the predictor that serves, learning as they
 * come, and by the best constants there are, which know all of them.
 *
 * A constant is the median of the steps of one composition: the same number of decode rows, prefill
 * tokens that are the same or (above 16) within 10 %, context read within 30 %. Compared are the
 * steps whose composition was met at least CONSTANT_STEPS times; the first third is for learning.
 */
#ifndef BENCH_PREDICTION_H
#define BENCH_PREDICTION_H

#include "bench/profile_fit.h"
#include "scheduler/predictor.h"

#define CONSTANT_STEPS 5

struct prediction_errors {
    int64_t compared;          /* steps */
    double learned, constants; /* mean of |predicted / measured - 1| over them */
    double learned_all;        /* and over all behind the first third */
};

/* `prior` says the proportions; its size is the shortest step's. */
struct prediction_errors prediction_compare(const struct step_sample *samples, int64_t count,
                                            const struct step_prior *prior);

#endif
