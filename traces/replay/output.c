#include "traces/replay/output.h"
#include "base/base.h"
#include "traces/results/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* null: it was stopped, so nobody knows. */
static json_t *passed_json(const struct replay_run *run)
{
    return replay_run_interrupted(run) ? json_null() : json_boolean(replay_run_passed(run));
}

static json_t *probes_json(const struct replay_runs *runs)
{
    json_t *list = json_array();
    for (size_t i = 0; i < runs->count; i++) {
        const struct replay_run *run = &runs->list[i];
        const struct group_results *all = &run->summary->results->all;
        const struct slo_result *slo = &all->slo[run->summary->kind];
        bool any = all->requests > 0, timed = run->summary->results->scored_s > 0;
        json_array_append_new(
            list,
            json_pack("{s:f, s:I, s:o, s:o, s:o, s:o, s:b, s:b}", "rate_per_s", run->rate,
                      "requests", (json_int_t)all->requests, "attainment",
                      results_real(slo->attainment, any), "requests_per_s",
                      results_real(slo->requests_per_s, timed), "tokens_per_s",
                      results_real(slo->tokens_per_s, timed), "passed", passed_json(run), "late",
                      summary_late(run->summary), "interrupted", replay_run_interrupted(run)));
    }
    return list;
}

static const char search_words[] =
    "One measurement of one server on one machine: the highest rate that was tried and reached the "
    "target, and the lowest above it that did not; random arrivals decide near the edge.";

static void add_search(const struct replay_runs *runs, json_t *document)
{
    json_object_set_new(document, "goodput_search",
                        json_pack("{s:s, s:b, s:o}", "note", search_words, "interrupted",
                                  replay_runs_interrupted(runs), "probes", probes_json(runs)));
}

void output_json(const struct replay_runs *runs)
{
    const struct replay_run *best = replay_runs_best(runs);
    json_t *document = json_deep_copy(best->header);
    char *notices = replay_runs_notices(runs);
    summary_json(best->summary, notices, best->end, document);
    free(notices);
    if (best->rate > 0) add_search(runs, document);
    json_dumpf(document, stdout, RESULTS_JSON_FLAGS);
    putchar('\n');
    json_decref(document);
}

static const char *verdict(const struct replay_run *run)
{
    if (replay_run_interrupted(run)) return "interrupted: not judged";
    return replay_run_passed(run) ? "reached" : "missed";
}

static void print_search(const struct replay_runs *runs)
{
    const struct results *found = replay_runs_best(runs)->summary->results;
    printf("%10s %10s %12s %12s\n", "rate/s", "requests", "attainment", "good req/s");
    for (size_t i = 0; i < runs->count; i++) {
        const struct replay_run *run = &runs->list[i];
        const struct group_results *all = &run->summary->results->all;
        char rate[32], good[32];
        results_rate_text(rate, sizeof rate, run->rate);
        results_rate_text(good, sizeof good, all->slo[run->summary->kind].requests_per_s);
        char share[32] = "-";
        if (all->requests)
            snprintf(share, sizeof share, "%.2f %%", 100 * replay_run_attainment(run));
        printf("%10s %10lld %12s %12s  %s%s\n", rate, (long long)all->requests, share, good,
               verdict(run), summary_late(run->summary) ? ", the generator was late" : "");
    }
    char low[32], high[32];
    results_rate_text(low, sizeof low, found->max_rate);
    results_rate_text(high, sizeof high, found->max_rate_high);
    if (!found->searched)
        puts("Goodput: no rate that was tried to its end reached the target.");
    else if (isfinite(found->max_rate_high))
        printf("Goodput: %s requests/s; at %s the target was missed.\n", low, high);
    else
        printf("Goodput: at least %s requests/s; no rate above it was seen to miss.\n", low);
    printf("%s\n\n", search_words);
}

void output_table(const struct replay_runs *runs)
{
    const struct replay_run *best = replay_runs_best(runs);
    if (best->rate > 0) print_search(runs);
    char *notices = replay_runs_notices(runs);
    summary_print(stdout, best->summary, best->header, notices);
    free(notices);
}
