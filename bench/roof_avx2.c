#include "bench/roof.h"

#include <immintrin.h>

/* Assembly for the reason that roof_avx512.c gives. 12 sums. */
#define CHAINS        12
#define ALL_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CLOBBERS                                                                             \
    "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", \
        "ymm11", "ymm12"
#define CLEAR(k) "vpxor %%ymm" #k ", %%ymm" #k ", %%ymm" #k "\n"
/* vpmaddubsw, vpmaddwd and an addition: the exact u8 x s8 product of AVX2. */
#define ADD_INT8(k)                        \
    "vpmaddubsw %[b], %[a], %%ymm12\n"     \
    "vpmaddwd %[ones], %%ymm12, %%ymm12\n" \
    "vpaddd %%ymm12, %%ymm" #k ", %%ymm" #k "\n"
#define ADD_F32(k) "vfmadd231ps %[b], %[a], %%ymm" #k "\n"
#define LOOP(turn)                                                                      \
    __asm__ volatile(ALL_CHAINS(CLEAR) ".p2align 5\n1:\n" ALL_CHAINS(turn) "dec %[i]\n" \
                                                                           "jnz 1b"     \
                     : [i] "+r"(left)                                                   \
                     : [a] "x"(a), [b] "x"(b), [ones] "x"(ones)                         \
                     : CLOBBERS, "cc")

static double int8_loop(int64_t rounds)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    int64_t left = rounds;
    LOOP(ADD_INT8);
    return 2.0 * 32 * CHAINS * (double)rounds;
}

static double f32_loop(int64_t rounds)
{
    __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f), ones = a;
    int64_t left = rounds;
    LOOP(ADD_F32);
    return 2.0 * 8 * CHAINS * (double)rounds;
}

#define REGISTER       "ymm"
#define REGISTER_BYTES 32
#include "bench/roof_read.h"

const struct roof_loops roof_loops_avx2 = {int8_loop, f32_loop, read_loop};
