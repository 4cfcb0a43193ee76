/* Traces that are made: what the requests are like, and the endless stream of them that a seed
 * gives.
 *
 * Request i of a seed, its lengths and stages, depends on the seed, i and the specification alone;
 * never on the rate, which only scales the arrival times. So two rates, or two policies, are
 * compared over the same requests.
 */
#ifndef TRACES_WORKLOAD_GENERATE_H
#define TRACES_WORKLOAD_GENERATE_H

#include "traces/trace.h"
#include "traces/workload/lengths.h"
#include "traces/workload/rate_levels.h"

/* Uniform over the whole numbers from least to most. */
struct workload_range {
    int32_t least, most;
};

/* What a branching request generates: as many times as `stages` says, a serial stage of `lead`
 * tokens and a parallel one of `width` branches; then a serial stage of `tail` tokens. A branch is
 * lognormal, drawn again until it lies within `branch` and cut to whole tokens
 * (../shared/reference/controller.md, "The workloads"). */
struct workload_branching {
    double share; /* of requests that branch, 0 to 1 */
    struct workload_range width, stages, lead, tail;
    double branch_median, branch_sigma;
    struct workload_range branch;
};

#define WORKLOAD_MAX_WIDTH   4096
#define WORKLOAD_MAX_STAGES  64
#define WORKLOAD_MAX_CLASSES 16

/* An SLO class. ttft_ms, tpot_ms: 0 none. */
struct workload_class {
    const char *name; /* borrowed; "": none */
    double share;     /* of all requests, relative to the other classes' */
    double ttft_ms, tpot_ms;
};

enum workload_arrivals {
    ARRIVALS_POISSON,
    ARRIVALS_GAMMA, /* gaps of a gamma distribution, for more or less bursty than Poisson */
    ARRIVALS_AZURE, /* the Azure conversation trace's, faster or slower (arrivals_azure.c) */
};

struct workload_spec {
    struct lengths lengths; /* prompts, and outputs of requests that do not branch */
    double prompt_scale;
    struct workload_range prompt, output; /* lengths are cut to these */
    double cached_share;                  /* of each prompt: trace_request.cached_tokens */
    struct workload_branching branching;
    enum workload_arrivals arrivals;
    double arrival_cv;         /* GAMMA: standard deviation of a gap over its mean */
    struct rate_levels levels; /* times are those of `arrivals`, closer together where it is high */
    /* Of all requests the share whose prompt begins with one of `count` texts of `tokens` tokens,
     * each as likely. The prompt is as long as without: the text is a part of it, all but one
     * token at most. */
    struct {
        double share;
        int32_t count, tokens;
    } prefixes;
    struct workload_class classes[WORKLOAD_MAX_CLASSES];
    int32_t class_count; /* at least 1: a single one holds everybody's SLO */
};

/* No branches, Azure's conversation lengths, Poisson arrivals, no SLO. */
struct workload_spec workload_default(void);

/* "W1" to "W10" (controller.md): SLO 2 s and 50 ms. ST_USAGE: what was found, what is allowed. */
enum status workload_preset(const char *name, struct workload_spec *spec, struct error *err);

/* ST_USAGE: which figure, what was found, what is allowed. */
enum status workload_check(const struct workload_spec *spec, struct error *err);

struct workload; /* the stream */

/* `spec` is copied; its class names and lengths stay the caller's until the stream is closed.
 * `rate`: requests/s, above 0 to 1,000,000. ST_USAGE. */
enum status workload_open(const struct workload_spec *spec, double rate, uint64_t seed,
                          struct workload **out, struct error *err);
/* A view until the next call. Never ends. */
const struct trace_request *workload_next(struct workload *workload);
void workload_close(struct workload *workload);

/* Those that arrive in [0, duration_s). Caller frees with trace_free. */
enum status workload_generate(const struct workload_spec *spec, double rate, double duration_s,
                              uint64_t seed, struct trace **out, struct error *err);

/* Draws the stages of a branching request. stages: [2 * branching.stages.most + 1], tokens:
 * [workload_branching_tokens]. Returns the number of stages. */
size_t workload_branching_tokens(const struct workload_branching *branching);
int32_t workload_draw_stages(const struct workload_branching *branching, struct rng *rng,
                             struct trace_stage *stages, int32_t *tokens);

#endif
