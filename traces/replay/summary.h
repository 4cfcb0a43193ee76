/* The figures of one run, made from its flights and nothing else, so that a live run and --from
 * cannot differ: results of traces/results, and what says how far they can be trusted (send delay,
 * lengths of prompts and answers). */
#ifndef TRACES_REPLAY_SUMMARY_H
#define TRACES_REPLAY_SUMMARY_H

#include "traces/replay/flight.h"
#include "traces/results/report.h"
#include "traces/results/results.h"
#include "traces/results/series.h"

#include <jansson.h>

/* A generator is late when more than LATE_SHARE of its requests went out more than LATE_US behind
 * their time (so its p99 is beyond LATE_US): then a part of the measured load was not what was
 * asked for. */
#define LATE_US    10000
#define LATE_SHARE 0.01

struct summary_tally {
    int64_t flights;
    int64_t late;              /* sent more than LATE_US behind */
    int64_t prompts_told;      /* completed ones whose usage counts the prompt */
    int64_t prompts_otherwise; /* of those: not the length that was asked for */
    int64_t answers_otherwise; /* completed ones with another number of tokens than asked for */
    int64_t answers_spread;    /* of which a chunk held several tokens (flight.h: spread_tokens) */
    int64_t unbranched;  /* completed ones that were sent as stages and came without branches */
    int64_t arrivals;    /* requests that were due behind the run's beginning */
    int64_t last_us;     /* the last end */
    int64_t last_due_us; /* the last request's time */
};

struct summary {
    struct results *results;
    struct summary_tally tally;
    struct distribution delay_ms, connect_ms;
    struct series *tokens, *in_flight, *attainment; /* for a report */
    enum slo_kind kind;
};

struct summary_builder;

struct summary_builder *summary_begin(enum slo_kind kind);
void summary_add(struct summary_builder *builder, const struct flight *flight);
int64_t summary_met(const struct summary_builder *builder); /* so far, by `kind` */
/* Frees the builder; caller frees with summary_free. */
struct summary *summary_end(struct summary_builder *builder);
void summary_free(struct summary *summary);

bool summary_late(const struct summary *summary);

/* Requests/s while it was sent: the arrivals behind the run's beginning over the time to the last
 * of them. NAN where all came at once. */
double summary_send_rate(const struct summary *summary);

/* Adds to `document`, a copy of the run's header, everything that was measured. `notices` is what
 * must be known first, `end` the end line's object, or NULL. */
void summary_json(const struct summary *summary, const char *notices, const json_t *end,
                  json_t *document);

/* The table and, below it, the limits that judged and the notices. */
void summary_print(FILE *out, const struct summary *summary, const json_t *header,
                   const char *notices);

/* The limits that judged, out of a record's first line: "TTFT 2000 ms, where the trace names none".
 * "" where it says none. Caller frees. */
char *summary_limits(const json_t *header);

/* What must be known before any figure is believed, one sentence a line; "" nothing. Caller frees.
 */
char *summary_notices(const struct summary *summary, const json_t *header, const json_t *end);

#endif
