/* A cell of a sweep: one setting at one load and seed, scored by all four SLO definitions.
 *
 * A load is a rate (open loop, requests/s) or a number of clients (closed loop).
 */
#ifndef TRACES_SIMULATE_CELLS_H
#define TRACES_SIMULATE_CELLS_H

#include "traces/results/series.h"
#include "traces/simulate/simulation.h"
#include "traces/simulate/source.h"

/* All of a run but load and seed. What it points at is borrowed. */
struct setting {
    const struct source *source;
    const struct profile *profile;
    const char *policy_name;
    struct policy policy;
    int32_t chunk;
    bool chunk_by_slo;
    double predictor_bias; /* 0: none */
    enum admission admission;
    struct slo_target slo; /* of requests that name none */
    enum slo_kind kind;    /* the definition that decides, */
    double target;         /* and the attainment that it must reach */
    bool closed;
    int64_t duration_us; /* closed loop: of a run */
    int64_t warm_us;     /* not scored at the beginning and (open loop) the end, but never more
                            than a fifth of the run each */
    uint64_t seed;       /* of the whole sweep */
};

/* One run. */
struct cell {
    bool gave_up;      /* attainment is under `give_up_below`, and the rest unknown */
    int64_t requests;  /* scored */
    double virtual_s;  /* simulated time */
    double arrivals_s; /* open loop: from the first arrival to the last */
    struct slo_result slo[SLO_KINDS];
};

/* give_up_below: 0 never; open loop only. Of few requests a seed may have far fewer than another,
 * and what it misses then says little of all: they are run to the end. */
enum status setting_run(const struct setting *setting, double load, int32_t seed,
                        double give_up_below, struct cell *cell, struct error *err);

/* Where a whole run leaves what a report shows. The series may be NULL. */
struct recording {
    struct results_builder *builder;
    struct series *width, *step_ms; /* of all steps, from the run's start */
    double scored_s, virtual_s;     /* added to, */
    int64_t not_scored;             /* and so is this */
    int64_t warm_us;                /* the longest of any run */
    /* NULL, or called now and then with how much of the run is done, 0 to 1. */
    void (*progress)(void *context, double share);
    void *context;
};

enum status setting_record(const struct setting *setting, double load, int32_t seed,
                           struct recording *recording, struct error *err);

#endif
