/* A run: requests go out when they are due, thousands of streams come in on one thread.
 *
 * libcurl's multi interface with its sockets in one epoll set, so that the cost of a token does not
 * grow with the number of streams; one timerfd wakes for the next due request or libcurl's own
 * timer, to the microsecond.
 */
#ifndef TRACES_REPLAY_CLIENT_H
#define TRACES_REPLAY_CLIENT_H

#include "base/clock.h"
#include "base/status.h"
#include "traces/replay/flight.h"
#include "traces/replay/prompts.h"
#include "traces/replay/settings.h"
#include "traces/replay/target.h"
#include "traces/trace.h"

#include <signal.h>

struct run_progress {
    int64_t now_us; /* since the run's beginning */
    int64_t sent, ended;
    int64_t expected; /* requests in all; 0: until the time is up */
    int32_t in_flight;
};

struct client_options {
    const struct replay_settings *settings;
    const struct target *target;
    const struct trace *trace; /* not empty */
    const struct prompts *prompts;
    const volatile sig_atomic_t *stop; /* not 0: end the run */

    /* A request has ended; a view. And, ten times a second or so, where the run is. */
    void (*on_flight)(void *context, const struct flight *flight);
    void (*on_progress)(void *context, const struct run_progress *progress);
    void *context;
};

struct client_counts {
    int64_t sent;
    int64_t cut_prompts;        /* longer than --max-prompt */
    int64_t lengthened_prompts; /* shorter than what the server adds by itself and one token */
    bool interrupted;
    bool drain_over; /* some were still under way when --drain-timeout was over */
    int64_t wall_us; /* from the beginning to the last end */
    double cpu_s;    /* of this thread, for how near the generator was to its limit */
};

/* ST_IO: what the system did not give (epoll, a timer). What servers do to single requests is never
 * an error of the run. */
enum status client_run(const struct client_options *options, struct client_counts *counts,
                       struct error *err);

#endif
