/* Distributions of TTFT, TPOT and E2E, serial and branching requests apart. */
#include "traces/results/report_parts.h"

#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct metric {
    const char *name;
    size_t curve; /* in struct curves */
};

static const struct metric metrics[] = {
    {"TTFT", offsetof(struct curves, ttft_ms)},
    {"TPOT", offsetof(struct curves, tpot_ms)},
    {"E2E", offsetof(struct curves, e2e_ms)},
};

static const struct curves *curves_of(const struct report_run *run, bool branching)
{
    if (!run->results) return NULL;
    return branching ? run->results->branching_curves : run->results->serial_curves;
}

/* NULL: no value of it (only requests of one token have no TPOT; then the curve is zero). */
static const double *curve_of(const struct report_run *run, bool branching,
                              const struct metric *metric)
{
    const struct curves *curves = curves_of(run, branching);
    if (!curves) return NULL;
    const double *curve = (const double *)(const void *)((const char *)curves + metric->curve);
    return curve[CURVE_POINTS - 1] > 0 ? curve : NULL;
}

/* One pair of ends for serial and branching, so that the two charts can be compared. A few values
 * far below all others would leave no room for those. */
static void set_ends(const struct report *report, const struct metric *metric, double limit_ms,
                     struct chart *chart)
{
    double low = INFINITY, high = 0;
    for (size_t run = 0; run < report->run_count; run++)
        for (int branching = 0; branching < 2; branching++) {
            const double *curve = curve_of(&report->runs[run], branching, metric);
            if (!curve) continue;
            double middle = curve[CURVE_POINTS / 2];
            low = fmin(low, fmax(curve[0], middle / 20));
            high = fmax(high, curve[CURVE_POINTS - 1]);
        }
    if (limit_ms > 0) {
        low = fmin(low, limit_ms);
        high = fmax(high, limit_ms);
    }
    struct scale scale = {UNIT_MS, true, low, high, 0, 0};
    scale_fit(&scale, true);
    chart->x_low = scale.low;
    chart->x_high = scale.high;
}

static void add_curve(struct chart *chart, int style, const char *name, const double *curve)
{
    double share[CURVE_POINTS];
    for (int i = 0; i < CURVE_POINTS; i++)
        share[i] = (double)i / (CURVE_POINTS - 1);
    chart_add(chart, CHART_STAIRS, style, name, CURVE_POINTS, curve, share, NULL);
    double x[] = {curve[100], curve[180], curve[198]}, y[] = {0.5, 0.9, 0.99};
    chart_add(chart, CHART_DOTS, style, name, 3, x, y, NULL);
}

static void distribution_chart(const struct report *report, const struct metric *metric,
                               bool branching, struct strbuf *out)
{
    char title[64], label[64], limit[48];
    bool ttft = metric->curve == offsetof(struct curves, ttft_ms);
    bool tpot = metric->curve == offsetof(struct curves, tpot_ms);
    double limit_ms = ttft   ? (double)report->slo.ttft_us / 1e3
                      : tpot ? (double)report->slo.tpot_us / 1e3
                             : 0;
    snprintf(title, sizeof title, "%s, %s requests", metric->name,
             branching ? "branching" : "serial");
    struct chart chart = {.title = title,
                          .x_label = metric->name,
                          .y_label = "share of requests",
                          .x_unit = UNIT_MS,
                          .y_unit = UNIT_PERCENT,
                          .x_log = true,
                          .y_low = 0,
                          .y_high = 1};
    set_ends(report, metric, limit_ms, &chart);
    for (size_t run = 0; run < report->run_count; run++) {
        const double *curve = curve_of(&report->runs[run], branching, metric);
        if (curve) add_curve(&chart, (int)run, report->runs[run].name, curve);
    }
    if (limit_ms > 0) {
        scale_limit_text(UNIT_MS, limit_ms, limit, sizeof limit);
        snprintf(label, sizeof label, "SLO %s", limit);
        chart_limit(&chart, CHART_X_LIMIT, limit_ms, label);
    }
    report_chart(out, &chart, "");
}

static bool any_curve(const struct report *report, bool branching, const struct metric *metric)
{
    for (size_t run = 0; run < report->run_count; run++)
        if (curve_of(&report->runs[run], branching, metric)) return true;
    return false;
}

void report_distributions(const struct report *report, struct strbuf *out)
{
    bool any = false;
    for (size_t run = 0; run < report->run_count; run++)
        any |= curves_of(&report->runs[run], false) || curves_of(&report->runs[run], true);
    if (!any) return;
    report_heading(out, "Latency");
    strbuf_text(out, "<p class=\"soft\">Share of completed requests that took no longer. Marks: "
                     "p50, p90 and p99.</p>\n");
    report_legend(report, out);
    strbuf_text(out, "<div class=\"charts\">\n");
    for (int branching = 0; branching < 2; branching++)
        for (size_t m = 0; m < COUNT_OF(metrics); m++)
            if (any_curve(report, branching, &metrics[m]))
                distribution_chart(report, &metrics[m], branching, out);
    strbuf_text(out, "</div>\n");
}
