#include "bench/roof.h"

#include <immintrin.h>

#define CHAINS 12 /* enough independent sums to hide the latency */

static double int8_loop(int64_t rounds)
{
    __m512i sum[CHAINS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    for (int k = 0; k < CHAINS; k++)
        sum[k] = _mm512_set1_epi32(k);
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) {
            sum[k] = _mm512_dpbusd_epi32(sum[k], a, b);
            __asm__ volatile("" : "+v"(sum[k])); /* each one is really done */
        }
    }
    return 2.0 * 64 * CHAINS * (double)rounds;
}

static double f32_loop(int64_t rounds)
{
    __m512 sum[CHAINS], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
    for (int k = 0; k < CHAINS; k++)
        sum[k] = _mm512_set1_ps((float)k);
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) {
            sum[k] = _mm512_fmadd_ps(sum[k], a, b);
            __asm__ volatile("" : "+v"(sum[k]));
        }
    }
    return 2.0 * 16 * CHAINS * (double)rounds;
}

const struct roof_loops roof_loops_avx512 = {int8_loop, f32_loop};
