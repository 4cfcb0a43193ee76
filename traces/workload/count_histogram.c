#include "traces/workload/count_histogram.h"
#include "base/base.h"

#include <math.h>
#include <stdio.h>

const double count_histogram_percents[COUNT_HISTOGRAM_QUANTILES] = {5, 10, 25, 50, 75, 90, 95, 99};

/* Behind the exact ones, 2048 buckets for each further bit. */
static int bucket_of(int32_t value)
{
    int shift = 0;
    while (value >> shift >= 1 << COUNT_HISTOGRAM_EXACT_BITS)
        shift++;
    return shift * 2048 + (value >> shift);
}

static int64_t lowest_of(int bucket)
{
    int shift = bucket < 4096 ? 0 : (bucket - 2048) / 2048;
    return (int64_t)(bucket - shift * 2048) << shift;
}

void count_histogram_add(struct count_histogram *histogram, int32_t value)
{
    invariant(value >= 0, "a count of %d", value);
    if (histogram->count == 0 || value < histogram->least) histogram->least = value;
    if (value > histogram->most) histogram->most = value;
    histogram->count++;
    histogram->sum += value;
    histogram->buckets[bucket_of(value)]++;
}

double count_histogram_mean(const struct count_histogram *histogram)
{
    return histogram->count ? histogram->sum / (double)histogram->count : 0;
}

int64_t count_histogram_quantile(const struct count_histogram *histogram, double percent)
{
    double rank = ceil(percent / 100 * (double)histogram->count);
    int64_t below = 0;
    for (int i = 0; i < COUNT_HISTOGRAM_BUCKETS; i++) {
        below += histogram->buckets[i];
        if (below > 0 && (double)below >= rank) return lowest_of(i);
    }
    return 0;
}

json_t *count_histogram_json(const struct count_histogram *histogram)
{
    if (histogram->count == 0) return json_null();
    json_t *object = json_object();
    json_object_set_new(object, "mean", json_real(count_histogram_mean(histogram)));
    json_object_set_new(object, "min", json_integer(histogram->least));
    for (int i = 0; i < COUNT_HISTOGRAM_QUANTILES; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%g", count_histogram_percents[i]);
        json_object_set_new(
            object, name,
            json_integer(count_histogram_quantile(histogram, count_histogram_percents[i])));
    }
    json_object_set_new(object, "max", json_integer(histogram->most));
    return object;
}
