#include "traces/results/series.h"

#include "base/base.h"

#define FIRST_STRETCH_US 1000

struct series *series_create(void)
{
    struct series *series = must_alloc(sizeof *series);
    series->stretch_us = FIRST_STRETCH_US;
    return series;
}

static void add(struct stretch *stretch, double weight, double sum, double min, double max)
{
    if (weight <= 0) return;
    if (stretch->weight == 0 || min < stretch->min) stretch->min = min;
    if (stretch->weight == 0 || max > stretch->max) stretch->max = max;
    stretch->weight += weight;
    stretch->sum += sum;
}

/* Two become one. */
static void halve(struct series *series)
{
    for (size_t i = 0; i < SERIES_STRETCHES; i++) {
        struct stretch from = series->stretches[i];
        if (i % 2 == 0) series->stretches[i / 2] = (struct stretch){0};
        add(&series->stretches[i / 2], from.weight, from.sum, from.min, from.max);
    }
    for (size_t i = SERIES_STRETCHES / 2; i < SERIES_STRETCHES; i++)
        series->stretches[i] = (struct stretch){0};
    series->count = (series->count + 1) / 2;
    series->stretch_us *= 2;
}

static size_t stretch_at(struct series *series, int64_t at_us)
{
    while (at_us / series->stretch_us >= SERIES_STRETCHES)
        halve(series);
    size_t index = (size_t)(at_us / series->stretch_us);
    if (index >= series->count) series->count = index + 1;
    return index;
}

void series_add(struct series *series, int64_t at_us, double value)
{
    size_t index = stretch_at(series, at_us < 0 ? 0 : at_us);
    add(&series->stretches[index], 1, value, value, value);
}

void series_hold(struct series *series, int64_t at_us, double value)
{
    if (at_us < 0) at_us = 0;
    size_t last = stretch_at(series, at_us);
    if (series->holding) {
        int64_t from = series->held_since_us;
        invariant(at_us >= from, "a series held from %lld us goes on at %lld us", (long long)from,
                  (long long)at_us);
        for (size_t i = (size_t)(from / series->stretch_us); i <= last; i++) {
            int64_t end = (int64_t)(i + 1) * series->stretch_us;
            double seconds = (double)((end < at_us ? end : at_us) - from) / 1e6;
            add(&series->stretches[i], seconds, seconds * series->held, series->held, series->held);
            from = end;
        }
    }
    series->holding = 1;
    series->held_since_us = at_us;
    series->held = value;
}
