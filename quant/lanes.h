/* Sixteen floats at once, the same bits on every instruction set: GCC's vector types, no fused
 * multiply-add, every sum in an order that the source gives. EVERY_ISA compiles a function for
 * AVX-512, AVX2 and the base and chooses at run time. Internal to quant/. */
#ifndef QUANT_LANES_H
#define QUANT_LANES_H

#include <stdint.h>
#include <string.h>

typedef float lanes __attribute__((vector_size(64)));
typedef int32_t lanes_i __attribute__((vector_size(64)));
typedef double lanes_d __attribute__((vector_size(64)));

#if defined(EVERY_ISA)
/* tests/quant compiles a source for one instruction set alone */
#elif defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
/* With TSan the function that chooses would run before TSan is up; clang, which builds the fuzz
 * targets, has no inline functions of 64-byte vectors in a clone. */
#define EVERY_ISA __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EVERY_ISA
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE lanes lanes_set(float value)
{
    return value - (lanes){};
}

INLINE lanes lanes_load(const float *from)
{
    lanes value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void lanes_store(float *to, lanes value)
{
    memcpy(to, &value, sizeof value);
}

INLINE lanes_d lanes_load_d(const double *from)
{
    lanes_d value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* Eight floats as doubles. */
INLINE lanes_d lanes_widen(const float *from)
{
    lanes_d value;
    for (int i = 0; i < 8; i++)
        value[i] = (double)from[i];
    return value;
}

INLINE void lanes_store_d(double *to, lanes_d value)
{
    memcpy(to, &value, sizeof value);
}

/* No comparisons here: GCC 12 takes those of 64 bytes apart into single floats where the
 * instruction set has no such registers. */

/* All bits where a < b, for a and b >= 0: their bits are in the order of their values. */
INLINE lanes_i lanes_less(lanes a, lanes b)
{
    return ((lanes_i)a - (lanes_i)b) >> 31;
}

INLINE lanes lanes_select(lanes_i mask, lanes then, lanes other)
{
    return (lanes)((mask & (lanes_i)then) | (~mask & (lanes_i)other));
}

INLINE lanes lanes_magnitude(lanes x)
{
    return (lanes)((lanes_i)x & 0x7fffffff);
}

/* Twice an integer (|x| < 2^22) brought into [low, high]. */
INLINE lanes lanes_clamp_twice(lanes x, float low, float high)
{
    return lanes_magnitude(x - low) - lanes_magnitude(x - high) + (low + high);
}

/* The nearest integer, ties to even, for |x| < 2^22 (beyond, something as large). */
INLINE lanes lanes_nearest(lanes x)
{
    return (x + 12582912.0f) - 12582912.0f;
}

#endif
