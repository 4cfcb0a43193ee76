/* What this machine can do at best: the numbers that floors are computed from.
 *
 * Measured anew at each run, because virtual machines drift; each number is the best of half a
 * second, because others use them too.
 */
#ifndef BENCH_ROOF_H
#define BENCH_ROOF_H

#include "base/thread_pool.h"
#include "kernels/kernels.h"

struct roof {
    double bytes_per_s;    /* memory read, all threads, 2 MB pages where granted */
    double int8_ops_per_s; /* u8 x s8 multiply-adds of the chosen instruction set, counted as two
                              operations */
    double f32_ops_per_s;  /* multiply-adds, counted as two */
};

/* Bytes of the cache in which a step's weights may last until the next step; 0: unknown. */
size_t last_level_cache(void);

struct roof roof_measure(struct thread_pool *pool, enum cpu_isa isa);

/* Inner loops per instruction set (roof_portable.c, roof_avx2.c, roof_avx512.c): `rounds` times a
 * block of independent multiply-adds in registers, which return the operations done; and loads of
 * every byte, in its widest registers (narrow ones are slower than memory), of whole blocks. */
#define ROOF_READ_BLOCK 512
struct roof_loops {
    double (*int8)(int64_t rounds);
    double (*f32)(int64_t rounds);
    void (*read)(const void *memory, size_t bytes);
};
extern const struct roof_loops roof_loops_portable, roof_loops_avx2, roof_loops_avx512;

#endif
