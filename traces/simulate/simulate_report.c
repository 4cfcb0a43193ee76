/* espalier simulate --report: what the sweep found, as the runs of a page. */
#include "traces/results/report.h"
#include "traces/simulate/simulate_output.h"

#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

#define FACTS 8

/* Everything of a run that has to live until the page is written. */
struct shown {
    struct report_point points[SWEEP_CURVE_POINTS];
    char note[96];
};

static size_t curve_points(const struct policy_result *policy, struct report_point *points)
{
    const struct search *curve = &policy->curve;
    enum slo_kind kind = policy->setting.kind;
    for (int32_t i = 0; i < curve->count; i++) {
        const struct point *point = &curve->points[i];
        points[i] = (struct report_point){
            .rate = point->load,
            .attainment = point_attainment(point, curve->seeds, kind, -1),
        };
        for (int32_t seed = 0; seed < curve->seeds; seed++) {
            const struct slo_result *slo = &point->cells[seed].slo[kind];
            points[i].requests_per_s += slo->requests_per_s / curve->seeds;
            points[i].tokens_per_s += slo->tokens_per_s / curve->seeds;
        }
    }
    return (size_t)curve->count;
}

static struct report_run run_of(const struct policy_result *policy, struct shown *shown)
{
    const struct setting *setting = &policy->setting;
    if (!policy->results)
        snprintf(shown->note, sizeof shown->note, "no load holds the target");
    else if (setting->closed)
        snprintf(shown->note, sizeof shown->note, "%.0f clients, prefill chunk %s%d", policy->load,
                 setting->chunk_by_slo ? "up to " : "", setting->chunk);
    else if (policy->load > 0)
        snprintf(shown->note, sizeof shown->note, "at %.4g requests/s, prefill chunk %s%d",
                 policy->load, setting->chunk_by_slo ? "up to " : "", setting->chunk);
    else
        snprintf(shown->note, sizeof shown->note, "at the trace's own rate, prefill chunk %s%d",
                 setting->chunk_by_slo ? "up to " : "", setting->chunk);
    return (struct report_run){.name = setting->policy_name,
                               .results = policy->results,
                               .note = shown->note,
                               .points = shown->points,
                               .point_count = curve_points(policy, shown->points),
                               .width = policy->width,
                               .step_ms = policy->step_ms};
}

/* "key: value" a line. Caller frees. */
static char *trace_words(const struct source *source)
{
    static const char *const keys[] = {"preset",
                                       "file",
                                       "format",
                                       "requests",
                                       "rate_per_s",
                                       "branching_share",
                                       "degree_of_parallelism",
                                       "prefix_reuse"};
    struct strbuf words = {0};
    json_t *json = source_to_json(source);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        const json_t *value = json_object_get(json, keys[i]);
        if (json_is_string(value))
            strbuf_format(&words, "%s: %s\n", keys[i], json_string_value(value));
        else if (json_is_number(value))
            strbuf_format(&words, "%s: %.4g\n", keys[i], json_number_value(value));
    }
    json_decref(json);
    if (words.length) strbuf_truncate(&words, words.length - 1);
    return strbuf_take(&words);
}

enum status sweep_report(const struct sweep_options *options, const struct sweep *sweep,
                         const char *command, const char *path, struct error *err)
{
    const struct setting *base = &options->base;
    struct report_run runs[SWEEP_POLICIES];
    struct shown *shown = must_alloc((size_t)sweep->policy_count * sizeof *shown);
    char seeds[64];
    char *trace = trace_words(base->source), *left_out = sweep_not_scored(options, sweep);
    for (int32_t p = 0; p < sweep->policy_count; p++)
        runs[p] = run_of(&sweep->policies[p], &shown[p]);
    snprintf(seeds, sizeof seeds, "%d, made from %llu", sweep->seeds,
             (unsigned long long)base->seed);
    struct report_fact facts[FACTS] = {{"profile", profile_name(base->profile)},
                                       {"trace", trace ? trace : ""},
                                       {"seeds", seeds},
                                       {"not scored", left_out}};
    struct report report = {.command = command,
                            .simulated = true,
                            .closed_loop = base->closed,
                            .kind = base->kind,
                            .target = base->target,
                            .slo = base->slo,
                            .facts = facts,
                            .fact_count = left_out ? 4 : 3,
                            .runs = runs,
                            .run_count = (size_t)sweep->policy_count};
    enum status status = report_write(&report, path, err);
    free(left_out);
    free(trace);
    free(shown);
    return status;
}
