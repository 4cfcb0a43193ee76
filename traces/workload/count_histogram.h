/* Counts of whole numbers, for quantiles over any number of requests in 350 KB: exact below 4096,
 * above in steps of at most 1/2048 of the value. (traces/results/histogram.h is for the many: a
 * sixth of the memory, and coarser.)
 */
#ifndef TRACES_WORKLOAD_COUNT_HISTOGRAM_H
#define TRACES_WORKLOAD_COUNT_HISTOGRAM_H

#include <jansson.h>
#include <stdint.h>

#define COUNT_HISTOGRAM_EXACT_BITS 12
#define COUNT_HISTOGRAM_BUCKETS    (4096 + (31 - COUNT_HISTOGRAM_EXACT_BITS) * 2048)

struct count_histogram {
    int64_t count, least, most;
    double sum;
    int64_t buckets[COUNT_HISTOGRAM_BUCKETS];
};

void count_histogram_add(struct count_histogram *histogram, int32_t value); /* value >= 0 */
double count_histogram_mean(const struct count_histogram *histogram);       /* 0 when empty */
/* Nearest rank; a step's lowest value where it holds several. 0 when empty. */
int64_t count_histogram_quantile(const struct count_histogram *histogram, double percent);

/* {"mean", "min", "p5" ... "p99", "max"}; null when empty. */
json_t *count_histogram_json(const struct count_histogram *histogram);

#define COUNT_HISTOGRAM_QUANTILES 8
extern const double
    count_histogram_percents[COUNT_HISTOGRAM_QUANTILES]; /* 5 10 25 50 75 90 95 99 */

#endif
