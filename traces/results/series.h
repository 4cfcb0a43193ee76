/* Something over time, for a report: any number of values in a bounded number of stretches of equal
 * length (when time goes beyond the last one, two become one). Per stretch: how much weight, the
 * weighted sum, least and largest.
 */
#ifndef TRACES_RESULTS_SERIES_H
#define TRACES_RESULTS_SERIES_H

#include <stddef.h>
#include <stdint.h>

#define SERIES_STRETCHES 240

struct stretch {
    double weight, sum, min, max; /* min and max only with a weight */
};

struct series {
    int64_t stretch_us; /* the length of each; 0: nothing was added */
    size_t count;       /* stretches up to the last value's */
    struct stretch stretches[SERIES_STRETCHES];
    /* of series_hold */
    int64_t held_since_us;
    double held;
    int holding;
};

struct series *series_create(void); /* caller frees with free() */

/* Something happened at `at_us` (from 0 on, in any order): a step's latency or width; 1 for a
 * token, so that a stretch's sum over its length is a rate; 1 or 0 for a request that met its SLO
 * or not. Times before 0 count as 0. */
void series_add(struct series *series, int64_t at_us, double value);

/* From `at_us` on (never before the call before) the value is `value`, as of requests in flight.
 * It weighs by how long it held; call it once more at the end, with any value. */
void series_hold(struct series *series, int64_t at_us, double value);

#endif
