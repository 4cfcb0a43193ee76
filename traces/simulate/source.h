/* Where the requests of a simulated run come from: a trace file, or a preset (controller.md).
 *
 * A run is asked for by seed and rate. A preset is generated for each seed: other requests, other
 * arrivals. A file has its requests once, so seed 0 reads it from its beginning and each other seed
 * from another place, around its end. In both cases all rates and all policies of a seed see the
 * same requests in the same order: what is compared is paired.
 */
#ifndef TRACES_SIMULATE_SOURCE_H
#define TRACES_SIMULATE_SOURCE_H

#include "traces/results/record.h"
#include "traces/trace.h"

#include <jansson.h>

struct source;

/* What a run reads; release it when the run is over. */
struct source_run {
    const struct trace *trace;
    double rate_scale; /* as struct simulation_options has them */
    size_t first;
    int64_t duration_us; /* from the first arrival to the last, at this rate; 0: all at one time */
    struct trace *owned;
};

struct source_options {
    const char *preset; /* "W4", or NULL: `path` */
    const char *path;   /* "-": standard input */
    struct trace_read_options read;
    double duration_s;     /* of a preset; of a file at most, at the rate asked for, 0: all of it */
    struct slo_target slo; /* of a preset's requests */
    uint64_t seed;
};

enum status source_open(const struct source_options *options, struct source **out,
                        struct error *err);
void source_free(struct source *source);

/* rate 0: the file's own, a preset's 1 request a second. */
enum status source_run(const struct source *source, int32_t seed, double rate,
                       struct source_run *run, struct error *err);
void source_run_release(struct source_run *run);

/* Whether every request of the file names a limit of its own for the first token, and for each
 * token. A preset's have those of the options. */
void source_own_limits(const struct source *source, bool *ttft, bool *tpot);

bool source_is_preset(const struct source *source);

/* For results: what it is and its statistics. */
json_t *source_to_json(const struct source *source);

/* 128 bits of everything that its requests depend on, as hexadecimal digits. */
void source_identity(const struct source *source, char identity[33]);

#endif
