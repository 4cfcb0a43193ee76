/* One run of the real scheduler over a trace in virtual time: scheduler, KV bookkeeping, prefix
 * tree and policy are those that serve, the executor is a cost model (cost_executor.h), the clock
 * stands still but for the steps. Same inputs, same results, to the bit.
 */
#ifndef TRACES_SIMULATE_SIMULATION_H
#define TRACES_SIMULATE_SIMULATION_H

#include "scheduler/policy.h"
#include "scheduler/predictor.h"
#include "scheduler/ttft.h"
#include "traces/results/results.h"
#include "traces/simulate/profile.h"
#include "traces/trace.h"

struct simulation_options {
    const struct profile *profile;
    struct policy policy;
    int32_t prefill_chunk; /* tokens a step */
    bool chunk_by_slo;     /* the largest chunk up to prefill_chunk whose predicted step fits
                              step_target_us, at least 16 tokens */
    int64_t step_target_us;
    double predictor_bias; /* what a predictor says is multiplied by it; 0: it is left alone */
    enum admission
        admission;         /* open loop: a refused client of a closed one would come back at once */
    uint64_t seed;         /* of the step noise */
    struct slo_target slo; /* of requests whose trace names none */
    enum slo_kind kind;    /* what their TPOT is: the policy is told whether it is for each gap */

    /* Open loop (concurrency 0): request i arrives at (arrival_ms - that of the first one) /
     * rate_scale, each request once; none after duration_us (0: the whole trace). Closed loop: the
     * next request of the trace arrives whenever fewer than `concurrency` are there, until
     * duration_us, or until_us without one; the trace begins anew when it is used up. With neither:
     * the whole trace once. */
    double rate_scale;
    int32_t concurrency;
    int64_t duration_us;
    size_t first; /* begin with this request; behind the last one comes the trace's beginning, a
                     mean gap later */

    /* Scored: requests that arrive (open loop) or end (closed loop) in [warm_us, until_us). 0, 0:
     * all of them. An open-loop run ends when every scored request has, a closed-loop one at
     * until_us. */
    int64_t warm_us, until_us;

    /* Open loop: ends the run as soon as attainment by `kind` cannot reach this any more;
     * the result says gave_up and is of no other use. 0: never. */
    double give_up_below;

    bool brief; /* for a cell of a sweep: only what results_begin_brief keeps */
    /* NULL: the run makes its own results. Else everything goes there, beside what other runs put
     * there, and result->results is NULL. */
    struct results_builder *builder;

    /* NULL, or called after each step / with each scored record at its end. */
    void (*on_step)(void *context, int64_t end_us, int64_t latency_us, int32_t width,
                    const struct step_load *load);
    void (*on_record)(void *context, const struct request_record *record);
    /* NULL, or called now and then with how much of the run is done, 0 to 1. */
    void (*on_progress)(void *context, double share);
    void *context;
};

struct simulation_result {
    struct results *results; /* caller frees with results_free */
    double scored_s;
    int64_t not_scored; /* requests that came outside of the window; closed loop: that ended outside
                           of it, or had not ended */
    bool gave_up;
    int64_t virtual_us; /* simulated time, for the speed beside real time */
    int64_t preemptions;
};

/* The predictor that a run begins with, where its policy needs one: it has seen steps of all kinds,
 * as that of a server would that measures some when it starts. */
void simulation_predictor(const struct simulation_options *options, struct predictor *predictor);

enum status simulation_run(const struct simulation_options *options, const struct trace *trace,
                           struct simulation_result *result, struct error *err);

#endif
