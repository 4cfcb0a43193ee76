/* What `espalier simulate` gives out: the JSON of interfaces.md, a table, a page. */
#ifndef TRACES_SIMULATE_SIMULATE_OUTPUT_H
#define TRACES_SIMULATE_SIMULATE_OUTPUT_H

#include "traces/simulate/sweep.h"

/* No wall-clock value stands in it: the same seed gives the same bytes. */
json_t *sweep_json(const struct sweep_options *options, const struct sweep *sweep,
                   const char *command);

void sweep_print(const struct sweep_options *options, const struct sweep *sweep);

/* How many requests the warm-up left out, in words; NULL: none. Caller frees. */
char *sweep_not_scored(const struct sweep_options *options, const struct sweep *sweep);

/* The page of --report (traces/results/report.h). */
enum status sweep_report(const struct sweep_options *options, const struct sweep *sweep,
                         const char *command, const char *path, struct error *err);

#endif
