/* All figures as a table, refusals and failures, and what the words mean. */
#include "traces/results/report_parts.h"

#include "base/base.h"
#include "traces/results/html.h"
#include "traces/results/rows.h"

#include <stdlib.h>
#include <string.h>

struct table {
    struct strbuf *out;
    bool begun, statistics; /* statistics: a column for their names */
};

static void end_table(struct table *t)
{
    if (t->begun) strbuf_text(t->out, "</tbody>\n</table>\n");
}

static void begin_table(struct table *t, const struct results_row *row)
{
    end_table(t);
    t->begun = true;
    strbuf_text(t->out, "<table>\n<thead><tr><th></th>");
    if (t->statistics) strbuf_text(t->out, "<th></th>");
    for (size_t i = 0; i < row->cell_count; i++) {
        strbuf_text(t->out, "<th scope=\"col\">");
        html_text(t->out, row->heads[i]);
        strbuf_text(t->out, "</th>");
    }
    strbuf_text(t->out, "</tr></thead>\n<tbody>\n");
}

static void add_row(void *context, const struct results_row *row)
{
    struct table *t = context;
    const char *kind = row->part ? "part" : *row->label ? "head" : "more";
    if (row->heads) begin_table(t, row);
    strbuf_format(t->out, "<tr class=\"%s\"><th scope=\"row\">", kind);
    html_text(t->out, row->label);
    strbuf_text(t->out, "</th>");
    if (t->statistics) {
        strbuf_text(t->out, "<td class=\"statistic\">");
        html_text(t->out, row->statistic);
        strbuf_text(t->out, "</td>");
    }
    for (size_t i = 0; i < row->cell_count; i++) {
        strbuf_text(t->out, "<td>");
        html_text(t->out, row->cells[i]);
        strbuf_text(t->out, "</td>");
    }
    strbuf_text(t->out, "</tr>\n");
}

static void results_table(const struct report *report, struct strbuf *out)
{
    const struct results **results = must_alloc((report->run_count + 1) * sizeof *results);
    const char **names = must_alloc((report->run_count + 1) * sizeof *names);
    size_t count = 0;
    for (size_t i = 0; i < report->run_count; i++) {
        if (!report->runs[i].results) continue;
        names[count] = report->runs[i].name;
        results[count++] = report->runs[i].results;
    }
    if (count) {
        struct table t = {.out = out, .statistics = count > 1};
        report_heading(out, "All figures");
        strbuf_text(out, "<div class=\"scroll tables\">\n");
        results_each_row(names, results, count, report->kind, add_row, &t);
        end_table(&t);
        strbuf_text(out, "</div>\n");
    }
    free(results);
    free(names);
}

#define REASONS 50 /* rows; a server may send a new reason with each request */

static int64_t reason_count_of(const struct report_run *run, const struct reason_count *reason)
{
    const struct results *r = run->results;
    for (size_t i = 0; r && i < r->reason_count; i++)
        if (r->reasons[i].outcome == reason->outcome &&
            !strcmp(r->reasons[i].reason, reason->reason))
            return r->reasons[i].count;
    return 0;
}

static void reason_row(const struct report *report, const struct reason_count *reason,
                       struct strbuf *out)
{
    strbuf_format(out, "<tr><td class=\"text\">%s</td><td class=\"text\">",
                  reason->outcome == OUTCOME_REFUSED ? "refused" : "failed");
    html_text(out, *reason->reason ? reason->reason : "no reason given");
    strbuf_text(out, "</td>");
    for (size_t i = 0; i < report->run_count; i++)
        strbuf_format(out, "<td>%lld</td>", (long long)reason_count_of(&report->runs[i], reason));
    strbuf_text(out, "</tr>\n");
}

/* Each reason once, most frequent first within the run that had it first. */
static void reason_rows(const struct report *report, struct strbuf *out)
{
    size_t rows = 0;
    for (size_t run = 0; run < report->run_count; run++) {
        const struct results *r = report->runs[run].results;
        for (size_t i = 0; r && i < r->reason_count; i++) {
            int64_t before = 0;
            for (size_t other = 0; other < run; other++)
                before += reason_count_of(&report->runs[other], &r->reasons[i]);
            if (before) continue;
            if (rows++ == REASONS) {
                strbuf_text(out, "<tr><td></td><td class=\"text\">and others</td></tr>\n");
                return;
            }
            reason_row(report, &r->reasons[i], out);
        }
    }
}

static void reasons_table(const struct report *report, struct strbuf *out)
{
    size_t reasons = 0, runs = 0;
    for (size_t i = 0; i < report->run_count; i++) {
        reasons += report->runs[i].results ? report->runs[i].results->reason_count : 0;
        runs += report->runs[i].results != NULL;
    }
    if (!runs) return;
    report_heading(out, "Refusals and failures");
    if (!reasons) {
        strbuf_text(out, "<p>None: no request was refused, none failed.</p>\n");
        return;
    }
    strbuf_text(out, "<div class=\"scroll\">\n<table>\n<thead><tr><th class=\"text\">requests</th>"
                     "<th class=\"text\">reason</th>");
    for (size_t i = 0; i < report->run_count; i++) {
        strbuf_text(out, "<th>");
        html_text(out, report->run_count > 1 ? report->runs[i].name : "count");
        strbuf_text(out, "</th>");
    }
    strbuf_text(out, "</tr></thead>\n<tbody>\n");
    reason_rows(report, out);
    strbuf_text(out, "</tbody>\n</table>\n</div>\n");
}

static void definition(struct strbuf *out, const char *term, const char *words)
{
    strbuf_text(out, "<dt>");
    html_text(out, term);
    strbuf_text(out, "</dt><dd>");
    html_text(out, words);
    strbuf_text(out, "</dd>\n");
}

static void definitions(const struct report *report, struct strbuf *out)
{
    char term[64];
    report_heading(out, "What the figures mean");
    strbuf_text(out, "<dl>\n");
    definition(out, "attainment", results_attainment_words);
    definition(out, "goodput", results_goodput_words);
    for (int k = 0; k < SLO_KINDS; k++) {
        snprintf(term, sizeof term, "SLO by %s%s", slo_kind_name((enum slo_kind)k),
                 k == (int)report->kind ? " (this page's)" : "");
        definition(out, term, results_slo_words((enum slo_kind)k));
    }
    definition(out, "TTFT", "from sending a request to its first output token.");
    definition(out, "TPOT",
               "(last - first output token) / (output tokens - 1), branches included.");
    definition(out, "ITL", "the time between two tokens of one sequence.");
    definition(out, "E2E", "from sending a request to its last output token.");
    definition(out, "percentiles",
               "nearest rank. Of requests they are exact; of ITL and steps off by at most 0.4 %. "
               "TTFT, TPOT and E2E are of completed requests.");
    strbuf_text(out, "</dl>\n");
}

void report_tables(const struct report *report, struct strbuf *out)
{
    results_table(report, out);
    reasons_table(report, out);
    definitions(report, out);
}
