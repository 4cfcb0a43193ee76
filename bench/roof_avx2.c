#include "bench/roof.h"

#include <immintrin.h>

#define CHAINS 12

/* vpmaddubsw, vpmaddwd and an addition: the exact u8 x s8 product of AVX2. */
static double int8_loop(int64_t rounds)
{
    __m256i sum[CHAINS], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
    __m256i ones = _mm256_set1_epi16(1);
    for (int k = 0; k < CHAINS; k++)
        sum[k] = _mm256_set1_epi32(k);
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) {
            __m256i pairs = _mm256_maddubs_epi16(a, b);
            __asm__ volatile("" : "+x"(pairs));
            sum[k] = _mm256_add_epi32(sum[k], _mm256_madd_epi16(pairs, ones));
            __asm__ volatile("" : "+x"(sum[k]));
        }
    }
    return 2.0 * 32 * CHAINS * (double)rounds;
}

static double f32_loop(int64_t rounds)
{
    __m256 sum[CHAINS], a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
    for (int k = 0; k < CHAINS; k++)
        sum[k] = _mm256_set1_ps((float)k);
    for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; k++) {
            sum[k] = _mm256_fmadd_ps(sum[k], a, b);
            __asm__ volatile("" : "+x"(sum[k]));
        }
    }
    return 2.0 * 8 * CHAINS * (double)rounds;
}

const struct roof_loops roof_loops_avx2 = {int8_loop, f32_loop};
