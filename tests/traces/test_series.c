/* A series keeps weight, sum, least and largest whatever is added, in a bounded number of
 * stretches. */
#include "traces/results/series.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static struct stretch total(const struct series *series)
{
    struct stretch all = {0};
    for (size_t i = 0; i < SERIES_STRETCHES; i++) {
        struct stretch s = series->stretches[i];
        if (s.weight == 0) continue;
        cr_assert_lt(i, series->count);
        all.min = all.weight == 0 || s.min < all.min ? s.min : all.min;
        all.max = all.weight == 0 || s.max > all.max ? s.max : all.max;
        all.weight += s.weight;
        all.sum += s.sum;
    }
    return all;
}

Test(series, adds)
{
    struct series *series = series_create();
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        series_add(series, (int64_t)i * 37000, i % 101);
        sum += i % 101;
    }
    struct stretch all = total(series);
    cr_assert_eq(all.weight, 100000);
    cr_assert_eq(all.sum, sum);
    cr_assert_eq(all.min, 0);
    cr_assert_eq(all.max, 100);
    /* 3700 s in stretches of 1 ms doubled: 16.384 s are 226 of them */
    cr_assert_eq(series->stretch_us, 16384000);
    cr_assert_eq(series->count, 226);
    series_add(series, -5, 200); /* at 0 */
    cr_assert_eq(series->stretches[0].max, 200);
    free(series);
}

/* The stretches are where the values were. */
Test(series, keeps_places)
{
    struct series *series = series_create();
    for (int s = 0; s < 1000; s++)
        series_add(series, s * 1000000, s);
    for (size_t i = 0; i < series->count; i++) {
        const struct stretch *stretch = &series->stretches[i];
        if (stretch->weight == 0) continue;
        double from = (double)i * (double)series->stretch_us / 1e6;
        double to = from + (double)series->stretch_us / 1e6;
        cr_assert(stretch->min >= from && stretch->max < to, "%g to %g in %g to %g", stretch->min,
                  stretch->max, from, to);
    }
    free(series);
}

Test(series, holds_weigh_by_time)
{
    struct series *series = series_create();
    series_hold(series, 0, 2);         /* 2 for 3 s */
    series_hold(series, 3000000, 10);  /* 10 for 0 s */
    series_hold(series, 3000000, 5);   /* 5 for 7 s */
    series_hold(series, 10000000, -1); /* the end */
    struct stretch all = total(series);
    cr_assert(fabs(all.weight - 10) < 1e-6);
    cr_assert(fabs(all.sum - (2 * 3 + 5 * 7)) < 1e-6);
    cr_assert_eq(all.min, 2);
    cr_assert_eq(all.max, 5);
    free(series);
}

/* One value held over a time that has to be halved many times. */
Test(series, holds_over_a_long_time)
{
    struct series *series = series_create();
    series_hold(series, 500, 7);
    series_hold(series, INT64_C(86400000000) + 500, 0);
    struct stretch all = total(series);
    cr_assert(fabs(all.weight - 86400) < 1e-3);
    cr_assert(fabs(all.sum / all.weight - 7) < 1e-9);
    free(series);
}
