/* The few vector operations that the tile sources are written in, for the instruction set that the
 * including file is compiled for. Arithmetic is GCC's vector types; what they cannot say (FMA,
 * conversion from 16-bit floats) is here. VL floats make a register, VN registers make the 16 lanes
 * in which every order of summation is defined. Included by kernels_*.c alone. */
#ifndef KERNELS_CPU_VECTOR_H
#define KERNELS_CPU_VECTOR_H

#include "kernels/cpu/cpu.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VL 16
#elif defined(__AVX2__)
#define VL 8
#else
#define VL 4
#endif
#define VN (16 / VL)

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint16_t vh __attribute__((vector_size(VL * 2)));
typedef int8_t vb __attribute__((vector_size(VL)));

#define INLINE static inline __attribute__((always_inline))
/* A register tile: unrolled so often that UBSan's checks of its indices would take minutes to
 * compile. ASan's checks of its memory stay. */
#define TILE   INLINE __attribute__((no_sanitize("undefined")))
#define UNROLL _Pragma("GCC unroll 16")

INLINE vf vf_set(float value)
{
    return value - (vf){};
}

INLINE vi vi_set(int32_t value)
{
    return value - (vi){};
}

INLINE vf vf_load(const float *from)
{
    vf value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

INLINE void vf_store(float *to, vf value)
{
    __builtin_memcpy(to, &value, sizeof value);
}

/* a * b + c: fused where the instruction set has it, two roundings where not. */
INLINE vf vf_fma(vf a, vf b, vf c)
{
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* a where the mask's lane is all ones, b where it is zero. */
INLINE vf vf_select(vi mask, vf a, vf b)
{
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
}

/* a > b ? a : b, so the result is b when one of them is a NaN. */
INLINE vf vf_max(vf a, vf b)
{
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return vf_select(a > b, a, b);
#endif
}

INLINE vf vf_abs(vf value)
{
    return (vf)((vi)value & vi_set(0x7fffffff));
}

/* 0, 1, 2, ... */
INLINE vi vi_lane(void)
{
    vi lane;
    for (int i = 0; i < VL; i++)
        lane[i] = i;
    return lane;
}

/* Bit i: whether a >= b in lane i. */
INLINE uint32_t vf_at_least(vf a, vf b)
{
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#elif defined(__AVX2__)
    return (uint32_t)_mm256_movemask_ps((__m256)(a >= b));
#else
    uint32_t lanes = 0;
    for (int i = 0; i < VL; i++)
        lanes |= (uint32_t)(a[i] >= b[i]) << i;
    return lanes;
#endif
}

/* All ones in the lanes [0, count) of register `part` of 16 lanes. */
INLINE vi vi_lanes_below(int32_t count, int part)
{
    return vi_lane() < vi_set(count - part * VL);
}

/* The 32-bit lanes whose bits are set in `lanes`, one after the other to `to`, which has room for
 * VL. */
INLINE void vi_compress(int32_t *to, vi value, uint32_t lanes)
{
#if defined(__AVX512F__)
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)lanes, (__m512i)value));
#else
    for (; lanes; lanes &= lanes - 1)
        *to++ = value[__builtin_ctz(lanes)];
#endif
}

INLINE vu vu_load_u16(const uint16_t *from)
{
    vh half;
    __builtin_memcpy(&half, from, sizeof half);
#if defined(__AVX512F__)
    return (vu)_mm512_cvtepu16_epi32((__m256i)half);
#elif defined(__AVX2__)
    return (vu)_mm256_cvtepu16_epi32((__m128i)half);
#else
    return __builtin_convertvector(half, vu);
#endif
}

INLINE vf vf_load_bf16(const uint16_t *from)
{
    return (vf)(vu_load_u16(from) << 16);
}

/* 2 VL bf16, VL from each place. */
INLINE vu vu_load_pair(const uint16_t *low, const uint16_t *high)
{
    vu both;
#if defined(__AVX512F__)
    __m256i first = _mm256_loadu_si256((const void *)low);
    __m256i second = _mm256_loadu_si256((const void *)high);
    both = (vu)_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
#else
    __builtin_memcpy(&both, low, sizeof both / 2);
    __builtin_memcpy((char *)&both + sizeof both / 2, high, sizeof both / 2);
#endif
    return both;
}

/* Their values: those of even places, then those of odd ones. A shift and a mask: unlike widening,
 * no work for the ports that multiply. */
INLINE void vf_split_pair(vu both, vf pair[2])
{
    pair[0] = (vf)(both << 16);
    pair[1] = (vf)(both & 0xffff0000u);
}

/* Such a pair in the order of memory, and back. */
#define ZIP_2(i) (i), (i) + VL, (i) + 1, (i) + 1 + VL
#define ZIP_4(i) ZIP_2(i), ZIP_2((i) + 2)
#if VL == 16
#define ZIP_HALF(i) ZIP_4(i), ZIP_4((i) + 4)
#elif VL == 8
#define ZIP_HALF(i) ZIP_4(i)
#else
#define ZIP_HALF(i) ZIP_2(i)
#endif
#define EACH_2(i) (i), (i) + 2, (i) + 4, (i) + 6
#if VL == 16
#define EACH_SECOND(i) EACH_2(i), EACH_2((i) + 8), EACH_2((i) + 16), EACH_2((i) + 24)
#elif VL == 8
#define EACH_SECOND(i) EACH_2(i), EACH_2((i) + 8)
#else
#define EACH_SECOND(i) EACH_2(i)
#endif
INLINE void vf_order_pair(vf pair[2])
{
    vf low = __builtin_shufflevector(pair[0], pair[1], ZIP_HALF(0));
    pair[1] = __builtin_shufflevector(pair[0], pair[1], ZIP_HALF(VL / 2));
    pair[0] = low;
}

