/* `--report FILE.html`: one self-contained page (no network, no script) of one or more runs, in
 * light and dark and on paper. Everything that is given here may come from a file or a server: it
 * is escaped.
 *
 *     struct report_run runs[] = {{.name = "eager", .results = results, .width = width_series}};
 *     struct report report = {.command = command, .simulated = true, .runs = runs, .run_count = 1,
 *                             .kind = SLO_MEAN, .target = 0.95, .slo = {2000000, 50000}};
 *     status = report_write(&report, path, err);
 *
 * What is NULL or 0 is left out, with the chart that it would have been in.
 */
#ifndef TRACES_RESULTS_REPORT_H
#define TRACES_RESULTS_REPORT_H

#include "base/status.h"
#include "traces/results/results.h"
#include "traces/results/series.h"

/* One run (or the mean of several seeds) at one offered rate. */
struct report_point {
    double rate;                         /* requests/s offered; closed loop: clients */
    double attainment;                   /* 0 .. 1, by the report's kind */
    double requests_per_s, tokens_per_s; /* goodput */
};

/* A policy of simulate, or the one run of replay. All pointers are borrowed. */
struct report_run {
    const char *name;
    const struct results *results;     /* of the run that distributions and series show; its
                                          max_rate, when one was searched, is shown as well */
    const char *note;                  /* what run that is, "at 1.52 requests/s, seed 1" */
    const struct report_point *points; /* [point_count] over rate, in any order */
    size_t point_count;
    /* Over time from the run's start. */
    const struct series *width;      /* series_add: rows of each step */
    const struct series *step_ms;    /* series_add: latency of each step, ms */
    const struct series *tokens;     /* series_add: 1 a token, at its time */
    const struct series *in_flight;  /* series_hold: requests sent and not ended */
    const struct series *attainment; /* series_add: 1 or 0 a request, at its end, by `kind` */
};

/* A line of the page's "how it was made": "trace", "azure_llm_2023_conv.csv"; text may have
 * several lines. */
struct report_fact {
    const char *name, *text;
};

struct report {
    const char *title;   /* NULL: "Espalier simulation" / "Espalier replay" */
    const char *command; /* report_command_line(argc, argv) */
    const char *when;    /* date and time, as text; NULL: not said */
    bool simulated;      /* said prominently: nothing on the page was measured */
    const char *notice;  /* what a reader must know before any figure: "the generator was late by
                            up to 80 ms", "stopped by Ctrl-C after 40 s"; NULL: nothing */
    bool closed_loop;    /* points are over a number of clients */
    enum slo_kind kind;
    double target;                   /* attainment's, e.g. 0.95; 0: none */
    struct slo_target slo;           /* lines in the distributions; 0 where requests differ */
    const struct report_fact *facts; /* [fact_count] profile, server, trace statistics, seeds ... */
    size_t fact_count; /* "version" and "machine" are added by the page when they are not there */
    const struct report_run *runs; /* [run_count] */
    size_t run_count;
};

/* The file appears under its name when it is whole. ST_IO: the file, and why. Before a long run:
 * report_check tells whether it could be written, and leaves nothing there. */
enum status report_write(const struct report *report, const char *path, struct error *err);
enum status report_check(const char *path, struct error *err);

/* The page itself; caller frees. */
char *report_html(const struct report *report);

/* "espalier simulate --trace 'my trace.jsonl' ...", to be pasted into a shell. argv[0] is the
 * command's name, as commands get it. Caller frees. */
char *report_command_line(int argc, char *const *argv);

/* This one, in words: processor, memory, system. Caller frees. */
char *report_machine(void);

#endif
