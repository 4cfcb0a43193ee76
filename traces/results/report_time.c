/* Over a run's time: width and latency of steps, tokens, requests in flight, attainment. */
#include "traces/results/report_parts.h"

#include "base/base.h"
#include "traces/results/html.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Seconds, minutes or hours, by the longest run. */
struct time_unit {
    const char *label, *short_name;
    double us, end; /* of the unit; of the axis, in it */
};

struct point {
    double from, to, x; /* in the unit */
    struct stretch stretch;
};

struct plot {
    const char *caption, *y_label, *hover; /* hover: what one value is */
    enum scale_unit unit;
    enum { PLOT_BAND, PLOT_RATE, PLOT_MEAN } kind;
    size_t points; /* at most */
    double weight; /* at least, in a point on average */
    size_t offset; /* of the series in struct report_run */
};

static const struct plot plots[] = {
    {"Width", "rows of a step", "rows", UNIT_NUMBER, PLOT_BAND, 240, 1,
     offsetof(struct report_run, width)},
    {"Step latency", "time of a step", "step", UNIT_MS, PLOT_BAND, 240, 1,
     offsetof(struct report_run, step_ms)},
    {"Tokens", "tokens/s", "tokens/s", UNIT_NUMBER, PLOT_RATE, 60, 10,
     offsetof(struct report_run, tokens)},
    {"In flight", "requests", "requests", UNIT_NUMBER, PLOT_BAND, 120, 0,
     offsetof(struct report_run, in_flight)},
    {"Attainment", "of the requests that ended", "met their SLO", UNIT_PERCENT, PLOT_MEAN, 60, 8,
     offsetof(struct report_run, attainment)},
};

static const struct series *series_of(const struct report_run *run, const struct plot *plot)
{
    const char *field = (const char *)run + plot->offset;
    const struct series *series = *(const struct series *const *)(const void *)field;
    return series && series->count ? series : NULL;
}

static bool any_series(const struct report *report, const struct plot *plot)
{
    for (size_t run = 0; run < report->run_count; run++)
        if (series_of(&report->runs[run], plot)) return true;
    return false;
}

static struct time_unit time_unit_of(const struct report *report)
{
    double longest = 0;
    for (size_t run = 0; run < report->run_count; run++)
        for (size_t p = 0; p < COUNT_OF(plots); p++) {
            const struct series *s = series_of(&report->runs[run], &plots[p]);
            if (s) longest = fmax(longest, (double)s->count * (double)s->stretch_us);
        }
    struct time_unit unit = {"time, s", "s", 1e6, 0};
    if (longest > 900e6) unit = (struct time_unit){"time, min", "min", 60e6, 0};
    if (longest > 4 * 3600e6) unit = (struct time_unit){"time, h", "h", 3600e6, 0};
    unit.end = longest / unit.us;
    return unit;
}

/* How many stretches make a point: no more points than the plot takes, and enough in each. */
static size_t stretches_a_point(const struct series *series, const struct plot *plot)
{
    double weight = 0;
    for (size_t i = 0; i < series->count; i++)
        weight += series->stretches[i].weight;
    size_t each = (series->count + plot->points - 1) / plot->points;
    double fill = weight > 0 ? ceil(plot->weight * (double)series->count / weight) : 1;
    if ((double)each < fill) each = (size_t)fmin(fill, (double)series->count);
    return each ? each : 1;
}

/* Points of equal length; caller frees. */
static struct point *points_of(const struct series *series, const struct plot *plot,
                               const struct time_unit *unit, size_t *count)
{
    size_t each = stretches_a_point(series, plot);
    *count = (series->count + each - 1) / each;
    struct point *points = must_alloc(*count * sizeof *points);
    for (size_t i = 0; i < series->count; i++) {
        const struct stretch *from = &series->stretches[i];
        struct point *point = &points[i / each];
        if (i % each == 0) point->from = (double)i * (double)series->stretch_us / unit->us;
        point->to = (double)(i + 1) * (double)series->stretch_us / unit->us;
        point->x = (point->from + point->to) / 2;
        struct stretch *to = &point->stretch;
        if (from->weight <= 0) continue;
        to->min = to->weight > 0 ? fmin(to->min, from->min) : from->min;
        to->max = to->weight > 0 ? fmax(to->max, from->max) : from->max;
        to->weight += from->weight;
        to->sum += from->sum;
    }
    return points;
}

static double value_of(const struct point *point, const struct plot *plot,
                       const struct time_unit *unit)
{
    if (plot->kind == PLOT_RATE)
        return point->stretch.sum / ((point->to - point->from) * unit->us / 1e6);
    return point->stretch.weight > 0 ? point->stretch.sum / point->stretch.weight : NAN;
}

static void add_hover(struct chart *chart, const struct report_run *run, const struct plot *plot,
                      const struct time_unit *unit, const struct point *point)
{
    double value = value_of(point, plot, unit), x[] = {point->from, point->to};
    if (!isfinite(value)) return;
    char mean[48], least[48], most[48];
    struct strbuf title = {0};
    scale_value_text(plot->unit, value, mean, sizeof mean);
    scale_value_text(plot->unit, point->stretch.min, least, sizeof least);
    scale_value_text(plot->unit, point->stretch.max, most, sizeof most);
    strbuf_format(&title, "%s\n%.4g to %.4g %s\n%s: %s", run->name, point->from, point->to,
                  unit->short_name, plot->hover, mean);
    if (plot->kind == PLOT_BAND && point->stretch.min < point->stretch.max)
        strbuf_format(&title, " on average, %s to %s", least, most);
    if (plot->kind == PLOT_MEAN) strbuf_format(&title, " of %.0f", point->stretch.weight);
    chart_add(chart, CHART_HOVER, 0, strbuf_cstr(&title), 2, x, NULL, NULL);
    strbuf_free(&title);
}

