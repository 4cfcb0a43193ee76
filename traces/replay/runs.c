#include "traces/replay/session.h"
#include "base/base.h"

#include <math.h>
#include <stdlib.h>

struct replay_run *replay_runs_add(struct replay_runs *runs, json_t *header)
{
    runs->list = must_realloc(runs->list, (runs->count + 1) * sizeof *runs->list);
    struct replay_run *run = &runs->list[runs->count++];
    *run = (struct replay_run){.header = header};
    json_t *search = json_object_get(header, "search");
    run->rate = json_number_value(json_object_get(search, "rate_per_s"));
    return run;
}

void replay_runs_free(struct replay_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++) {
        json_decref(runs->list[i].header);
        json_decref(runs->list[i].end);
        summary_free(runs->list[i].summary);
    }
    free(runs->list);
    *runs = (struct replay_runs){0};
}

double replay_run_attainment(const struct replay_run *run)
{
    return run->summary->results->all.slo[run->summary->kind].attainment;
}

bool replay_run_interrupted(const struct replay_run *run)
{
    return !run->end || json_is_true(json_object_get(run->end, "interrupted"));
}

bool replay_runs_interrupted(const struct replay_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++)
        if (runs->list[i].rate > 0 && replay_run_interrupted(&runs->list[i])) return true;
    return false;
}

/* A run that was stopped met its easy beginning only, and where the generator was late, a load that
 * was easier than the one asked for. */
bool replay_run_passed(const struct replay_run *run)
{
    if (summary_late(run->summary)) return false;
    if (replay_run_interrupted(run)) return false;
    const json_t *search = json_object_get(run->header, "search");
    return replay_run_attainment(run) >= json_number_value(json_object_get(search, "attainment"));
}

/* Of two that reached the target the faster one counts, of two that missed it the slower one, and
 * one that was stopped only where there is no other. */
static bool better(const struct replay_run *run, const struct replay_run *than)
{
    bool passed = replay_run_passed(run), stopped = replay_run_interrupted(run);
    if (stopped != replay_run_interrupted(than)) return !stopped;
    if (passed != replay_run_passed(than)) return passed;
    return passed ? run->rate > than->rate : run->rate < than->rate;
}

const struct replay_run *replay_runs_best(const struct replay_runs *runs)
{
    const struct replay_run *best = &runs->list[0];
    for (size_t i = 1; i < runs->count; i++)
        if (better(&runs->list[i], best)) best = &runs->list[i];
    return best;
}

void replay_runs_conclude(struct replay_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++) /* what was asked for, not what the seed made of it */
        if (runs->list[i].rate > 0)
            runs->list[i].summary->results->offered_rate = runs->list[i].rate;
    const struct replay_run *best = replay_runs_best(runs);
    struct results *results = best->summary->results;
    if (best->rate <= 0 || !replay_run_passed(best)) return;
    results->searched = true;
    results->max_rate = results->max_rate_low = best->rate;
    results->max_rate_high = INFINITY;
    for (size_t i = 0; i < runs->count; i++) { /* a run that was stopped says nothing of its rate */
        double rate = runs->list[i].rate;
        if (replay_run_interrupted(&runs->list[i]) || rate <= best->rate) continue;
        results->max_rate_high = fmin(results->max_rate_high, rate);
    }
}

char *replay_runs_notices(const struct replay_runs *runs)
{
    const struct replay_run *best = replay_runs_best(runs);
    char *of_best = summary_notices(best->summary, best->header, best->end);
    if (!replay_runs_interrupted(runs)) return of_best;
    struct strbuf out = {0};
    strbuf_text(&out, "The search was interrupted: the run that was cut off is not judged, and the "
                      "highest rate may be another.\n");
    strbuf_text(&out, of_best);
    free(of_best);
    return strbuf_take(&out);
}
