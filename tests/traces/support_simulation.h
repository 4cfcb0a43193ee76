/* Small traces by hand, runs of them, and what each request of a run got. */
#ifndef SUPPORT_SIMULATION_H
#define SUPPORT_SIMULATION_H

#include "traces/simulate/simulation.h"

/* A profile that must be there. */
struct profile *the_profile(const char *name_or_path);

/* The study's with less room and another noise: a sanitized build looks at every block in every
 * step. */
struct profile *small_profile(int64_t kv_tokens, double noise);

/* A file with this text, removed with free_file; caller frees the path so. */
char *file_of(const char *text);
void free_file(char *path);

struct policy the_policy(const char *name);

/* Appends a request with one serial stage. */
void add_serial(struct trace *trace, double arrival_ms, int32_t prompt, int32_t output);
/* Appends [before serial], [width branches of `branch` each, less one from branch to branch],
 * [after serial]; before or after 0: no such stage. */
void add_branching(struct trace *trace, double arrival_ms, int32_t prompt, int32_t before,
                   int32_t width, int32_t branch, int32_t after);
/* Some of both, at random times and lengths. */
struct trace *some_trace(uint64_t seed, int32_t count, double mean_gap_ms);

/* Records by index in the trace (the last one where a request came twice), steps in order. */
struct seen_step {
    int64_t end_us, latency_us;
    int32_t width;
    struct step_load load;
};
struct seen {
    struct request_record *records; /* [record_capacity]; outcome -1: not seen */
    size_t record_capacity, record_count;
    struct seen_step *steps; /* [step_count] */
    size_t step_count, step_capacity;
};
void seen_free(struct seen *seen);
void seen_step(void *context, int64_t end_us, int64_t latency_us, int32_t width,
               const struct step_load *load);
void seen_record(void *context, const struct request_record *record);

/* Policy eager, chunk 64, SLO 2 s and 50 ms, rate scale 1; `profile` is borrowed. */
struct simulation_options some_options(const struct profile *profile);

/* Runs it; the results are given back in *result. `seen` may be NULL; it must be empty. */
void run_seen(struct simulation_options options, const struct trace *trace,
              struct simulation_result *result, struct seen *seen);

bool same_step(const struct seen_step *a, const struct seen_step *b);
bool same_record(const struct request_record *a, const struct request_record *b);

#endif
