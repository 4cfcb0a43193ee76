/* What the tests with random workloads share: draws, and the command that repeats a failure. */
#ifndef SUPPORT_RANDOM_H
#define SUPPORT_RANDOM_H

#include "base/base.h"

int32_t between(struct rng *rng, int32_t low, int32_t high); /* both included */
bool chance(struct rng *rng, double share);

/* A number of the environment: ESPALIER_SEED, ESPALIER_RUNS. */
int64_t from_environment(const char *name, int64_t otherwise);

/* A test that aborts from now on prints how to run `program` with this seed alone. */
void print_repeat_on_abort(const char *program, uint64_t seed);

#endif
