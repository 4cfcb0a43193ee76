#include "bench/roof.h"

/* What the compiler makes of plain C for any x86-64 (or any other machine). */
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));

#define CHAINS 8

static double int8_loop(int64_t rounds)
{
    i32x4 sum[CHAINS];
    int16_t a[4] = {3, 3, 3, 3};
    for (int k = 0; k < CHAINS; k++)
        sum[k] = (i32x4){k, k, k, k};
    for (int64_t i = 0; i < rounds; i++) {
        for (int k = 0; k < CHAINS; k++)
            sum[k] += (i32x4){a[0], a[1], a[2], a[3]} * (int32_t)(i & 7);
        __asm__ volatile("" : "+m"(sum), "+m"(a));
    }
    return 2.0 * 4 * CHAINS * (double)rounds;
}

static double f32_loop(int64_t rounds)
{
    f32x4 sum[CHAINS];
    float a = 0.5f;
    for (int k = 0; k < CHAINS; k++)
        sum[k] = (f32x4){(float)k};
    for (int64_t i = 0; i < rounds; i++) {
        for (int k = 0; k < CHAINS; k++)
            sum[k] = sum[k] * a + 0.25f;
        __asm__ volatile("" : "+m"(sum), "+x"(a));
    }
    return 2.0 * 4 * CHAINS * (double)rounds;
}

const struct roof_loops roof_loops_portable = {int8_loop, f32_loop};
