/* What a run of `espalier replay` is asked to do. */
#ifndef TRACES_REPLAY_SETTINGS_H
#define TRACES_REPLAY_SETTINGS_H

#include "traces/results/record.h"

enum branch_mode {
    BRANCHES_STAGES, /* Espalier's extension: the trace's own shape */
    BRANCHES_N,      /* n answers: as many as the widest stage, as long as the longest branch */
    BRANCHES_FLAT,   /* one sequence of all tokens */
};

enum endpoint { ENDPOINT_COMPLETIONS, ENDPOINT_CHAT };

struct replay_settings {
    enum branch_mode branches;
    enum endpoint endpoint;
    double temperature; /* below 0: 0, and 1 for n answers */

    /* Open loop with concurrency 0: at the trace's times / rate_scale, or, with rate > 0, Poisson.
     * Closed loop: as many at once as `concurrency`. */
    double rate_scale, rate;
    int32_t concurrency;
    int64_t requests;    /* at most; 0: the trace's */
    int64_t duration_us; /* nothing is sent later; 0: no such end */
    int64_t drain_us;    /* how long what is under way may go on behind the last sending */
    int64_t stall_us;    /* an answer that brings no token for so long has stalled */

    struct slo_target slo; /* of requests whose trace names none */
    uint64_t seed;         /* of Poisson arrivals */
    uint64_t prompt_seed;
    int32_t max_prompt; /* tokens; longer prompts are cut; 0: never */
    bool prompt_ids;    /* prompts as arrays of token ids */
};

#endif
