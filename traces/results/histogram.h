/* A histogram of non-negative integers with bins as wide as 1/128 of their value (the layout of
 * HdrHistogram): whole numbers below 256 exactly, larger ones by the middle of their bin, off by
 * at most 1/256 of the value, 0.4 %. Adding costs a few instructions; count, sum and largest are
 * exact.
 */
#ifndef TRACES_RESULTS_HISTOGRAM_H
#define TRACES_RESULTS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
/* 256 exact ones, then 128 for each further bit of an int64_t. */
#define HISTOGRAM_BINS ((64 - HISTOGRAM_SUB_BITS) << HISTOGRAM_SUB_BITS)

struct histogram {
    int64_t count, max;
    double sum;
    int64_t bins[HISTOGRAM_BINS];
};

static inline int32_t histogram_bin(int64_t value)
{
    if (value < 2 << HISTOGRAM_SUB_BITS) return (int32_t)value;
    int32_t shift = 63 - __builtin_clzll((uint64_t)value) - HISTOGRAM_SUB_BITS;
    return (shift << HISTOGRAM_SUB_BITS) + (int32_t)(value >> shift);
}

static inline void histogram_add(struct histogram *h, int64_t value)
{
    if (value < 0) value = 0;
    h->bins[histogram_bin(value)]++;
    h->count++;
    h->sum += (double)value;
    if (value > h->max) h->max = value;
}

/* Nearest rank: what at least `percent` of the values do not exceed; 0 without values. */
double histogram_percentile(const struct histogram *h, int percent);

#endif
