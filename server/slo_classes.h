/* Attainment and goodput by class, for /metrics. A class is a pair of limits (TTFT, TPOT) that
 * requests are judged by; serial requests, and those that branch, apart.
 *
 * Clients choose the pairs, so their number is bounded: the first SLO_CLASSES have counters and a
 * label of their own, all others share one class, "other". Classes are found on front-end threads;
 * counting takes no lock.
 */
#ifndef SERVER_SLO_CLASSES_H
#define SERVER_SLO_CLASSES_H

#include "base/strbuf.h"
#include "scheduler/slo.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SLO_CLASSES 8

enum slo_outcome {
    SLO_MET,
    SLO_MISSED,  /* late, or it failed: by the model, or because the server stopped */
    SLO_REFUSED, /* for want of room or time, before anything was computed */
};
#define SLO_OUTCOMES 3

struct slo_tally {
    _Atomic uint64_t requests[SLO_OUTCOMES];
    _Atomic uint64_t met_tokens; /* output tokens of the requests that met it */
};

struct slo_class {
    struct request_slo slo;
    struct slo_tally serial, branching;
};

struct slo_classes {
    pthread_mutex_t adding;
    _Atomic int32_t count; /* of `all`, complete */
    struct slo_class all[SLO_CLASSES];
    struct slo_class other;
};

/* *classes is all zero before. */
void slo_classes_init(struct slo_classes *classes);
void slo_classes_release(struct slo_classes *classes);

/* Its class: from now on in the text. Any thread but the engine's: it may wait for another that
 * adds one. */
struct slo_class *slo_class_of(struct slo_classes *classes, const struct request_slo *slo);

/* One request more; `tokens` of its answer where it met the SLO. Any thread, waits for nobody. */
void slo_class_count(struct slo_class *class, bool branching, enum slo_outcome outcome,
                     int64_t tokens);

/* Appends Prometheus text. */
void slo_classes_render(struct slo_classes *classes, struct strbuf *out);

#endif
