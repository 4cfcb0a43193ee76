/* The few figures that a reader came for: tiles for one run, bars for several. */
#include "traces/results/report_parts.h"

#include "base/base.h"
#include "traces/results/html.h"
#include "traces/results/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void tile(struct strbuf *out, const char *value, const char *words)
{
    strbuf_text(out, "<div class=\"tile\"><b>");
    html_text(out, value);
    strbuf_text(out, "</b><span>");
    html_text(out, words);
    strbuf_text(out, "</span></div>\n");
}

static void number_tile(struct strbuf *out, double value, bool defined, const char *words)
{
    char text[48] = "-";
    if (defined) results_number_text(text, sizeof text, value);
    tile(out, text, words);
}

static void latency_tile(struct strbuf *out, const struct distribution *d, const char *name)
{
    char p50[48] = "-", words[96];
    snprintf(words, sizeof words, "%s, median; no request has one", name);
    if (d->count) {
        char p99[48];
        scale_value_text(UNIT_MS, d->p50, p50, sizeof p50);
        scale_value_text(UNIT_MS, d->p99, p99, sizeof p99);
        snprintf(words, sizeof words, "%s, median; p99 %s", name, p99);
    }
    tile(out, p50, words);
}

static void request_tile(struct strbuf *out, const struct group_results *all)
{
    const char *noun = all->requests == 1 ? "request" : "requests";
    char value[32], words[160];
    snprintf(value, sizeof value, "%lld", (long long)all->requests);
    snprintf(words, sizeof words, "%s: %lld completed, %lld refused, %lld failed, %lld unfinished",
             noun, (long long)all->outcomes[OUTCOME_COMPLETED],
             (long long)all->outcomes[OUTCOME_REFUSED], (long long)all->outcomes[OUTCOME_FAILED],
             (long long)all->outcomes[OUTCOME_UNFINISHED]);
    tile(out, value, words);
}

static void tiles(const struct report *report, struct strbuf *out)
{
    const struct results *results = report->runs[0].results;
    const struct group_results *all = &results->all;
    const struct slo_result *slo = &all->slo[report->kind];
    char text[64] = "-", words[96];
    strbuf_text(out, "<div class=\"tiles\">\n");
    if (all->requests) scale_value_text(UNIT_PERCENT, slo->attainment, text, sizeof text);
    snprintf(words, sizeof words, "met their SLO (by %s)", slo_kind_name(report->kind));
    if (report->target > 0)
        snprintf(words, sizeof words, "met their SLO (by %s); target %g %%",
                 slo_kind_name(report->kind), 100 * report->target);
    tile(out, text, words);
    if (results->searched)
        number_tile(out, results->max_rate, true,
                    report->closed_loop ? "requests/s, the most goodput at the target"
                                        : "requests/s, the highest rate at the target");
    char offered[48];
    results_number_text(offered, sizeof offered, results->offered_rate);
    snprintf(words, sizeof words, "requests/s of goodput%s%s",
             isfinite(results->offered_rate) ? "; offered " : "",
             isfinite(results->offered_rate) ? offered : "");
    number_tile(out, slo->requests_per_s, results->scored_s > 0, words);
    number_tile(out, slo->tokens_per_s, results->scored_s > 0, "tokens/s of goodput");
    latency_tile(out, &all->ttft_ms, "TTFT");
    latency_tile(out, &all->tpot_ms, "TPOT");
    request_tile(out, all);
    strbuf_text(out, "</div>\n");
}

/* A bar for each run, by what `value` says of it. */
static void bars(const struct report *report, const char *caption, enum scale_unit unit,
                 double limit, void (*value)(const struct report *, size_t, struct chart_bar *),
                 struct strbuf *out)
{
    struct chart_bar *all = must_alloc(report->run_count * sizeof *all);
    for (size_t i = 0; i < report->run_count; i++) {
        all[i] = (struct chart_bar){.name = report->runs[i].name, .style = (int)i, .value = NAN};
        value(report, i, &all[i]);
    }
    report_figure(out, caption, "");
    bars_draw(caption, unit, limit, all, report->run_count, out);
    report_figure_end(out);
    free(all);
}

static void max_rate(const struct report *report, size_t run, struct chart_bar *bar)
{
    const struct results *results = report->runs[run].results;
    if (!results || !results->searched) return;
    bar->value = results->max_rate;
    bar->low = results->max_rate_low;
    bar->high = results->max_rate_high;
}

static void attainment(const struct report *report, size_t run, struct chart_bar *bar)
{
    const struct results *results = report->runs[run].results;
    if (results && results->all.requests) bar->value = results->all.slo[report->kind].attainment;
}

static void requests_per_s(const struct report *report, size_t run, struct chart_bar *bar)
{
    const struct results *results = report->runs[run].results;
    if (results && results->scored_s > 0)
        bar->value = results->all.slo[report->kind].requests_per_s;
}

static bool any_searched(const struct report *report)
{
    for (size_t i = 0; i < report->run_count; i++)
        if (report->runs[i].results && report->runs[i].results->searched) return true;
    return false;
}

void report_glance(const struct report *report, struct strbuf *out)
{
    if (report->run_count == 1 && report->runs[0].results) tiles(report, out);
    if (report->run_count < 2) return;
    char caption[96];
    strbuf_text(out, "<div class=\"charts\">\n");
    if (any_searched(report)) {
        snprintf(caption, sizeof caption, "%s with %g %% attainment, requests/s",
                 report->closed_loop ? "Most goodput" : "Highest rate", 100 * report->target);
        bars(report, caption, UNIT_NUMBER, NAN, max_rate, out);
    }
    snprintf(caption, sizeof caption, "SLO attainment of the runs below, by %s",
             slo_kind_name(report->kind));
    bars(report, caption, UNIT_PERCENT, report->target > 0 ? report->target : NAN, attainment, out);
    bars(report, "Goodput of the runs below, requests/s", UNIT_NUMBER, NAN, requests_per_s, out);
    strbuf_text(out, "</div>\n");
}
