#include "traces/simulate/simulate_output.h"

#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A search's points as a curve: those whose runs all went to their end. */
static json_t *points_json(const struct policy_result *policy)
{
    const struct search *search = &policy->search;
    json_t *points = json_array();
    for (int32_t i = 0; i < search->count; i++) {
        const struct point *point = &search->points[i];
        double requests = 0, tokens = 0;
        if (!point->whole) continue;
        for (int32_t seed = 0; seed < search->seeds; seed++) {
            requests += point->cells[seed].slo[policy->setting.kind].requests_per_s;
            tokens += point->cells[seed].slo[policy->setting.kind].tokens_per_s;
        }
        json_array_append_new(
            points, json_pack("{sf sf sf sf}", policy->setting.closed ? "concurrency" : "rate",
                              point->load, "slo_attainment",
                              point_attainment(point, search->seeds, policy->setting.kind, -1),
                              "requests_per_s", requests / search->seeds, "tokens_per_s",
                              tokens / search->seeds));
    }
    return points;
}

/* JSON has no infinity: null. */
static json_t *number_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* null: of one seed. */
static json_t *interval_json(const struct estimate *estimate)
{
    if (isnan(estimate->low)) return json_null();
    return json_pack("[oo]", number_json(estimate->low), number_json(estimate->high));
}

static void put_search(json_t *json, const struct policy_result *policy)
{
    const struct search *search = &policy->search;
    bool closed = policy->setting.closed;
    struct estimate estimate = jackknife(search->value, search->without, search->seeds);
    json_t *goodput = json_object_get(json, "goodput"), *without = json_array();
    if (!goodput) {
        goodput = json_object();
        json_object_set_new(json, "goodput", goodput);
    }
    for (int32_t seed = 0; seed < search->seeds; seed++)
        json_array_append_new(without, json_real(search->without[seed]));
    const char *name = closed ? "best_requests_per_s" : "max_rate";
    const char *interval = closed ? "best_requests_per_s_interval" : "max_rate_interval";
    json_object_set_new(goodput, name, json_real(search->value));
    json_object_set_new(goodput, interval, interval_json(&estimate));
    if (closed) json_object_set_new(goodput, "concurrency", json_integer((json_int_t)policy->load));
    json_object_set_new(goodput, "without_seed", without);
    json_object_set_new(json, "points", points_json(policy));
}

static json_t *policy_json(const struct sweep_options *options, const struct policy_result *policy)
{
    json_t *json =
        policy->results ? results_json(policy->results, policy->setting.kind) : json_object();
    json_object_set_new(json, "policy", json_string(policy->setting.policy_name));
    json_object_set_new(json, "prefill_chunk", json_integer(policy->setting.chunk));
    if (policy->setting.chunk_by_slo)
        json_object_set_new(json, "prefill_chunk_rule", json_string("slo"));
    if (policy->setting.admission == ADMISSION_REFUSE)
        json_object_set_new(json, "admission", json_string("refuse"));
    if (policy->results) {
        json_object_set_new(json, "warmup_s", json_real((double)policy->warm_us / 1e6));
        json_object_set_new(json, "not_scored", json_integer(policy->not_scored));
    }
    if (options->goodput) put_search(json, policy);
    return json;
}

/* Each policy over each that stands before it in the list. */
static json_t *ratios_json(const struct sweep *sweep)
{
    json_t *ratios = json_array();
    for (int32_t a = 1; a < sweep->policy_count; a++)
        for (int32_t b = 0; b < a; b++) {
            const struct policy_result *of = &sweep->policies[a], *to = &sweep->policies[b];
            struct estimate ratio = search_ratio(&of->search, &to->search);
            if (ratio.mean <= 0) continue;
            json_array_append_new(ratios, json_pack("{ss ss sf so}", "of", of->setting.policy_name,
                                                    "to", to->setting.policy_name, "ratio",
                                                    ratio.mean, "interval", interval_json(&ratio)));
        }
    return ratios;
}

json_t *sweep_json(const struct sweep_options *options, const struct sweep *sweep,
                   const char *command)
{
    const struct setting *base = &options->base;
    json_t *policies = json_array();
    for (int32_t p = 0; p < sweep->policy_count; p++)
        json_array_append_new(policies, policy_json(options, &sweep->policies[p]));
    json_t *json =
        json_pack("{so ss sb ss so ss sf sf sf si sI so}", "command", results_text(command),
                  "version", ESPALIER_VERSION, "simulated", 1, "profile",
                  profile_name(base->profile), "trace", source_to_json(base->source), "slo_kind",
                  slo_kind_name(base->kind), "attainment_target", base->target, "slo_ttft_ms",
                  (double)base->slo.ttft_us / 1e3, "slo_tpot_ms", (double)base->slo.tpot_us / 1e3,
                  "seeds", (int)sweep->seeds, "seed", (json_int_t)base->seed, "policies", policies);
    invariant(json, "the result's JSON could not be made");
    json_object_set_new(json, "noise", json_real(profile_noise(base->profile)));
    json_object_set_new(json, "kv_tokens", json_integer(profile_kv_tokens(base->profile)));
    json_object_set_new(json, "predictor_bias",
                        json_real(base->predictor_bias > 0 ? base->predictor_bias : 1));
    if (options->goodput) json_object_set_new(json, "ratios", ratios_json(sweep));
    return json;
}

