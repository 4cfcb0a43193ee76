/* Counters and histograms of the server, and their Prometheus text.
 *
 * Written with relaxed atomics by whoever sees the event and read at any time: a scrape never waits
 * for a step, and the engine's numbers come from the snapshot it publishes after each tick. A
 * scrape may see a histogram's count one event ahead of its sum; both are right at the next.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "base/strbuf.h"
#include "scheduler/scheduler.h"
#include "server/api_error.h"
#include "server/slo_classes.h"

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 40

struct histogram {
    _Atomic uint64_t
        buckets[HISTOGRAM_BUCKETS]; /* each its own values only; summed when rendered */
    _Atomic uint64_t sum;           /* in the histogram's unit: us, or things */
};

struct metrics {
    _Atomic uint64_t outcomes[FINISH_ERROR + 1]; /* finished requests, by enum finish_reason */
    _Atomic uint64_t refusals[REFUSALS];
    _Atomic uint64_t disconnects;
    struct histogram ttft, itl, tpot, e2e, queue, prefill, decode; /* us */
    struct histogram prompt_tokens, generated_tokens, request_n;   /* counts */
    struct slo_classes slo;
};

void metrics_count_refusal(struct metrics *metrics, enum refusal refusal);
void metrics_observe(struct metrics *metrics, struct histogram *histogram, int64_t value);

/* What a scrape shows beside the server's own numbers. */
struct metrics_view {
    struct scheduler_counters engine;
    const char *model; /* NULL while loading */
    int32_t connections;
    int32_t active_requests;
    int64_t body_bytes, answer_bytes; /* taken of the budgets in server_limits */
};
void metrics_render(struct metrics *metrics, const struct metrics_view *view, struct strbuf *out);

#endif
