#include "bench/roof.h"

#include <immintrin.h>

/* Assembly, because GCC 12 keeps an array of sums in memory, whatever the optimization: the loop
 * would measure stores (half the rate of Zen 5). 12 independent sums hide the latency. */
#define CHAINS        12
#define ALL_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CLOBBERS \
    "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11"
#define CLEAR(k)    "vpxorq %%zmm" #k ", %%zmm" #k ", %%zmm" #k "\n"
#define ADD_INT8(k) "vpdpbusd %[b], %[a], %%zmm" #k "\n"
#define ADD_F32(k)  "vfmadd231ps %[b], %[a], %%zmm" #k "\n"
#define LOOP(turn)                                                                      \
    __asm__ volatile(ALL_CHAINS(CLEAR) ".p2align 5\n1:\n" ALL_CHAINS(turn) "dec %[i]\n" \
                                                                           "jnz 1b"     \
                     : [i] "+r"(left)                                                   \
                     : [a] "v"(a), [b] "v"(b)                                           \
                     : CLOBBERS, "cc")

static double int8_loop(int64_t rounds)
{
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
    int64_t left = rounds;
    LOOP(ADD_INT8);
    return 2.0 * 64 * CHAINS * (double)rounds;
}

static double f32_loop(int64_t rounds)
{
    __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
    int64_t left = rounds;
    LOOP(ADD_F32);
    return 2.0 * 16 * CHAINS * (double)rounds;
}

#define REGISTER       "zmm"
#define REGISTER_BYTES 64
#include "bench/roof_read.h"

const struct roof_loops roof_loops_avx512 = {int8_loop, f32_loop, read_loop};
