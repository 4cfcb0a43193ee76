/* The results of a run: what interfaces.md names for replay and for each simulated policy, as
 * numbers, JSON and a table. Both commands and --from come through here, so they agree.
 */
#ifndef TRACES_RESULTS_RESULTS_H
#define TRACES_RESULTS_RESULTS_H

#include "traces/results/record.h"

#include <jansson.h>
#include <stdio.h>

/* All zero with count 0. Percentiles: nearest rank, the smallest value that at least that share of
 * the values does not exceed. Of requests they are exact; of gaps and steps, of which there may be
 * hundreds of millions, p50 to p99 are off by at most 0.4 % (histogram.h), mean and max exact. */
struct distribution {
    int64_t count;
    double mean, p50, p90, p99, max;
};

/* What is drawn of a distribution: value i is that of share i / (CURVE_POINTS - 1), nearest rank;
 * the first is the least, the last the largest. */
#define CURVE_POINTS 201

struct curves {
    double ttft_ms[CURVE_POINTS], tpot_ms[CURVE_POINTS], e2e_ms[CURVE_POINTS];
};

struct slo_result {
    int64_t requests;      /* that met it */
    double attainment;     /* their share of all requests of the group, refused and failed ones
                              too; 0 without requests */
    double requests_per_s; /* over the scored time; 0 when that is 0 */
    double tokens_per_s;   /* output tokens of those */
};

/* All requests, those without or with branches, or those of a class. The distributions are of the
 * completed ones: TTFT and E2E of those with a token, TPOT of those with two or more. */
struct group_results {
    int64_t requests, outcomes[OUTCOMES];
    int64_t output_tokens; /* all that came, whatever became of the request */
    struct slo_result slo[SLO_KINDS];
    struct distribution ttft_ms, tpot_ms, e2e_ms;
};

/* Of the executor: simulate knows them, replay does not (count 0). */
struct step_results {
    int64_t count;
    struct distribution latency_ms, width; /* width: rows of a step, with all of its sequences */
    int64_t predictions;                   /* steps with one */
    double predicted_error;                /* mean of |predicted - measured| / measured; 0: none */
};

struct class_results {
    const char *name; /* "": of requests without a class */
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
    size_t class_count;            /* 0 when no request names a class */
    struct reason_count *reasons;  /* [reason_count] most frequent first */
    size_t reason_count;
    struct distribution itl_ms; /* gaps between tokens of one sequence, where known */
    struct step_results steps;
    struct curves *serial_curves, *branching_curves; /* NULL: nothing to draw, or left out */
    double scored_s;                                 /* the time that rates divide by */
    double offered_rate; /* requests/s that arrived; NAN: not defined. results_end: requests over
                            scored_s, where arrivals and ends count over the same time; who knows
                            better (replay: arrivals over the time of sending) sets it */
    /* Set by who searched for it: the highest rate at the attainment target (0: no rate reaches it)
     * and its interval, open above where high is INFINITY; NAN, NAN: it has none. */
    bool searched;
    double max_rate, max_rate_low, max_rate_high;
};

struct results_builder; /* collects records */

struct results_builder *results_begin(void);

/* For the cells of a sweep, which only ask for counts, attainment and goodput: everything else is
 * left out (count 0) and costs nothing, and results_add_gap and results_add_step do nothing. */
struct results_builder *results_begin_brief(void);

/* The record is copied, with its class name and reason. */
void results_add(struct results_builder *builder, const struct request_record *record);
void results_add_gap(struct results_builder *builder, int64_t gap_us); /* one of ITL, >= 0 */
void results_add_step(struct results_builder *builder, int64_t latency_us, int32_t width,
                      double predicted_us /* 0: none */);

/* So far, for a progress line: requests added, and how many of them met `kind`. */
int64_t results_requests(const struct results_builder *builder);
int64_t results_met(const struct results_builder *builder, enum slo_kind kind);

/* Frees the builder; caller frees with results_free. */
struct results *results_end(struct results_builder *builder, double scored_s);
void results_free(struct results *results);

/* The object of interfaces.md without "policy", which the caller sets. goodput.max_rate, and
 * "max_rate_interval": [low, high] beside it, are null unless a rate was searched; high is null
 * where the interval is open. `kind` is the
 * definition behind slo_attainment and goodput; all four stand in "slo_kinds". What is not defined
 * is null: attainment of no requests, rates over no time, a distribution without values (its count
 * is 0), the error of predictions that nobody made. Print it with RESULTS_JSON_FLAGS, which
 * writes 6.1 and not 6.0999999999999996. */
json_t *results_json(const struct results *results, enum slo_kind kind);
#define RESULTS_JSON_FLAGS (JSON_INDENT(2) | JSON_REAL_PRECISION(12))

/* The same for what stands beside them. Never NULL. `unit`: values are divided by it. */
struct histogram;
struct distribution results_distribution(const struct histogram *histogram, double unit);
json_t *results_distribution_json(const struct distribution *distribution);
json_t *results_real(double value, bool defined); /* null: it is not */
json_t *results_text(const char *text);           /* bytes that are no UTF-8 become '?' */

/* What attainment, goodput and the four definitions mean, in one sentence or two. */
const char *results_slo_words(enum slo_kind kind);
extern const char results_attainment_words[], results_goodput_words[];

/* A table for people, one column a run: names[count], and the definitions below it. One run's
 * distributions have a table of their own, one column a statistic. */
void results_print(FILE *out, const char *const *names, const struct results *const *results,
                   size_t count, enum slo_kind kind);

#endif
