/* The rows of the results table, for a terminal and for the report: the same figures in the same
 * words in both.
 */
#ifndef TRACES_RESULTS_ROWS_H
#define TRACES_RESULTS_ROWS_H

#include "traces/results/results.h"

struct results_row {
    const char *const *heads; /* [cell_count] of the columns, with the first row of a table */
    const char *label;        /* "": another statistic of what the row before is about */
    const char *statistic;    /* "p50"; "": the label says it all */
    bool part;                /* of the row without `part` that stands above */
    const char *const *cells; /* [cell_count] "-" where nothing is defined */
    size_t cell_count;
};

/* Calls `row` for each; rows that say nothing in any run are left out. Several runs make one table,
 * a column a run; one run makes a table of its figures and another of its distributions, a column a
 * statistic. What `row` is given lives until it returns, and may hold text from outside (names). */
void results_each_row(const char *const *names, const struct results *const *results, size_t count,
                      enum slo_kind kind, void (*row)(void *context, const struct results_row *row),
                      void *context);

/* Three digits or more that mean something: 0.123, 1.23, 12.3, 123, 1234. */
void results_number_text(char *text, size_t size, double value);

/* Four digits that mean something, or all before the point: 0.1234, 1.5, 268435456. */
void results_rate_text(char *text, size_t size, double value);

#endif
