/* How the members of the pool divide the units of an operator.
 *
 * Each member has a share, and takes from others when its own is done. A share's counter lies on a
 * cache line that its owner has to itself until the end: a counter that everybody adds to costs a
 * transfer between cores each time, 150 ns on virtual machines, and units are as short as 400.
 * The word has the number of the run in its high half; a word of another run means that nothing is
 * taken yet, so nobody has to reset it. Numbers come round after 2^32 runs: a word that old is of a
 * member that had no share in any of them.
 *
 * shares_begin before the run of the pool, share_take inside it. */
#ifndef KERNELS_CPU_SHARES_H
#define KERNELS_CPU_SHARES_H

#include "kernels/cpu/cpu.h"

static inline void shares_begin(struct cpu_backend *backend)
{
    backend->run++;
}

/* The next of the `size` units of member `owner`'s share: [*next, *end). One, or half of what is
 * left: the rest is for whoever is done before. False when nothing is left. */
static inline bool share_take(const struct cpu_backend *backend, int owner, int64_t size, bool half,
                              int64_t *next, int64_t *end)
{
    struct unit_share *share = &backend->shares[owner];
    uint64_t word = atomic_load_explicit(&share->taken, memory_order_relaxed), taken;
    do {
        *next = word >> 32 == backend->run ? (int64_t)(uint32_t)word : 0;
        if (*next >= size) return false;
        *end = *next + (half ? (size - *next + 1) / 2 : 1);
        taken = (uint64_t)backend->run << 32 | (uint64_t)*end;
    } while (!atomic_compare_exchange_weak_explicit(&share->taken, &word, taken,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

#endif
