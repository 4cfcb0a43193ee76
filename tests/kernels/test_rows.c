/* What the instruction sets do to single rows, against the plain definition, bit for bit. */
#include "support_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1536 };

static const struct cpu_kernels *const kernels[] = {&cpu_kernels_portable, &cpu_kernels_avx2,
                                                    &cpu_kernels_avx512};
static const enum cpu_isa isa_of[] = {CPU_PORTABLE, CPU_AVX2, CPU_AVX512};

/* The largest first, the lower column among equals; zeros and NaN are none. */
static void reference_split(float *x, int64_t count, struct outliers *outliers)
{
    *outliers = (struct outliers){{0}, {0}};
    for (int o = 0; o < OUTLIERS; o++) {
        int64_t best = -1;
        for (int64_t k = 0; k < count; k++)
            if (fabsf(x[k]) > (best < 0 ? 0 : fabsf(x[best]))) best = k;
        if (best < 0) return;
        outliers->column[o] = (int32_t)best;
        outliers->value[o] = x[best];
        x[best] = 0;
    }
}

/* Rows with ties, zeros, few values, huge ones, NaN: `kind` says which. */
static void fill(float *x, int64_t count, int kind, struct rng *rng)
{
    for (int64_t k = 0; k < count; k++) {
        float value = (float)rng_below(rng, 2000001) / 1000000.0f - 1.0f;
        if (kind == 1) value = (float)((int64_t)rng_below(rng, 7) - 3);
        if (kind == 2) value = rng_below(rng, (uint64_t)count) < 3 ? value : 0;
        if (kind == 3) value = rng_below(rng, 2) ? 2.0f : -2.0f;
        if (kind == 4 && rng_below(rng, 20) == 0) value = NAN;
        if (kind == 5 && rng_below(rng, 50) == 0) value = rng_below(rng, 2) ? INFINITY : -INFINITY;
        if (kind == 6) value = 0;
        if (kind == 7) value = k < 3 ? -value : value * 1e-30f;
        x[k] = value;
    }
}

static void expect_split(const struct cpu_kernels *k, const float *row, int64_t count, int kind)
{
    float expected[LONGEST], found[LONGEST];
    struct outliers want, have;
    size_t bytes = (size_t)count * sizeof *row;
    memcpy(expected, row, bytes);
    memcpy(found, row, bytes);
    reference_split(expected, count, &want);
    k->split_outliers(found, count, &have);
    for (int o = 0; o < OUTLIERS; o++)
        cr_assert(want.column[o] == have.column[o] &&
                      memcmp(&want.value[o], &have.value[o], sizeof(float)) == 0,
                  "%s, kind %d, %lld values, outlier %d: column %d, %g; expected %d, %g",
                  k->backend_name, kind, (long long)count, o, have.column[o], (double)have.value[o],
                  want.column[o], (double)want.value[o]);
    cr_assert(memcmp(expected, found, bytes) == 0);
}

Test(rows, outliers_are_the_largest_values)
{
    struct rng rng = {3};
    float row[LONGEST];
    for (size_t i = 0; i < COUNT_OF(kernels); i++) {
        if (!cpu_isa_supported(isa_of[i])) continue;
        for (int kind = 0; kind < 8; kind++)
            for (int64_t count = 16; count <= LONGEST; count += count < 128 ? 16 : 352)
                for (int repeat = 0; repeat < 20; repeat++) {
                    fill(row, count, kind, &rng);
                    expect_split(kernels[i], row, count, kind);
                }
    }
}

Test(rows, rope_turns_every_pair)
{
    struct rng rng = {4};
    float x[128], found[128], cosine[64], sine[64];
    for (size_t i = 0; i < COUNT_OF(kernels); i++) {
        if (!cpu_isa_supported(isa_of[i])) continue;
        for (int32_t half = 1; half <= 64; half++) {
            fill(x, 2 * half, 0, &rng), fill(cosine, half, 0, &rng), fill(sine, half, 0, &rng);
            memcpy(found, x, sizeof x);
            kernels[i]->rotate(found, cosine, sine, half);
            for (int32_t k = 0; k < half; k++) {
                float a = x[k] * cosine[k] - x[k + half] * sine[k];
                float b = x[k + half] * cosine[k] + x[k] * sine[k];
                cr_assert(found[k] == a && found[k + half] == b, "%s: pair %d of %d",
                          kernels[i]->backend_name, k, half);
            }
        }
    }
}

Test(rows, bf16_is_rounded_to_even_and_keeps_nan)
{
    struct rng rng = {5};
    for (size_t i = 0; i < COUNT_OF(kernels); i++) {
        if (!cpu_isa_supported(isa_of[i])) continue;
        for (int repeat = 0; repeat < 4000; repeat++) {
            uint32_t bits[16];
            float x[16];
            uint16_t found[16];
            for (int k = 0; k < 16; k++) {
                bits[k] = (uint32_t)rng_below(&rng, (uint64_t)1 << 32);
                if (k % 4 == 0) bits[k] |= 0x7f800000u;                     /* infinities, NaN */
                if (k % 4 == 1) bits[k] = (bits[k] & 0xffff0000u) | 0x8000; /* ties */
            }
            memcpy(x, bits, sizeof x);
            kernels[i]->to_bf16(x, 16, found);
            for (int k = 0; k < 16; k++)
                cr_assert(found[k] == float_to_bf16(x[k]), "%s: %08x", kernels[i]->backend_name,
                          bits[k]);
        }
    }
}
