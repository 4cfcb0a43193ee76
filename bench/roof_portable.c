#include "bench/roof.h"

/* What the compiler makes of plain C for any x86-64 (or any other machine). Sums are variables of
 * their own: an array of them would stay in memory (roof_avx512.c). */
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));

#define CHAINS        8
#define ALL_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define KEPT(s)       __asm__ volatile("" : "+x"(s)) /* in a register, and not foreseen */

static double int8_loop(int64_t rounds)
{
    i32x4 a = {3, 3, 3, 3};
#define BEGIN(k) i32x4 sum##k = {k};
#define ADD(k)       \
    sum##k += a * a; \
    KEPT(sum##k);    \
    KEPT(a);
    ALL_CHAINS(BEGIN)
    for (int64_t i = 0; i < rounds; i++) {
        ALL_CHAINS(ADD)
    }
#undef BEGIN
#undef ADD
    return 2.0 * 4 * CHAINS * (double)rounds;
}

static double f32_loop(int64_t rounds)
{
    f32x4 a = {0.5f, 0.5f, 0.5f, 0.5f};
#define BEGIN(k) f32x4 sum##k = {k};
#define ADD(k)               \
    sum##k = sum##k * a + a; \
    KEPT(sum##k);
    ALL_CHAINS(BEGIN)
    for (int64_t i = 0; i < rounds; i++) {
        ALL_CHAINS(ADD)
    }
#undef BEGIN
#undef ADD
    return 2.0 * 4 * CHAINS * (double)rounds;
}

static void read_loop(const void *memory, size_t bytes)
{
    const u32x4 *at = memory, *end = at + bytes / ROOF_READ_BLOCK * ROOF_READ_BLOCK / sizeof *at;
#define BEGIN(k) u32x4 sum##k = {0};
#define ADD(k)       \
    sum##k += at[k]; \
    KEPT(sum##k);
    ALL_CHAINS(BEGIN)
    for (; at < end; at += CHAINS) {
        ALL_CHAINS(ADD)
    }
#undef BEGIN
#undef ADD
}

const struct roof_loops roof_loops_portable = {int8_loop, f32_loop, read_loop};
