/* The line that shows where a run is: redrawn on a terminal, every ten seconds a plain one in a
 * log.
 */
#ifndef TRACES_REPLAY_LIVE_H
#define TRACES_REPLAY_LIVE_H

#include "traces/replay/client.h"

struct live {
    const char *label; /* "replay", or a search's "12.5/s" */
    int64_t told_us;
    int64_t last_us, last_sent; /* where the rate is counted from */
    double rate;
    bool terminal, drawn;
};

void live_begin(struct live *live, const char *label);
/* `met` of the ended requests met their SLO. */
void live_update(struct live *live, const struct run_progress *progress, int64_t met);
void live_end(struct live *live);

#endif
