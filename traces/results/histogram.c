#include "traces/results/histogram.h"

/* The middle of the whole numbers that fall into it. */
static double bin_middle(int32_t bin)
{
    if (bin < 2 << HISTOGRAM_SUB_BITS) return bin;
    int32_t shift = (bin >> HISTOGRAM_SUB_BITS) - 1;
    int64_t low = (int64_t)(bin - (shift << HISTOGRAM_SUB_BITS)) << shift;
    return (double)low + (double)((INT64_C(1) << shift) - 1) / 2;
}

double histogram_percentile(const struct histogram *h, int percent)
{
    int64_t rank = (int64_t)(((__int128)h->count * percent + 99) / 100), seen = 0;
    if (rank < 1) rank = 1;
    for (int32_t bin = 0; bin < HISTOGRAM_BINS; bin++) {
        seen += h->bins[bin];
        if (seen < rank) continue;
        double middle = bin_middle(bin);
        return middle < (double)h->max ? middle : (double)h->max;
    }
    return 0;
}
