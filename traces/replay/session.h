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
    bool slo_ttft_given, slo_tpot_given;
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

/* The run whose figures are the answer: the only one, or of a search the one at the highest rate
 * that reached the target, the one at the lowest rate when none did. */
const struct replay_run *replay_runs_best(const struct replay_runs *runs);

/* Of a search: whether this run reached the target. */
bool replay_run_passed(const struct replay_run *run);

#endif
