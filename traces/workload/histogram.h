/* Counts of whole numbers, for quantiles over any number of requests in 350 KB: exact below 4096,
 * above in steps of at most 1/2048 of the value.
 */
#ifndef TRACES_WORKLOAD_HISTOGRAM_H
#define TRACES_WORKLOAD_HISTOGRAM_H

#include <jansson.h>
#include <stdint.h>

#define HISTOGRAM_EXACT_BITS 12
#define HISTOGRAM_BUCKETS    (4096 + (31 - HISTOGRAM_EXACT_BITS) * 2048)

struct histogram {
    int64_t count, least, most;
    double sum;
    int64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, int32_t value); /* value >= 0 */
double histogram_mean(const struct histogram *histogram);       /* 0 when empty */
/* Nearest rank; a step's lowest value where it holds several. 0 when empty. */
int64_t histogram_quantile(const struct histogram *histogram, double percent);

/* {"mean", "min", "p5" ... "p99", "max"}; null when empty. */
json_t *histogram_json(const struct histogram *histogram);

#define HISTOGRAM_QUANTILES 8
extern const double histogram_percents[HISTOGRAM_QUANTILES]; /* 5 10 25 50 75 90 95 99 */

#endif