/* A few stretches without a value are the time between two steps; many are a time without any. */
static size_t longest_pause(const struct point *points, size_t count)
{
    size_t filled = 0;
    for (size_t i = 0; i < count; i++)
        filled += points[i].stretch.weight > 0;
    return filled ? 3 * ((count + filled - 1) / filled) : count;
}

/* Without the empty points, a NAN where there were too many of them. */
struct drawn {
    size_t count;
    double *x, *low, *mean, *high; /* [2 * count of points] */
};

static struct drawn drawn_of(const struct point *points, size_t count, const struct plot *plot,
                             const struct time_unit *unit)
{
    struct drawn d = {0};
    double **arrays[] = {&d.x, &d.low, &d.mean, &d.high};
    for (size_t a = 0; a < COUNT_OF(arrays); a++)
        *arrays[a] = must_alloc((2 * count + 1) * sizeof **arrays[a]);
    size_t pause = longest_pause(points, count), empty = 0;
    for (size_t i = 0; i < count; i++) {
        double value = value_of(&points[i], plot, unit);
        if (!isfinite(value)) {
            empty++;
            continue;
        }
        if (empty > pause && d.count) {
            d.x[d.count] = points[i].x;
            d.low[d.count] = d.mean[d.count] = d.high[d.count] = NAN;
            d.count++;
        }
        empty = 0;
        d.x[d.count] = points[i].x;
        d.low[d.count] = points[i].stretch.min;
        d.mean[d.count] = value;
        d.high[d.count] = points[i].stretch.max;
        d.count++;
    }
    return d;
}

static void add_run(struct chart *chart, const struct report_run *run, int style,
                    const struct plot *plot, const struct time_unit *unit)
{
    size_t count;
    struct point *points = points_of(series_of(run, plot), plot, unit, &count);
    struct drawn d = drawn_of(points, count, plot, unit);
    if (plot->kind == PLOT_BAND)
        chart_add(chart, CHART_BAND, style, run->name, d.count, d.x, d.low, d.high);
    chart_add(chart, CHART_LINE, style, run->name, d.count, d.x, d.mean, NULL);
    for (size_t i = 0; i < count; i++)
        add_hover(chart, run, plot, unit, &points[i]);
    free(d.x);
    free(d.low);
    free(d.mean);
    free(d.high);
    free(points);
}

/* The same for all runs, so that they can be compared. */
static double highest(const struct report *report, const struct plot *plot,
                      const struct time_unit *unit)
{
    double high = 0;
    for (size_t run = 0; run < report->run_count; run++) {
        const struct series *series = series_of(&report->runs[run], plot);
        size_t count;
        if (!series) continue;
        struct point *points = points_of(series, plot, unit, &count);
        for (size_t i = 0; i < count; i++)
            if (plot->kind == PLOT_RATE)
                high = fmax(high, value_of(&points[i], plot, unit));
            else if (points[i].stretch.weight > 0)
                high = fmax(high, points[i].stretch.max);
        free(points);
    }
    return high;
}

static void plot_run(const struct report *report, size_t index, const struct plot *plot,
                     const struct time_unit *unit, struct strbuf *out)
{
    const struct report_run *run = &report->runs[index];
    char label[64], limit[48];
    struct scale y = {plot->unit, false, 0, highest(report, plot, unit), 0, 0};
    scale_fit(&y, true);
    struct chart chart = {.title = plot->caption,
                          .x_label = unit->label,
                          .y_label = plot->y_label,
                          .y_unit = plot->unit,
                          .x_high = unit->end,
                          .y_high = plot->unit == UNIT_PERCENT ? 1 : y.high};
    add_run(&chart, run, (int)index, plot, unit);
    if (plot->kind == PLOT_MEAN && report->target > 0) {
        snprintf(label, sizeof label, "target %g %%", 100 * report->target);
        chart_limit(&chart, CHART_Y_LIMIT, report->target, label);
    }
    double tpot_ms = (double)report->slo.tpot_us / 1e3;
    if (plot->unit == UNIT_MS && tpot_ms > 0 && tpot_ms < chart.y_high) {
        scale_limit_text(UNIT_MS, tpot_ms, limit, sizeof limit);
        snprintf(label, sizeof label, "TPOT SLO %s", limit);
        chart_limit(&chart, CHART_Y_LIMIT, tpot_ms, label);
    }
    report_chart(out, &chart, report->run_count > 1 ? run->name : "");
}

void report_over_time(const struct report *report, struct strbuf *out)
{
    struct time_unit unit = time_unit_of(report);
    if (unit.end <= 0) return;
    report_heading(out, "Over time");
    strbuf_text(out, "<p class=\"soft\">Lines are means; where many values share a place, the band "
                     "reaches from the least to the largest.</p>\n");
    /* What is to be compared stands beside each other. */
    bool apart = report->run_count > 1;
    if (!apart) strbuf_text(out, "<div class=\"charts\">\n");
    for (size_t p = 0; p < COUNT_OF(plots); p++) {
        if (apart && any_series(report, &plots[p])) strbuf_text(out, "<div class=\"charts\">\n");
        for (size_t run = 0; run < report->run_count; run++)
            if (series_of(&report->runs[run], &plots[p]))
                plot_run(report, run, &plots[p], &unit, out);
        if (apart && any_series(report, &plots[p])) strbuf_text(out, "</div>\n");
    }
    if (!apart) strbuf_text(out, "</div>\n");
}
