#include "kernels/step_clock.h"

#include <time.h>

const char *step_stage_name(enum step_stage stage)
{
    static const char *const names[STEP_STAGES] = {
        "embed",    "norm, quantize", "qkv",  "heads",    "attention", "output projection",
        "gate, up", "down",           "head", "sampling", "barriers",  "rest"};
    return names[stage];
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void step_clock_start(struct step_clock *clock)
{
    clock->last = now_ns();
}

void step_clock_mark(struct step_clock *clock, enum step_stage stage)
{
    int64_t now = now_ns();
    clock->ns[stage] += now - clock->last;
    clock->last = now;
}
