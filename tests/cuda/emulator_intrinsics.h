// Barriers, votes and arithmetic that CUDA C++ has built in; included by emulator.h.
#ifndef TESTS_CUDA_EMULATOR_INTRINSICS_H
#define TESTS_CUDA_EMULATOR_INTRINSICS_H

static inline void __syncthreads(EMU_LOC_ARGS)
{
    emu_block_sync(0, 0, 0, EMU_LOC);
}

static inline int __syncthreads_count(int predicate, EMU_LOC_ARGS)
{
    return emu_block_sync(0, 0, predicate != 0, EMU_LOC);
}

static inline void __threadfence()
{
    emu_fence();
}

// --- atomics: one OS thread, so a relaxed load and store is one; TSan sees an atomic access
static inline int atomicAdd(int *at, int value)
{
    int old = __atomic_load_n(at, __ATOMIC_RELAXED);
    __atomic_store_n(at, (int)((unsigned)old + (unsigned)value), __ATOMIC_RELAXED);
    return old;
}

// --- bits
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __clz(int x)
{
    return x ? __builtin_clz((unsigned)x) : 32;
}

static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    unsigned long long bytes = (unsigned long long)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned pick = selector >> 4 * i & 15u;
        unsigned byte = (unsigned)(bytes >> 8 * (pick & 7u)) & 255u;
        if (pick & 8u) byte = byte & 128u ? 255u : 0u; // its sign, eight times
        result |= byte << 8 * i;
    }
    return result;
}

template <class To, class From> static inline To emu_bit_cast(From from)
{
    static_assert(sizeof(To) == sizeof(From), "same width");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

static inline int __float_as_int(float x)
{
    return emu_bit_cast<int>(x);
}

static inline unsigned __float_as_uint(float x)
{
    return emu_bit_cast<unsigned>(x);
}

static inline float __int_as_float(int x)
{
    return emu_bit_cast<float>(x);
}

static inline float __uint_as_float(unsigned x)
{
    return emu_bit_cast<float>(x);
}

// --- arithmetic rounded to nearest even; the emulated build has -ffp-contract=off
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}

static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float __int2float_rn(int x)
{
    return (float)x;
}

// cvt.rni.s32.f32: a NaN gives 0, what is too large the nearest int.
static inline int __float2int_rn(float x)
{
    if (x != x) return 0;
    if (x >= 2147483648.0f) return INT32_MAX;
    return x < -2147483648.0f ? INT32_MIN : (int)nearbyintf(x);
}

template <class T> static inline T __ldg(const T *at)
{
    return *at;
}

static inline int min(int a, int b)
{
    return a < b ? a : b;
}

static inline int max(int a, int b)
{
    return a > b ? a : b;
}

#endif
