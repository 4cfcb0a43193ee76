/* Where the time of a step goes, for `espalier bench --stages`.
 *
 * A backend that was given a clock (backend_ops.step_clock) marks the end of each stretch of its
 * work; what lies between two marks belongs to the stage of the later one, so the stages of a clock
 * add up to the time between its first and its last mark. The CPU backend marks on its caller's
 * thread, also inside an operator, where preparing rows and their products share a run of the pool.
 * Without a clock a mark is one test of a pointer. Life: the owner zeroes it, starts it before each
 * step and reads ns[] between steps.
 */
#ifndef KERNELS_STEP_CLOCK_H
#define KERNELS_STEP_CLOCK_H

#include <stdint.h>

enum step_stage {
    STEP_EMBED,
    STEP_PREPARE, /* norm and quantization of the rows that a product reads */
    STEP_QKV,     /* products */
    STEP_HEADS,   /* bias, QK norm, RoPE, K and V to their slots */
    STEP_ATTENTION,
    STEP_OUTPUT, /* products */
    STEP_GATE_UP,
    STEP_DOWN,
    STEP_HEAD,
    STEP_SAMPLE, /* marked by who samples */
    STEP_WAIT,   /* the caller's share of a run is done, another thread's is not */
    STEP_REST,   /* plans, what lies between operators */
    STEP_STAGES
};

struct step_clock {
    int64_t last; /* ns; when the last mark was set */
    int64_t ns[STEP_STAGES];
};

const char *step_stage_name(enum step_stage stage);

/* What went by since the last mark belongs to no stage. */
void step_clock_start(struct step_clock *clock);

/* Time since the last mark goes to `stage`. */
void step_clock_mark(struct step_clock *clock, enum step_stage stage);

#endif
