/* The page of --report: head and foot; the sections are in report_*.c, the file in report_file.c.
 */
#include "traces/results/report.h"

#include "base/base.h"
#include "traces/results/html.h"
#include "traces/results/report_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const char report_css[]; /* report.css */
extern const size_t report_css_size;

void report_heading(struct strbuf *out, const char *words)
{
    strbuf_text(out, "<h2>");
    html_text(out, words);
    strbuf_text(out, "</h2>\n");
}

void report_legend(const struct report *report, struct strbuf *out)
{
    if (report->run_count < 2) return;
    strbuf_text(out, "<ul class=\"legend\">\n");
    for (size_t i = 0; i < report->run_count; i++) {
        strbuf_text(out, "<li>");
        chart_key((int)i, out);
        html_text(out, report->runs[i].name);
        strbuf_text(out, "</li>\n");
    }
    strbuf_text(out, "</ul>\n");
}

/* The note that all runs with results have; NULL: they differ. */
static const char *common_note(const struct report *report)
{
    const char *note = NULL;
    for (size_t i = 0; i < report->run_count; i++) {
        const struct report_run *run = &report->runs[i];
        if (!run->results) continue;
        if (!run->note || (note && strcmp(run->note, note))) return NULL;
        note = run->note;
    }
    return note;
}

/* Which run it is whose distributions and series are shown. */
static void add_notes(const struct report *report, struct strbuf *out)
{
    const char *common = common_note(report), *before = "<p class=\"soft\">What follows: ";
    for (size_t i = 0; i < report->run_count; i++) {
        const struct report_run *run = &report->runs[i];
        if (!run->results || !run->note) continue;
        strbuf_text(out, before);
        if (!common) html_format(out, "%s ", run->name);
        if (common && report->run_count > 1) strbuf_text(out, "each run ");
        html_text(out, run->note);
        before = "; ";
        if (common) break;
    }
    if (*before == ';') strbuf_text(out, ".</p>\n");
}

void report_figure(struct strbuf *out, const char *caption, const char *soft)
{
    strbuf_text(out, "<figure>\n<figcaption>");
    html_text(out, caption);
    if (soft && *soft) {
        strbuf_text(out, " <span>");
        html_text(out, soft);
        strbuf_text(out, "</span>");
    }
    strbuf_text(out, "</figcaption>\n");
}

void report_figure_end(struct strbuf *out)
{
    strbuf_text(out, "</figure>\n");
}

void report_chart(struct strbuf *out, struct chart *chart, const char *soft)
{
    report_figure(out, chart->title, soft);
    chart_draw(chart, out);
    report_figure_end(out);
    chart_free(chart);
}

static const char *title_of(const struct report *report)
{
    if (report->title) return report->title;
    return report->simulated ? "Espalier simulation" : "Espalier replay";
}

static void add_notice(struct strbuf *out, const char *text)
{
    strbuf_text(out, "<div class=\"notice\">");
    html_text(out, text);
    strbuf_text(out, "</div>\n");
}

static void add_head(const struct report *report, struct strbuf *out)
{
    strbuf_text(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<meta name=\"generator\" content=\"espalier " ESPALIER_VERSION "\">\n"
                     "<title>");
    html_text(out, title_of(report));
    if (report->simulated && report->title) strbuf_text(out, " (simulated)");
    strbuf_text(out, "</title>\n<style>\n");
    strbuf_append(out, report_css, report_css_size);
    strbuf_text(out, "</style>\n</head>\n<body>\n<main>\n<h1>");
    html_text(out, title_of(report));
    strbuf_text(out, "</h1>\n");
    if (report->when) {
        strbuf_text(out, "<p class=\"soft\">");
        html_text(out, report->when);
        strbuf_text(out, "</p>\n");
    }
    if (report->simulated)
        add_notice(out,
                   "Simulated. Nothing on this page was measured on a machine that serves: the "
                   "real scheduler ran in virtual time, and each step lasted what a cost model "
                   "says.");
    if (report->notice) add_notice(out, report->notice);
}

char *report_html(const struct report *report)
{
    struct strbuf out = {0};
    add_head(report, &out);
    report_glance(report, &out);
    report_over_rate(report, &out);
    add_notes(report, &out);
    report_distributions(report, &out);
    report_over_time(report, &out);
    report_tables(report, &out);
    report_making(report, &out);
    strbuf_text(&out, "</main>\n</body>\n</html>\n");
    return strbuf_take(&out);
}
