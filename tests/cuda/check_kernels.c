/* check_kernels [ORDER [COPIES [SEED [stop]]]]: the kernels of kernels/cuda on the emulator against
 * their references. ORDER of threads and blocks: round-robin, reverse, random; COPIES of cp.async
 * arrive late, early, random. `stop`: at the first failure. The last line counts; the exit status
 * is 0 when nothing failed. */
#include "tests/cuda/emulator_control.h"
#include "tests/cuda/kernel_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The place of `word` in a NULL-terminated list; stops the program when it is not there. */
static int choice(const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0) return i;
    fprintf(stderr, "check_kernels: %s?\n", word);
    exit(2);
}

int main(int count, char **arguments)
{
    static const char *const orders[] = {"round-robin", "reverse", "random", NULL};
    static const char *const copies[] = {"late", "early", "random", NULL};
    if (count > 1) emu_order = choice(arguments[1], orders);
    if (count > 2) emu_async_mode = choice(arguments[2], copies);
    if (count > 3) emu_seed = (unsigned)strtoul(arguments[3], NULL, 10);
    struct tally tally = {.stop = count > 4 && strcmp(arguments[4], "stop") == 0};
    argument_cases(&tally);
    norm_cases(&tally);
    gemm_cases(&tally);
    chain_cases(&tally);
    size_t left, bytes;
    emu_device_memory(&left, &bytes);
    expect(&tally, left == 0, "%zu device allocations of %zu bytes are left", left, bytes);
    expect(&tally, emu_errors == 0, "the emulator reported %d errors", emu_errors);
    printf("%d passed, %d failed\n", tally.passed, tally.failed);
    return tally.failed != 0;
}
