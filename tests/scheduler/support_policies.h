/* Policies for tests with random workloads, with predictors that are of some use and others that
 * are of none. */
#ifndef SUPPORT_POLICIES_H
#define SUPPORT_POLICIES_H

#include "scheduler/predictor.h"
#include "scheduler/scheduler.h"

#include "base/base.h"

/* taper is watched (support_watched_taper.h). Draws once from `rng`, so that what is drawn behind
 * it does not depend on the policy.
 *
 * Sets options->policy, and options->predictor where it needs one: it learns in `predictor`, or
 * always says the same: nothing, for ever, not a number, less than nothing. Returns its name.
 * ESPALIER_POLICY in the environment: always this one. */
const char *random_policy(struct rng *rng, struct scheduler_options *options,
                          struct predictor *predictor);

/* None, hopeless, tight or loose, beside steps of a millisecond; the index-th of a workload. */
/* Of no machine in particular, on which a single row takes so long. */
struct step_prior some_prior(double single_row_us);

struct request_slo random_slo(uint64_t seed, int64_t index);

#endif
