/* scheduler/: requests, continuous batching, the tick. Deterministic: time and executor are given.
 *
 *   executor.h   the door to a model
 *   request.h    what is asked and what is reported
 *   slo.h        what a request's limits are, and whether its answer met them
 *   policy.h     which sequences get a row in a step
 *   step_load.h  what a step is made of, as far as its latency goes
 *   predictor.h  the latency of a step before it runs
 *   profiling.h  steps that nobody asked for, to learn from before the first request
 *   ttft.h       when a first token would come, and who is refused for it
 *   scheduler.h  the tick: receive, schedule, forward, process (single thread, no locks)
 *   engine.h     the thread around it: one inbox for HTTP threads, snapshot for metrics, drain
 */
#ifndef SCHEDULER_SCHEDULER_H
#define SCHEDULER_SCHEDULER_H

#include "base/clock.h"
#include "kvcache/kvcache.h"
#include "scheduler/policy.h"
#include "scheduler/request.h"
#include "scheduler/step_load.h"
#include "scheduler/ttft.h"

struct scheduler;

struct scheduler_options {
    int32_t max_rows;      /* requests running, and rows in a step; 0: the executor's */
    int32_t prefill_chunk; /* prompt tokens computed in one step, over all requests */
    /* Of the latency of steps: for policies, and learning from every step, if it can. */
    struct step_predictor predictor;
    /* With a target, fewer prompt tokens: as many as make a step of it at most, after all rows that
     * decode, but at least 16. 0: none. */
    int64_t step_target_us;
    int32_t max_queue;    /* sequences waiting, a request as many as it has now; else ST_FULL */
    struct policy policy; /* which sequences get a row; all zero: eager */
    bool every_gap;       /* to the policy TPOT is for each gap between a request's tokens, not for
                             their mean (slo.h) */
    /* ADMISSION_REFUSE: ST_LATE for a request whose TTFT is predicted to be missed (ttft.h);
     * without a predictor or a TTFT never. */
    enum admission admission;
    struct block_hasher hasher; /* of the prefix tree: random where strangers choose prompts */
};
struct scheduler_options scheduler_options_default(void);

/* Counters for /metrics; plain numbers, copied out by value. */
struct scheduler_counters {
    int32_t running, waiting; /* sequences: with blocks, as many as a step has rows; all others */
    int32_t blocks_total, blocks_held, blocks_cached, blocks_free;
    int64_t steps, preemptions;
    int64_t prompt_tokens;     /* computed for the first time */
    int64_t generated_tokens;  /* sampled and taken */
    int64_t cached_tokens;     /* of prompts, found in the prefix tree */
    int64_t recomputed_tokens; /* computed again after a preemption */
    int64_t failed_steps;
    int64_t finished[FINISH_REASONS]; /* sequences, by enum finish_reason */
    int64_t deferred_rows;            /* sequences that could have used a row and got none */
    int32_t step_rows, step_tokens;   /* the last step */
    int64_t predicted_steps;          /* collected, of those whose latency somebody predicted */
    double predicted_us, measured_us; /* of these, sums */
    double prediction_error;          /* sum of |predicted - measured| / measured */
    int64_t executor_us;              /* spent in the executor's submit and collect */
};

/* ST_INVALID: an option or a capacity of the executor out of range; ST_NO_MEMORY.
 * `executor` and `clock` are copied, what they point at is borrowed. */
enum status scheduler_create(const struct scheduler_options *options, struct executor executor,
                             struct clock clock, struct scheduler **out, struct error *err);
/* Cancels what is left: each request gets its done event. */
void scheduler_free(struct scheduler *s);

/* Queues a request; *id names it until events.done. ST_FULL: the queue is at max_queue; ST_LATE:
 * its first token would come too late (scheduler_options.admission); ST_INVALID: it could never run
 * here (context or KV pool too small), with the words a client should read. */
enum status scheduler_add(struct scheduler *s, const struct request_params *params, uint64_t *id,
                          struct error *err);

/* The longest prompt and answer of one sequence of n together: the model's context, or the whole KV
 * pool when that is smaller. What scheduler_add takes at most, and a default for max_tokens. */
int32_t scheduler_max_length(const struct scheduler *s, int32_t n);

/* Ends a request within one step: its events come in the next tick, whose step it has no row in;
 * unknown ids are ignored (it may have just finished). */
void scheduler_cancel(struct scheduler *s, uint64_t id);

/* One tick: plans and submits one step, collects the oldest one when `depth` are in flight (or
 * nothing new could be planned). false: there was nothing to do and nothing is in flight. */
bool scheduler_tick(struct scheduler *s);

void scheduler_counters(const struct scheduler *s, struct scheduler_counters *counters);

/* Dies unless every promise between blocks, sequences and queues holds. For tests, every tick; the
 * debug build calls it at the end of each. */
void scheduler_check(const struct scheduler *s);

#endif
