/* Attainment and goodput against the offered rate. */
#include "traces/results/report_parts.h"

#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOTS 60 /* more of them would hide the line */

static int by_rate(const void *a, const void *b)
{
    double x = ((const struct report_point *)a)->rate, y = ((const struct report_point *)b)->rate;
    return (x > y) - (x < y);
}

/* The field at `offset` of each point of each run, in order of rate; the least and largest rate. */
static void add_lines(const struct report *report, struct chart *chart, size_t offset)
{
    for (size_t run = 0; run < report->run_count; run++) {
        const struct report_run *r = &report->runs[run];
        size_t count = r->point_count;
        if (!count) continue;
        struct report_point *points = must_alloc(count * sizeof *points);
        double *x = must_alloc(count * sizeof *x), *y = must_alloc(count * sizeof *y);
        memcpy(points, r->points, count * sizeof *points);
        qsort(points, count, sizeof *points, by_rate);
        for (size_t i = 0; i < count; i++) {
            x[i] = points[i].rate;
            y[i] = *(const double *)(const void *)((const char *)&points[i] + offset);
        }
        chart_add(chart, CHART_LINE, (int)run, r->name, count, x, y, NULL);
        if (count <= DOTS) chart_add(chart, CHART_DOTS, (int)run, r->name, count, x, y, NULL);
        free(points);
        free(x);
        free(y);
    }
}

/* Where attainment never falls below 80 %, what is above 80 % is all that is shown. */
static double lowest_attainment(const struct report *report)
{
    double low = report->target > 0 ? fmin(report->target, 0.8) : 0.8;
    for (size_t run = 0; run < report->run_count; run++)
        for (size_t i = 0; i < report->runs[run].point_count; i++)
            low = fmin(low, report->runs[run].points[i].attainment);
    return low < 0.8 ? fmax(floor(low * 5) / 5, 0) : 0.8;
}

static void add_searched(const struct report *report, struct chart *chart)
{
    for (size_t run = 0; run < report->run_count; run++) {
        const struct results *r = report->runs[run].results;
        if (!r || !r->searched || r->max_rate <= 0 || isnan(r->max_rate_low)) continue;
        char title[256];
        bool open = !isfinite(r->max_rate_high);
        if (open)
            snprintf(title, sizeof title, "%s: highest rate %.3f/s or more", report->runs[run].name,
                     r->max_rate);
        else
            snprintf(title, sizeof title, "%s: highest rate %.3f/s (%.3f to %.3f)",
                     report->runs[run].name, r->max_rate, r->max_rate_low, r->max_rate_high);
        double x[] = {r->max_rate_low, r->max_rate, open ? r->max_rate : r->max_rate_high};
        double y[] = {report->target, report->target, report->target};
        chart_add(chart, CHART_INTERVAL, (int)run, title, 3, x, y, NULL);
    }
}

static const char *rate_label(const struct report *report)
{
    return report->closed_loop ? "clients" : "offered requests/s";
}

static void attainment_chart(const struct report *report, struct strbuf *out)
{
    struct chart chart = {.title = "SLO attainment",
                          .x_label = rate_label(report),
                          .y_label = "attainment",
                          .y_unit = UNIT_PERCENT,
                          .y_low = lowest_attainment(report),
                          .y_high = 1};
    char label[64], soft[64];
    add_lines(report, &chart, offsetof(struct report_point, attainment));
    if (report->target > 0) {
        snprintf(label, sizeof label, "target %g %%", 100 * report->target);
        chart_limit(&chart, CHART_Y_LIMIT, report->target, label);
        if (!report->closed_loop) add_searched(report, &chart);
    }
    snprintf(soft, sizeof soft, "by %s", slo_kind_name(report->kind));
    report_chart(out, &chart, soft);
}

void report_over_rate(const struct report *report, struct strbuf *out)
{
    size_t points = 0;
    for (size_t run = 0; run < report->run_count; run++)
        points += report->runs[run].point_count;
    if (!points) return;
    report_heading(out,
                   report->closed_loop ? "Over the number of clients" : "Over the offered rate");
    report_legend(report, out);
    strbuf_text(out, "<div class=\"charts\">\n");
    attainment_chart(report, out);
    struct chart requests = {.title = "Goodput in requests",
                             .x_label = rate_label(report),
                             .y_label = "requests/s that met their SLO",
                             .y_zero = true};
    add_lines(report, &requests, offsetof(struct report_point, requests_per_s));
    report_chart(out, &requests, "");
    struct chart tokens = {.title = "Goodput in tokens",
                           .x_label = rate_label(report),
                           .y_label = "tokens/s of requests that met their SLO",
                           .y_zero = true};
    add_lines(report, &tokens, offsetof(struct report_point, tokens_per_s));
    report_chart(out, &tokens, "");
    strbuf_text(out, "</div>\n");
}
