/* A scheduler over a simulated executor in virtual time, checked at every tick. */
#ifndef SUPPORT_BENCH_H
#define SUPPORT_BENCH_H

#include "support_client.h"

#include "scheduler/core.h"

#define VOCAB 97

struct bench {
    struct simulated *sim;
    struct scheduler *s;
    int64_t now_us;
};

/* More than the tests need of everything, at depth 1. */
extern const struct executor_capacity roomy;

/* `faults`: its capacity and clock are set here. */
struct bench *bench_open(struct executor_capacity capacity, struct scheduler_options options,
                         struct simulated_options faults);
struct bench *bench_default(int32_t depth);
void bench_close(struct bench *bench);

/* One tick; then every promise holds, and what nobody can read is filled with garbage. */
bool tick(struct bench *bench);
void run_out(struct bench *bench); /* until nothing is left; no block is held then */

struct client *add(struct bench *bench, struct request_params params);

#endif
