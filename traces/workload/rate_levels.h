/* A rate that changes in turns, as a day's does: so long at one level, so long at the next, and
 * from the beginning again.
 */
#ifndef TRACES_WORKLOAD_RATE_LEVELS_H
#define TRACES_WORKLOAD_RATE_LEVELS_H

#include "base/status.h"

#include <stdint.h>

#define RATE_LEVELS_MOST 16

struct rate_levels {
    int32_t count;                    /* 0: always the same rate */
    double weights[RATE_LEVELS_MOST]; /* of the rate, relative to each other, above 0 */
    double seconds[RATE_LEVELS_MOST];
};

/* "1:300s,2:300s". ST_USAGE: what was found, what is allowed. */
enum status rate_levels_parse(const char *text, struct rate_levels *levels, struct error *err);

/* When, in seconds, a stream of `rate` requests/s on average over all levels has brought
 * `requests` on average. */
double rate_levels_time(const struct rate_levels *levels, double rate, double requests);

#endif
