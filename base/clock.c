#include "base/clock.h"

#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t monotonic_us(void *context)
{
    (void)context;
    return read_us(CLOCK_MONOTONIC);
}

struct clock clock_monotonic(void)
{
    return (struct clock){.now_us = monotonic_us};
}

static int64_t processor_us(void *context)
{
    (void)context;
    return read_us(CLOCK_PROCESS_CPUTIME_ID);
}

struct clock clock_processor(void)
{
    return (struct clock){.now_us = processor_us};
}

static int64_t virtual_us(void *context)
{
    return *(const int64_t *)context;
}

struct clock clock_virtual(int64_t *now_us)
{
    return (struct clock){.now_us = virtual_us, .context = now_us};
}
