#include "traces/replay/page.h"
#include "base/base.h"
#include "traces/replay/page_facts.h"
#include "traces/results/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Of the runs that are judged. */
static struct report_point *make_points(const struct replay_runs *runs, size_t *count)
{
    struct report_point *points = must_alloc((runs->count + 1) * sizeof *points);
    *count = 0;
    for (size_t i = 0; i < runs->count; i++) {
        if (replay_run_interrupted(&runs->list[i])) continue;
        const struct summary *summary = runs->list[i].summary;
        const struct slo_result *slo = &summary->results->all.slo[summary->kind];
        points[(*count)++] = (struct report_point){summary->results->offered_rate, slo->attainment,
                                                   slo->requests_per_s, slo->tokens_per_s};
    }
    return points;
}

enum status page_write(const struct replay_options *options, const struct replay_runs *runs,
                       struct error *err)
{
    const struct replay_run *best = replay_runs_best(runs);
    struct page_facts facts;
    char note[80] = "";
    double offered = best->summary->results->offered_rate;
    page_facts_make(best->header, &facts);
    size_t count;
    struct report_point *points = make_points(runs, &count);
    char *notice = replay_runs_notices(runs);
    const json_t *slo = json_object_get(best->header, "slo");
    char rate[32];
    results_rate_text(rate, sizeof rate, offered);
    if (isfinite(offered)) snprintf(note, sizeof note, "at %s requests/s", rate);
    struct report_run run = {.name = "replay",
                             .results = best->summary->results,
                             .note = *note ? note : NULL,
                             .points = points,
                             .point_count = runs->count > 1 ? count : 0,
                             .tokens = best->summary->tokens,
                             .in_flight = best->summary->in_flight,
                             .attainment = best->summary->attainment};
    struct report report = {
        .command = json_string_value(json_object_get(best->header, "command")),
        .when = json_string_value(json_object_get(best->header, "started")),
        .notice = *notice ? notice : NULL,
        .kind = best->summary->kind,
        .target = json_number_value(json_object_get(best->header, "attainment_target")),
        .slo = {(int64_t)(1e3 * json_number_value(json_object_get(slo, "ttft_ms"))),
                (int64_t)(1e3 * json_number_value(json_object_get(slo, "tpot_ms")))},
        .facts = facts.list,
        .fact_count = facts.count,
        .runs = &run,
        .run_count = 1};
    enum status status = report_write(&report, options->report, err);
    page_facts_free(&facts);
    free(notice);
    free(points);
    return status;
}
