/* When which request of the trace goes out. */
#ifndef TRACES_REPLAY_PACING_H
#define TRACES_REPLAY_PACING_H

#include "base/rng.h"
#include "traces/replay/settings.h"
#include "traces/trace.h"

struct pacing {
    const struct replay_settings *settings;
    const struct trace *trace;
    struct rng rng; /* of Poisson arrivals */
    int64_t limit;  /* requests in all; INT64_MAX: until the time is up */
    int64_t sent;
    int64_t next_us; /* open loop: when the next one is due */
};

/* At the trace's times each request goes out once. With Poisson arrivals and in a closed loop the
 * trace begins anew when it is used up and more are asked for (--requests, --duration). The trace
 * has at least one request. */
void pacing_begin(struct pacing *pacing, const struct replay_settings *settings,
                  const struct trace *trace);

/* Takes it: the request, and `index`, its place in the order of sending. */
const struct trace_request *pacing_take(struct pacing *pacing, int64_t *index);

/* Nothing will be sent any more. */
bool pacing_over(const struct pacing *pacing, int64_t now_us);

#endif
