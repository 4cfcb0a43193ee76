#include "traces/replay/pacing.h"
#include "traces/replay/flight.h"

#include <math.h>

static bool wraps(const struct replay_settings *settings)
{
    return settings->concurrency > 0 || settings->rate > 0;
}

/* A rate next to nothing leads beyond any run, not out of an int64_t. */
static int64_t later(int64_t us, double by_us)
{
    return by_us < (double)(FLIGHT_LAST_US - us) ? us + (int64_t)llround(by_us) : FLIGHT_LAST_US;
}

static void next(struct pacing *pacing)
{
    const struct replay_settings *settings = pacing->settings;
    const struct trace *trace = pacing->trace;
    if (settings->concurrency > 0) return;
    if (settings->rate > 0) { /* exponential gaps, the first before the first request */
        double gap_s = -log(1 - rng_unit(&pacing->rng)) / settings->rate;
        pacing->next_us = later(pacing->next_us, gap_s * 1e6);
    } else if (pacing->sent < (int64_t)trace->count) {
        double since_ms = trace->requests[pacing->sent].arrival_ms - trace->requests[0].arrival_ms;
        pacing->next_us = later(0, since_ms * 1e3 / settings->rate_scale);
    }
}

void pacing_begin(struct pacing *pacing, const struct replay_settings *settings,
                  const struct trace *trace)
{
    int64_t count = (int64_t)trace->count;
    int64_t limit = settings->requests;
    if (limit == 0) limit = wraps(settings) && settings->duration_us ? INT64_MAX : count;
    if (!wraps(settings) && limit > count) limit = count;
    *pacing = (struct pacing){.settings = settings,
                              .trace = trace,
                              .rng = {settings->seed ^ 0x61727269u /* not the prompts' numbers */},
                              .limit = limit};
    next(pacing);
}

bool pacing_over(const struct pacing *pacing, int64_t now_us)
{
    int64_t duration_us = pacing->settings->duration_us;
    if (pacing->sent >= pacing->limit) return true;
    if (duration_us == 0) return false;
    return pacing->settings->concurrency > 0 ? now_us >= duration_us
                                             : pacing->next_us >= duration_us;
}

const struct trace_request *pacing_take(struct pacing *pacing, int64_t *index)
{
    const struct trace *trace = pacing->trace;
    *index = pacing->sent++;
    next(pacing);
    return &trace->requests[*index % (int64_t)trace->count];
}
