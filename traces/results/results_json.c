#include "traces/results/results.h"

#include "base/base.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *results_text(const char *text)
{
    json_t *json = json_string(text);
    if (json) return json;
    char *copy = must_strdup(text);
    for (char *at = copy; *at; at++)
        if ((unsigned char)*at >= 0x80) *at = '?';
    json = json_string(copy);
    free(copy);
    invariant(json, "a JSON string could not be made");
    return json;
}

static void set(json_t *object, const char *key, json_t *value)
{
    invariant(!json_object_set_new(object, key, value), "the JSON of results could not be made");
}

json_t *results_real(double value, bool defined)
{
    return defined ? json_real(value) : json_null();
}

json_t *results_distribution_json(const struct distribution *d)
{
    bool any = d->count > 0;
    json_t *json = json_object();
    set(json, "count", json_integer(d->count));
    set(json, "mean", results_real(d->mean, any));
    set(json, "p50", results_real(d->p50, any));
    set(json, "p90", results_real(d->p90, any));
    set(json, "p99", results_real(d->p99, any));
    set(json, "max", results_real(d->max, any));
    return json;
}

static void add_slo(json_t *json, const char *attainment_key, const struct group_results *group,
                    enum slo_kind kind, double scored_s)
{
    const struct slo_result *slo = &group->slo[kind];
    bool timed = scored_s > 0;
    if (attainment_key)
        set(json, attainment_key, results_real(slo->attainment, group->requests > 0));
    set(json, "requests_per_s", results_real(slo->requests_per_s, timed));
    set(json, "tokens_per_s", results_real(slo->tokens_per_s, timed));
}

static void add_group(json_t *json, const struct group_results *group, enum slo_kind kind,
                      double scored_s)
{
    set(json, "requests", json_integer(group->requests));
    set(json, "completed", json_integer(group->outcomes[OUTCOME_COMPLETED]));
    set(json, "refused", json_integer(group->outcomes[OUTCOME_REFUSED]));
    set(json, "failed", json_integer(group->outcomes[OUTCOME_FAILED]));
    set(json, "unfinished", json_integer(group->outcomes[OUTCOME_UNFINISHED]));
    set(json, "output_tokens", json_integer(group->output_tokens));
    set(json, "slo_attainment", results_real(group->slo[kind].attainment, group->requests > 0));
    json_t *goodput = json_object();
    add_slo(goodput, NULL, group, kind, scored_s);
    set(goodput, "max_rate", json_null());
    set(goodput, "max_rate_interval", json_null());
    set(json, "goodput", goodput);

    json_t *kinds = json_object();
    for (int k = 0; k < SLO_KINDS; k++) {
        json_t *one = json_object();
        add_slo(one, "attainment", group, (enum slo_kind)k, scored_s);
        set(kinds, slo_kind_name((enum slo_kind)k), one);
    }
    set(json, "slo_kinds", kinds);
    set(json, "ttft_ms", results_distribution_json(&group->ttft_ms));
    set(json, "tpot_ms", results_distribution_json(&group->tpot_ms));
    set(json, "e2e_ms", results_distribution_json(&group->e2e_ms));
}

static json_t *group_json(const struct group_results *group, enum slo_kind kind, double scored_s)
{
    json_t *json = json_object();
    add_group(json, group, kind, scored_s);
    return json;
}

static json_t *classes_json(const struct results *results, enum slo_kind kind)
{
    json_t *list = json_array();
    for (size_t i = 0; i < results->class_count; i++) {
        json_t *one = json_object();
        set(one, "class", results_text(results->classes[i].name));
        add_group(one, &results->classes[i].group, kind, results->scored_s);
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *reasons_json(const struct results *results)
{
    json_t *list = json_array();
    for (size_t i = 0; i < results->reason_count; i++) {
        const struct reason_count *reason = &results->reasons[i];
        json_t *one = json_object();
        set(one, "outcome", json_string(reason->outcome == OUTCOME_REFUSED ? "refused" : "failed"));
        set(one, "reason", results_text(reason->reason));
        set(one, "count", json_integer(reason->count));
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *steps_json(const struct step_results *steps)
{
    json_t *json = json_object();
    set(json, "count", json_integer(steps->count));
    set(json, "latency_ms", results_distribution_json(&steps->latency_ms));
    set(json, "width", results_distribution_json(&steps->width));
    set(json, "predicted_error", results_real(steps->predicted_error, steps->predictions > 0));
    return json;
}

json_t *results_json(const struct results *results, enum slo_kind kind)
{
    double scored_s = results->scored_s;
    json_t *json = json_object();
    add_group(json, &results->all, kind, scored_s);
    if (results->searched) {
        json_t *goodput = json_object_get(json, "goodput");
        set(goodput, "max_rate", json_real(results->max_rate));
        set(goodput, "max_rate_interval",
            isnan(results->max_rate_low)
                ? json_null()
                : json_pack(
                      "[f, o]", results->max_rate_low,
                      results_real(results->max_rate_high, isfinite(results->max_rate_high))));
    }
    set(json, "slo_kind", json_string(slo_kind_name(kind)));
    set(json, "itl_ms", results_distribution_json(&results->itl_ms));
    set(json, "serial", group_json(&results->serial, kind, scored_s));
    set(json, "branching", group_json(&results->branching, kind, scored_s));
    set(json, "classes", classes_json(results, kind));
    set(json, "reasons", reasons_json(results));
    set(json, "steps", steps_json(&results->steps));
    set(json, "scored_s", json_real(scored_s));
    set(json, "offered_rate", results_real(results->offered_rate, isfinite(results->offered_rate)));
    return json;
}
