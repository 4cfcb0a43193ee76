/* From recorded steps to a profile (traces/simulate/profile.h): least squares without negative
 * coefficients.
 *
 *   step = fixed + gemm(n) + row_us * decode rows + context_us * context read
 *        + prefill_context_us * prefill attention,   n = decode rows + prefill tokens
 *
 * gemm is straight lines between nodes at powers of two and never falls: more tokens do not take
 * less time, and a node that no step came near lies on its neighbours' line. Residuals are relative
 * to the step, because a short step's microseconds matter as much to its request as a long one's;
 * samples further out than three deviations are left out and the rest fitted again, because a
 * machine that did something else for a moment says nothing about the engine.
 */
#ifndef BENCH_PROFILE_FIT_H
#define BENCH_PROFILE_FIT_H

#include "scheduler/step_load.h"

#define FIT_NODES 14 /* 1, 2, 4, ... 8192 */

struct step_sample {
    struct step_load load;
    double us;
};

struct profile_fit {
    int32_t node_count;
    double nodes[FIT_NODES], node_us[FIT_NODES]; /* gemm and what is fixed */
    double row_us, context_us, prefill_context_us;
    double noise;        /* deviation of the logarithm, of the samples kept */
    double median_error; /* of |fitted - measured| / measured, over all samples */
    int64_t samples, left_out;
};

#define FIT_LEAST 100

/* At least FIT_LEAST samples, each of more than 0 us: else ST_INVALID. */
enum status profile_fit(const struct step_sample *samples, int64_t count, struct profile_fit *fit,
                        struct error *err);

double profile_fit_us(const struct profile_fit *fit, const struct step_load *load);

#endif
