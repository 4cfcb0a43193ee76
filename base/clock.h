/* Time is passed in, so that a test or a simulation can own it. Microseconds since an arbitrary
 * start. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*now_us)(void *context);
    void *context;
};

static inline int64_t clock_now(const struct clock *clock)
{
    return clock->now_us(clock->context);
}

/* CLOCK_MONOTONIC. */
struct clock clock_monotonic(void);

/* Processor time of all the process's threads: stands still while others have the processor. */
struct clock clock_processor(void);

/* A clock that stands still until its owner writes *now_us. `now_us` is borrowed. */
struct clock clock_virtual(int64_t *now_us);

#endif