INLINE void vf_unorder_pair(vf pair[2])
{
    vf even = __builtin_shufflevector(pair[0], pair[1], EACH_SECOND(0));
    pair[1] = __builtin_shufflevector(pair[0], pair[1], EACH_SECOND(1));
    pair[0] = even;
}
#undef EACH_2
#undef EACH_SECOND
#undef ZIP_2
#undef ZIP_4
#undef ZIP_HALF

INLINE vf vf_load_f16(const uint16_t *from)
{
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)from));
#elif defined(__F16C__)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const void *)from));
#else
    /* Exponent and mantissa as they are, moved up 13 bits, are the value times 2^-112, subnormals
     * too; an exponent of 31 means infinity or NaN. */
    vu bits = vu_load_u16(from), magnitude = (bits & 0x7fff) << 13;
    vu special = (vu)(magnitude >= 0x7c00u << 13) & 0x7f800000u;
    vf value = (vf)magnitude * vf_set(0x1p112f);
    return (vf)((vu)value | special | (bits & 0x8000) << 16);
#endif
}

/* A row of 16-bit or 32-bit values; `type` is a constant wherever this is used. */
INLINE vf vf_load_as(enum dtype type, const void *base, int64_t index)
{
    if (type == DT_BF16) return vf_load_bf16((const uint16_t *)base + index);
    if (type == DT_F16) return vf_load_f16((const uint16_t *)base + index);
    return vf_load((const float *)base + index);
}

/* The nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves it in the low bits.
 */
#define ROUNDING_MAGIC 12582912.0f

INLINE vi vi_round(vf x)
{
    return (vi)(x + ROUNDING_MAGIC) - (vi)vf_set(ROUNDING_MAGIC);
}

/* To int8, for values that fit. */
INLINE vb vb_narrow(vi q)
{
#if defined(__AVX2__) && !defined(__AVX512F__)
    __m256i wide = (__m256i)q;
    __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    __m128i bytes = _mm_packs_epi16(words, words);
    vb narrow;
    __builtin_memcpy(&narrow, &bytes, sizeof narrow);
    return narrow;
#else
    return __builtin_convertvector(q, vb);
#endif
}

/* x[i] = e^x[i] for `count` registers with x <= 0: x = n ln 2 + r, e^r by a polynomial of degree 6
 * (relative error 1.1e-8 before rounding), 2^n in the exponent. 0 below -87.3 (no subnormals), NaN
 * for NaN. Step by step for all of them: a register's own steps wait for each other. */
#define EXP_REGISTERS 4
INLINE void vf_exp_down(vf x[EXP_REGISTERS], const int count)
{
    vi tiny[EXP_REGISTERS];
    vf shifted[EXP_REGISTERS], r[EXP_REGISTERS], p[EXP_REGISTERS];
#define EACH UNROLL for (int i = 0; i < count; i++)
    EACH tiny[i] = x[i] < vf_set(-87.3f);
    EACH x[i] = vf_max(vf_set(-87.3f), x[i]);
    EACH shifted[i] = vf_fma(x[i], vf_set(0x1.715476p+0f), vf_set(ROUNDING_MAGIC));
    EACH r[i] = shifted[i] - ROUNDING_MAGIC; /* n ln 2 in two parts: n times the first is exact */
    EACH x[i] = vf_fma(r[i], vf_set(-0x1.63p-1f), x[i]);
    EACH r[i] = vf_fma(r[i], vf_set(0x1.bd0106p-13f), x[i]);
    EACH p[i] = vf_fma(vf_set(0x1.6d110ap-10f), r[i], vf_set(0x1.120b6ep-7f));
    EACH p[i] = vf_fma(p[i], r[i], vf_set(0x1.55551ap-5f));
    EACH p[i] = vf_fma(p[i], r[i], vf_set(0x1.5554dcp-3f));
    EACH p[i] = vf_fma(p[i], r[i], vf_set(0.5f));
    EACH p[i] = vf_fma(p[i] * r[i], r[i], r[i]) + 1.0f;
    EACH p[i] *= (vf)(((vi)shifted[i] - (vi)vf_set(ROUNDING_MAGIC) + 127) << 23);
    EACH x[i] = (vf)(~tiny[i] & (vi)p[i]);
#undef EACH
}

/* e^x for any x; 2^127 * e^(88 - 127 ln 2) above 88. */
INLINE vf vf_exp(vf x)
{
    vf one[EXP_REGISTERS] = {(vf)vf_select(x > vf_set(88.0f), vf_set(88.0f), x)};
    vf_exp_down(one, 1);
    return one[0];
}

INLINE vf vf_silu(vf x)
{
    return x / (1.0f + vf_exp(-x));
}

/* The tree that ends every sum of 16 lanes: halves, quarters, pairs. */
INLINE float tree_sum(const float lanes[16])
{
    float eight[8], four[4];
    for (int i = 0; i < 8; i++)
        eight[i] = lanes[i] + lanes[i + 8];
    for (int i = 0; i < 4; i++)
        four[i] = eight[i] + eight[i + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

INLINE float lanes_sum(const vf v[VN])
{
    float lanes[16];
    for (int i = 0; i < VN; i++)
        vf_store(lanes + i * VL, v[i]);
    return tree_sum(lanes);
}

/* The largest of 16 lanes without a NaN. */
INLINE float lanes_max(const vf v[VN])
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v[0]);
#endif
    float lanes[16], largest;
    for (int i = 0; i < VN; i++)
        vf_store(lanes + i * VL, v[i]);
    largest = lanes[0];
    for (int i = 1; i < 16; i++)
        largest = lanes[i] > largest ? lanes[i] : largest;
    return largest;
}

#endif
