#include "traces/replay/page.h"
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

/* Values of the header that a reader wants to see; objects as JSON. */
static const char *const shown[] = {"url",      "model",    "server_version", "trace",  "pacing",
                                    "branches", "endpoint", "prompts",        "machine"};

#define SHOWN COUNT_OF(shown)

static char *words_of(const json_t *value)
{
    if (json_is_string(value)) return must_strdup(json_string_value(value));
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    return text ? text : must_strdup("");
}

static size_t collect_facts(const json_t *header, struct report_fact facts[SHOWN])
{
    size_t count = 0;
    for (size_t i = 0; i < SHOWN; i++) {
        const json_t *value = json_object_get(header, shown[i]);
        if (!value || json_is_null(value)) continue;
        facts[count++] = (struct report_fact){shown[i], words_of(value)};
    }
    return count;
}

static double offered(const struct replay_run *run)
{
    return run->rate > 0 ? run->rate : run->summary->results->offered_rate;
}

static struct report_point *make_points(const struct replay_runs *runs)
{
    struct report_point *points = must_alloc((runs->count + 1) * sizeof *points);
    for (size_t i = 0; i < runs->count; i++) {
        const struct summary *summary = runs->list[i].summary;
        const struct slo_result *slo = &summary->results->all.slo[summary->kind];
        points[i] = (struct report_point){offered(&runs->list[i]), slo->attainment,
                                          slo->requests_per_s, slo->tokens_per_s};
    }
    return points;
}

enum status page_write(const struct replay_options *options, const struct replay_runs *runs,
                       struct error *err)
{
    const struct replay_run *best = replay_runs_best(runs);
    struct report_fact facts[SHOWN];
    char note[80];
    size_t fact_count = collect_facts(best->header, facts);
    struct report_point *points = make_points(runs);
    char *notice = summary_notices(best->summary, best->header, best->end);
    const json_t *slo = json_object_get(best->header, "slo");
    snprintf(note, sizeof note, "at %.4g requests/s", offered(best));
    struct report_run run = {.name = "replay",
                             .results = best->summary->results,
                             .note = note,
                             .points = points,
                             .point_count = runs->count > 1 ? runs->count : 0,
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
        .facts = facts,
        .fact_count = fact_count,
        .runs = &run,
        .run_count = 1};
    enum status status = report_write(&report, options->report, err);
    for (size_t i = 0; i < fact_count; i++)
        free((char *)facts[i].text);
    free(notice);
    free(points);
    return status;
}
