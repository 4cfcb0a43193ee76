/* What `espalier simulate` prints: the JSON of interfaces.md, or a table. */
#ifndef TRACES_SIMULATE_SIMULATE_OUTPUT_H
#define TRACES_SIMULATE_SIMULATE_OUTPUT_H

#include "traces/simulate/sweep.h"

/* No wall-clock value stands in it: the same seed gives the same bytes. */
json_t *sweep_json(const struct sweep_options *options, const struct sweep *sweep,
                   const char *command);

void sweep_print(const struct sweep_options *options, const struct sweep *sweep);

#endif
