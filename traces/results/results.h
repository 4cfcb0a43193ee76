/* The results of a run: what interfaces.md names for replay and for each simulated policy, as
 * numbers, JSON and a table. Both commands and --from come through here, so they agree.
 */
#ifndef TRACES_RESULTS_RESULTS_H
#define TRACES_RESULTS_RESULTS_H

#include "traces/results/record.h"

#include <jansson.h>
#include <stdio.h>

/* Of the requests that have the value; all zero with count 0. Percentiles: nearest rank. */
struct distribution {
    int64_t count;
    double mean, p50, p90, p99, max;
};

struct slo_result {
    double attainment;     /* share of all requests of the group, refused and failed ones too */
    double requests_per_s; /* that met it, over the scored time */
    double tokens_per_s;   /* output tokens of those */
};

/* All requests, those without or with branches, or those of a class. */
struct group_results {
    int64_t requests, outcomes[OUTCOMES];
    int64_t output_tokens;
    struct slo_result slo[SLO_KINDS];
    struct distribution ttft_ms, tpot_ms, e2e_ms;
};

/* Of the executor: simulate knows them, replay does not (count 0). */
struct step_results {
    int64_t count;
    struct distribution latency_ms, width; /* width: rows of a step, with all of its sequences */
    double predicted_error;                /* mean of |predicted - measured| / measured */
};

struct class_results {
    const char *name;
    struct group_results group;
};

struct reason_count {
    const char *reason;
    enum outcome outcome;
    int64_t count;
};

struct results {
    struct group_results all, serial, branching;
    struct class_results *classes; /* [class_count] in order of first appearance */
    size_t class_count;
    struct reason_count *reasons; /* [reason_count] most frequent first */
    size_t reason_count;
    struct distribution itl_ms; /* gaps between tokens of one sequence, where known */
    struct step_results steps;
    double scored_s;     /* the time that rates divide by */
    double offered_rate; /* requests/s that arrived in it */
};

struct results_builder; /* collects records */

struct results_builder *results_begin(void);
void results_add(struct results_builder *builder, const struct request_record *record);
void results_add_gap(struct results_builder *builder, int64_t gap_us); /* one of ITL */
void results_add_step(struct results_builder *builder, int64_t latency_us, int32_t width,
                      double predicted_us /* 0: none */);
/* Frees the builder; caller frees with results_free. */
struct results *results_end(struct results_builder *builder, double scored_s);
void results_free(struct results *results);

/* The object of interfaces.md, without "policy" and with goodput.max_rate null: the caller sets
 * both. `kind` is the definition behind slo_attainment and goodput; all four stand in "slo_kinds".
 */
json_t *results_json(const struct results *results, enum slo_kind kind);

/* A table for people, one column a run: names[count]. */
void results_print(FILE *out, const char *const *names, const struct results *const *results,
                   size_t count, enum slo_kind kind);

#endif