static void print_ratio(const struct search *a, const struct search *b)
{
    struct estimate ratio = search_ratio(a, b);
    char words[64] = "-";
    if (ratio.mean > 0 && isnan(ratio.low))
        snprintf(words, sizeof words, "%.2f", ratio.mean);
    else if (ratio.mean > 0)
        snprintf(words, sizeof words, "%.2f (%.2f-%.2f)", ratio.mean, ratio.low, ratio.high);
    printf("  %-18s", words);
}

static void print_goodput(const struct sweep_options *options, const struct sweep *sweep)
{
    bool closed = options->base.closed;
    printf("Simulated goodput: %s at which at least %.3g %% of\n"
           "requests meet their SLO (%s), over %d seed%s; %s\n\n",
           closed ? "the most requests/s that met their SLO, over the numbers of clients"
                  : "the highest rate (requests/s)",
           options->base.target * 100, slo_kind_name(options->base.kind), sweep->seeds,
           sweep->seeds == 1 ? "" : "s",
           sweep->seeds == 1 ? "an interval needs several" : "95 % intervals by the jackknife");
    printf("  %-12s %8s  %-16s %6s", "policy", "goodput", "interval", "chunk");
    for (int32_t b = 0; b + 1 < sweep->policy_count; b++)
        printf("  / %-16s", sweep->policies[b].setting.policy_name);
    putchar('\n');
    for (int32_t a = 0; a < sweep->policy_count; a++) {
        const struct policy_result *policy = &sweep->policies[a];
        const struct search *search = &policy->search;
        struct estimate estimate = jackknife(search->value, search->without, search->seeds);
        char chunk[24], interval[48] = "-";
        if (!isnan(estimate.low))
            snprintf(interval, sizeof interval, "%6.3f .. %.3f", estimate.low, estimate.high);
        snprintf(chunk, sizeof chunk, policy->setting.chunk_by_slo ? "<=%d" : "%d",
                 policy->setting.chunk);
        printf("  %-12s %8.3f  %-16s %6s", policy->setting.policy_name, estimate.mean, interval,
               chunk);
        for (int32_t b = 0; b < a; b++)
            print_ratio(search, &sweep->policies[b].search);
        putchar('\n');
    }
    putchar('\n');
}

/* Of all policies as one number, where they agree; else by name. */
static void add_counts(const struct sweep *sweep, struct strbuf *out)
{
    const struct policy_result *policies = sweep->policies;
    bool same = true;
    for (int32_t p = 1; p < sweep->policy_count; p++)
        same = same && policies[p].not_scored == policies[0].not_scored;
    for (int32_t p = 0; p < (same ? 1 : sweep->policy_count); p++) {
        strbuf_format(out, "%s%lld", p ? ", " : "", (long long)policies[p].not_scored);
        if (!same) strbuf_format(out, " (%s)", policies[p].setting.policy_name);
    }
}

char *sweep_not_scored(const struct sweep_options *options, const struct sweep *sweep)
{
    struct strbuf out = {0};
    int64_t warm_us = 0, most = 0;
    for (int32_t p = 0; p < sweep->policy_count; p++) {
        if (sweep->policies[p].warm_us > warm_us) warm_us = sweep->policies[p].warm_us;
        if (sweep->policies[p].not_scored > most) most = sweep->policies[p].not_scored;
    }
    if (most == 0) return NULL;
    add_counts(sweep, &out);
    strbuf_format(&out,
                  options->base.closed
                      ? " requests, which ended in the first %.4g s (--warmup) or not before the "
                        "end"
                      : " requests, which arrived in the first or the last %.4g s (--warmup)",
                  (double)warm_us / 1e6);
    if (sweep->seeds > 1) strbuf_format(&out, ", over %d seeds", sweep->seeds);
    return strbuf_take(&out);
}

void sweep_print(const struct sweep_options *options, const struct sweep *sweep)
{
    const char *names[SWEEP_POLICIES];
    const struct results *results[SWEEP_POLICIES];
    size_t count = 0;
    for (int32_t p = 0; p < sweep->policy_count; p++) {
        if (!sweep->policies[p].results) continue;
        names[count] = sweep->policies[p].setting.policy_name;
        results[count++] = sweep->policies[p].results;
    }
    if (options->goodput) print_goodput(options, sweep);
    if (count == 0) return;
    printf("Simulated on %s%s\n", profile_name(options->base.profile),
           options->goodput ? ", each policy at its own goodput" : "");
    char *left_out = sweep_not_scored(options, sweep);
    if (left_out) printf("Not scored: %s\n", left_out);
    free(left_out);
    results_print(stdout, names, results, count, options->base.kind);
}
