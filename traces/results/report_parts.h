/* The parts of a report's page, each in a file of its own; report.c puts them together. */
#ifndef TRACES_RESULTS_REPORT_PARTS_H
#define TRACES_RESULTS_REPORT_PARTS_H

#include "base/strbuf.h"
#include "traces/results/chart.h"
#include "traces/results/report.h"

/* Each writes its section, or nothing when there is nothing for it. */
void report_glance(const struct report *report, struct strbuf *out);        /* report_glance.c */
void report_over_rate(const struct report *report, struct strbuf *out);     /* report_rate.c */
void report_distributions(const struct report *report, struct strbuf *out); /* ..._latency.c */
void report_over_time(const struct report *report, struct strbuf *out);     /* report_time.c */
void report_tables(const struct report *report, struct strbuf *out);        /* report_tables.c */
void report_making(const struct report *report, struct strbuf *out);        /* report_making.c */

/* <h2>, and what else the sections have in common. */
void report_heading(struct strbuf *out, const char *words);
void report_legend(const struct report *report, struct strbuf *out); /* with two runs or more */

/* <figure> with its caption, the part after it in softer ink ("": none). */
void report_figure(struct strbuf *out, const char *caption, const char *soft);
void report_figure_end(struct strbuf *out);

/* A figure of one chart, which is freed. */
void report_chart(struct strbuf *out, struct chart *chart, const char *soft);

#endif
