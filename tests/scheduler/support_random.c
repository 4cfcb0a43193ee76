#include "support_random.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int32_t between(struct rng *rng, int32_t low, int32_t high)
{
    return low + (int32_t)rng_below(rng, (uint64_t)(high - low + 1));
}

bool chance(struct rng *rng, double share)
{
    return rng_unit(rng) < share;
}

int64_t from_environment(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : otherwise;
}

static char repeat[160];

static void print_repeat(int signal_number)
{
    ssize_t written = write(STDERR_FILENO, repeat, strlen(repeat));
    (void)written;
    signal(signal_number, SIG_DFL);
}

void print_repeat_on_abort(const char *program, uint64_t seed)
{
    snprintf(repeat, sizeof repeat, "repeat with: ESPALIER_SEED=%" PRIu64 " build/tests/%s\n", seed,
             program);
    signal(SIGABRT, print_repeat);
}
