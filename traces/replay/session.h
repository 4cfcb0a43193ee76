/* What `espalier replay` does: runs against a server, or the same out of a record. */
#ifndef TRACES_REPLAY_SESSION_H
#define TRACES_REPLAY_SESSION_H

#include "traces/replay/settings.h"
#include "traces/replay/summary.h"
#include "traces/trace.h"

struct replay_options {
    struct replay_settings settings;
    const char *trace, *url, *model, *key_file, *corpus, *record, *from, *report;
    enum trace_format format;
    bool skip_bad, json, goodput;
    double attainment; /* the target */
    enum slo_kind kind;
    const char *command; /* the command line */
    /* What --from is told to judge by; the rest stands in the record. */
    bool slo_ttft_given, slo_tpot_given, kind_given, attainment_given;
};

/* One run. */
struct replay_run {
    json_t *header; /* of the record file */
    json_t *end;    /* NULL: the record has none */
    struct summary *summary;
    double rate; /* of a search's run; 0: no search */
};

struct replay_runs {
    struct replay_run *list; /* [count] in their order; a search has several */
    size_t count;
};

/* Both leave in `runs` what there is, also when they fail. */
enum status session_live(const struct replay_options *options, struct replay_runs *runs,
                         struct error *err);
enum status session_from(const struct replay_options *options, struct replay_runs *runs,
                         struct error *err);
void replay_runs_free(struct replay_runs *runs);

/* A new one at the end, which keeps the header's reference; a pointer until the next. */
struct replay_run *replay_runs_add(struct replay_runs *runs, json_t *header);

/* The run whose figures are the answer (count > 0): the only one, or of a search the one at the
 * highest rate that reached the target, the one at the lowest rate when none did. */
const struct replay_run *replay_runs_best(const struct replay_runs *runs);

double replay_run_attainment(const struct replay_run *run);
/* Of a search: its load was the one asked for, came to its end, and reached the target. */
bool replay_run_passed(const struct replay_run *run);

/* It was stopped (or its record has no end): it reached nothing and missed nothing. */
bool replay_run_interrupted(const struct replay_run *run);
/* Of a search: one of its runs was, so that it did not come to its own end. */
bool replay_runs_interrupted(const struct replay_runs *runs);

/* What a reader must know first, of the search and of its best run; see summary_notices. */
char *replay_runs_notices(const struct replay_runs *runs);

/* Of a search: the rate of each run becomes the one that its results say was offered, and the rate
 * that was found goes into the best run's results. Its interval reaches to
 * the lowest rate above it that missed the target; it is open when none did. */
void replay_runs_conclude(struct replay_runs *runs);

#endif
