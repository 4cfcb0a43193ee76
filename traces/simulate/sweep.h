/* Everything `espalier simulate` runs: policies by seeds, with a chunk each, on all cores.
 *
 * With --goodput: for each policy the highest rate (search.h), found roughly with few seeds and
 * then with all of them, and at that rate the whole results of all seeds together. Of the chunks
 * that a policy may choose from (CHUNK_BEST), the one that looked best comes first; each other is
 * then tried, with all seeds, one step above what that one reached, and searched where it holds.
 * Without: the results at one load. Tasks are independent and their results stand in fixed places,
 * so the number of threads changes nothing.
 */
#ifndef TRACES_SIMULATE_SWEEP_H
#define TRACES_SIMULATE_SWEEP_H

#include "traces/simulate/cell_cache.h"

#define SWEEP_POLICIES     16
#define SWEEP_CURVE_POINTS 12
#define SWEEP_CURVE_SEEDS  2

enum chunk_rule { CHUNK_FIXED, CHUNK_BEST, CHUNK_SLO };

struct sweep_options {
    struct setting base; /* but for policy and chunk */
    const char *policy_names[SWEEP_POLICIES];
    struct policy policies[SWEEP_POLICIES];
    int32_t policy_count;
    enum chunk_rule chunk_rule;
    int32_t chunk; /* CHUNK_FIXED; CHUNK_SLO: the largest */
    int32_t seeds; /* 1 .. SEARCH_SEEDS */
    bool goodput;
    bool brief;                 /* with goodput: without the runs that give whole results */
    double rate;                /* without goodput, open loop: 0: the trace's own */
    struct option_ints clients; /* closed loop; count 0 with goodput: found by itself */
    bool report; /* series over time, and with goodput curves over the rate, for a page */
    int32_t jobs;
    struct cell_cache *cache; /* NULL: none */
};

struct policy_result {
    struct setting setting; /* the chunk chosen */
    double load; /* rate or clients that the results were taken at; 0: no load holds the target */
    struct search search; /* with goodput */
    int64_t warm_us; /* not scored of a run's ends: of the results below, the longest of any seed */
    int64_t not_scored;      /* requests that they leave out, all seeds together */
    struct results *results; /* all seeds together; NULL when brief, or no load holds the target */
    /* With `report`: of the first seed at `load`; attainment and goodput over the rate. */
    struct series *width, *step_ms;
    struct search curve; /* points alone */
};

struct sweep {
    int32_t policy_count, seeds;
    struct policy_result policies[SWEEP_POLICIES];
    double virtual_s, wall_s; /* simulated, and what it took */
};

enum status sweep_run(const struct sweep_options *options, struct sweep **out, struct error *err);
void sweep_free(struct sweep *sweep);

#endif
