/* The highest rate at which a server still reaches the attainment target: the rate is doubled or
 * halved until one passes and one fails, then the interval is bisected (by ratio). A load of random
 * arrivals passes or fails by chance near the edge: the answer is one machine's measurement, good
 * to the interval's width and to what --requests or --duration averages out. */
#ifndef TRACES_REPLAY_SEARCH_H
#define TRACES_REPLAY_SEARCH_H

#include "base/status.h"

#include <stdbool.h>

#define SEARCH_RATIO  1.05 /* it ends when the interval's ends are this near */
#define SEARCH_PROBES 16   /* or after so many, */
#define SEARCH_DOWN   5    /* or where none of so many passed: each halving takes twice as long */

/* Runs one load at `rate`; `go_on` false: end the search (a signal). */
typedef enum status search_probe(void *context, double rate, bool *passed, bool *go_on,
                                 struct error *err);

enum status search_rate(double first, search_probe *probe, void *context, struct error *err);

#endif
