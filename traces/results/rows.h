/* The rows of the results table, for a terminal and for the report: the same figures in the same
 * words in both.
 */
#ifndef TRACES_RESULTS_ROWS_H
#define TRACES_RESULTS_ROWS_H

#include "traces/results/results.h"

struct results_row {
    const char *label;        /* "": another statistic of what the row before is about */
    const char *statistic;    /* "p50"; "": the label says it all */
    bool part;                /* of the row without `part` that stands above */
    const char *const *cells; /* [count] "-" where nothing is defined */
};

/* Calls `row` for each; rows that say nothing in any run are left out. What it is given lives until
 * it returns, and may hold text from outside (class names). */
void results_each_row(const struct results *const *results, size_t count, enum slo_kind kind,
                      void (*row)(void *context, const struct results_row *row), void *context);

/* Three digits or more that mean something: 0.123, 1.23, 12.3, 123, 1234. */
void results_number_text(char *text, size_t size, double value);

#endif
