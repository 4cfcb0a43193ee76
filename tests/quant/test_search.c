/* VSQ4z's scales, zero points and codes: against brute force, against each other, on rows of every
 * length and kind, and on every instruction set. */
#include "base/base.h"
#include "quant/check.h"
#include "quant/search.h"
#include "tests/quant/support_rows.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLS = 1600 };

struct bench {
    float weights[MAX_COLS], importance[MAX_COLS], values[MAX_COLS];
    float scratch[16 + 4 * 1792];
    struct vsq4z_row row;
};

static struct bench *bench_open(int64_t cols)
{
    struct bench *b = must_alloc(sizeof *b);
    cr_assert_leq(search_scratch(cols), (int64_t)COUNT_OF(b->scratch));
    b->row = row_open(cols);
    return b;
}

static void bench_close(struct bench *b)
{
    row_close(&b->row);
    free(b);
}

static void fill_importance(struct rng *rng, float *out, int64_t cols)
{
    for (int64_t k = 0; k < cols; k++)
        out[k] = (float)exp(rng_normal(rng));
}

static double weighted_distance(const float *a, const float *b, const float *importance,
                                int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d * (importance ? (double)importance[i] : 1);
    }
    return sum;
}

/* Quantizes, checks what every result must be, and returns the weighted squared error. */
static double quantize(struct bench *b, const float *importance, enum clip clip, const char *name)
{
    struct vsq4z_row *row = &b->row;
    int64_t cols = row->cols, vectors = vsq4z_vectors(cols);
    memset(row->codes, 0xee, (size_t)vectors * VSQ4Z_VECTOR);
    double error = vsq4z_quantize_row(b->weights, importance, clip, b->scratch, row);
    cr_assert(isfinite(row->row_scale) && row->row_scale >= 0, "%s: row scale %g", name,
              (double)row->row_scale);
    for (int64_t v = 0; v < vectors; v++) {
        cr_assert_leq(row->scales[v], VSQ4Z_MAX_SCALE);
        cr_assert(row->zeros[v] == 7 || row->zeros[v] == 8, "%s", name);
    }
    for (int64_t k = 0; k < vectors * VSQ4Z_VECTOR; k++)
        if (k < cols)
            cr_assert_leq(row->codes[k], VSQ4Z_MAX_CODE);
        else
            cr_assert_eq(row->codes[k], row->zeros[k / VSQ4Z_VECTOR], "%s: padding", name);
    vsq4z_row_values(row, b->values);
    for (int64_t k = 0; k < cols; k++)
        cr_assert(isfinite(b->values[k]), "%s: value %lld", name, (long long)k);
    double again = weighted_distance(b->weights, b->values, importance, cols);
    cr_assert(fabs(error - again) <= 1e-9 * again, "%s: error %g, found %g", name, error, again);
    return error;
}

static double relative_error(enum distribution distribution, enum clip clip)
{
    struct rng rng = {21};
    struct bench *b = bench_open(576);
    double error = 0, total = 0;
    for (int row = 0; row < 256; row++) {
        fill_row(&rng, distribution, b->weights, 576);
        error += quantize(b, NULL, clip, "a row");
        total += sum_of_squares(b->weights, 576);
    }
    bench_close(b);
    return error / total;
}

/* quantization.md, section 2: VSQ4z-16 nearest / searched. At most that, and not by so much less
 * that the measure must be wrong. */
Test(search, errors_are_those_of_the_reference)
{
    static const struct {
        enum distribution distribution;
        enum clip clip;
        double expected;
    } table[] = {{GAUSS, CLIP_MAX, .0061},
                 {GAUSS, CLIP_SEARCH, .0054},
                 {STUDENT_T5, CLIP_MAX, .0089},
                 {STUDENT_T5, CLIP_SEARCH, .0081}};
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        double found = relative_error(table[i].distribution, table[i].clip);
        cr_assert(found <= table[i].expected && found >= 0.9 * table[i].expected,
                  "distribution %d, clip %s: %.5f, expected %.4f", table[i].distribution,
                  clip_name(table[i].clip), found, table[i].expected);
    }
}

static void check_order(struct bench *b, const float *importance, const char *name)
{
    double max = quantize(b, importance, CLIP_MAX, name);
    double octav = quantize(b, importance, CLIP_OCTAV, name);
    double search = quantize(b, importance, CLIP_SEARCH, name);
    double slack = 1 + 1e-5; /* the search adds in f32 */
    cr_assert(search <= max * slack && search <= octav * slack,
              "%s, %lld cols: search %g, max %g, octav %g", name, (long long)b->row.cols, search,
              max, octav);
}

Test(search, is_never_worse_than_the_other_clips)
{
    struct rng rng = {22};
    for (const int64_t *cols = row_lengths; *cols; cols++) {
        struct bench *b = bench_open(*cols);
        fill_importance(&rng, b->importance, *cols);
        for (int d = GAUSS; d <= STUDENT_T5; d++) {
            fill_row(&rng, (enum distribution)d, b->weights, *cols);
            check_order(b, NULL, "random");
            check_order(b, b->importance, "random, weighted");
        }
        const char *name;
        for (int i = 0; adversarial_row(i, b->weights, *cols, &name); i++) {
            cr_assert_eq(quant_check_weights(b->weights, *cols, NULL), ST_OK, "%s", name);
            check_order(b, NULL, name);
            check_order(b, b->importance, name);
        }
        bench_close(b);
    }
}

Test(search, importance_lowers_the_error_it_measures)
{
    struct rng rng = {23};
    struct bench *b = bench_open(576);
    double with = 0, without = 0;
    for (int i = 0; i < 32; i++) {
        fill_row(&rng, i % 2 ? GAUSS : STUDENT_T5, b->weights, 576);
        fill_importance(&rng, b->importance, 576);
        double one = quantize(b, b->importance, CLIP_SEARCH, "with");
        quantize(b, NULL, CLIP_SEARCH, "without");
        double other = weighted_distance(b->weights, b->values, b->importance, 576);
        cr_assert_leq(one, other);
        with += one;
        without += other;
    }
    cr_assert_lt(with, 0.9 * without, "%g with, %g without", with, without);
    bench_close(b);
}

/* The least error of a vector under a row scale, of all s, z and roundings, in double. */
static double least_error(const float *w, const float *importance, int64_t count, float row_scale)
{
    double least = INFINITY;
    for (int s = 0; s <= 15; s++)
        for (int z = 7; z <= 8; z++) {
            double error = 0;
            for (int64_t i = 0; i < count; i++) {
                double best = INFINITY;
                for (int q = 0; q <= 15; q++) {
                    double d = (double)w[i] - (double)row_scale * (s * (q - z));
                    best = fmin(best, d * d);
                }
                error += best * (double)importance[i];
            }
            least = fmin(least, error);
        }
    return least;
}

/* A searched row under the row scale that was found, and each of its vectors alone under `other`.
 */
static void check_against_brute_force(struct rng *rng, struct bench *b, float other)
{
    int64_t cols = b->row.cols;
    fill_importance(rng, b->importance, cols);
    quantize(b, b->importance, CLIP_SEARCH, "brute force");
    vsq4z_row_values(&b->row, b->values);
    for (int64_t v = 0; v < vsq4z_vectors(cols); v++) {
        int64_t at = v * VSQ4Z_VECTOR, count = cols - at < VSQ4Z_VECTOR ? cols - at : VSQ4Z_VECTOR;
        double least = least_error(b->weights + at, b->importance + at, count, b->row.row_scale);
        double found =
            weighted_distance(b->weights + at, b->values + at, b->importance + at, count);
        cr_assert(found <= least * 1.0001 + 1e-12 * sum_of_squares(b->weights + at, count),
                  "%lld cols, vector %lld: %g, least %g", (long long)cols, (long long)v, found,
                  least);

        float weights[VSQ4Z_VECTOR] = {0}, importance[VSQ4Z_VECTOR] = {0}, values[VSQ4Z_VECTOR];
        memcpy(weights, b->weights + at, (size_t)count * sizeof *weights);
        memcpy(importance, b->importance + at, (size_t)count * sizeof *importance);
        uint8_t s, z;
        least = least_error(weights, importance, count, other);
        vsq4z_choose_vector(weights, importance, other, &s, &z);
        for (int i = 0; i < VSQ4Z_VECTOR; i++)
            values[i] = (float)(s * (vsq4z_nearest(weights[i], other, s, z) - z)) * other;
        found = weighted_distance(weights, values, importance, count);
        cr_assert(found <= least * 1.0001 + 1e-12 * sum_of_squares(weights, count),
                  "vector alone: %g, least %g", found, least);
    }
}

Test(search, tries_every_scale_and_zero_point)
{
    struct rng rng = {24};
    for (const int64_t *cols = row_lengths; *cols; cols++) {
        struct bench *b = bench_open(*cols);
        for (int i = 0; i < 12; i++) {
            fill_row(&rng, (enum distribution)(i % 3), b->weights, *cols);
            float largest = 0;
            for (int64_t k = 0; k < *cols; k++)
                largest = fmaxf(largest, fabsf(b->weights[k]));
            check_against_brute_force(&rng, b, largest / 112.5f * (0.4f + 0.15f * (float)i));
        }
        bench_close(b);
    }
}

/* A matrix that is VSQ4z already loses nothing. */
Test(search, weights_of_the_format_stay_what_they_are)
{
    struct rng rng = {25};
    struct bench *b = bench_open(256);
    for (int i = 0; i < 20; i++) {
        for (int64_t k = 0; k < 256; k++) {
            if (k % 16 == 0) b->row.scales[k / 16] = (uint8_t)(1 + rng_below(&rng, 15));
            b->weights[k] =
                0.03125f * (float)(b->row.scales[k / 16] * ((int)rng_below(&rng, 16) - 7));
        }
        b->weights[0] = 0.03125f * 120; /* the row scale is then among the candidates */
        for (int64_t k = 1; k < 16; k++)
            b->weights[k] = 0.03125f * (float)(15 * (k - 7));
        cr_assert_eq(quantize(b, NULL, CLIP_SEARCH, "levels"), 0);
    }
    bench_close(b);
}

Test(search, a_power_of_two_changes_the_row_scale_alone)
{
    struct rng rng = {26};
    struct bench *b = bench_open(300);
    struct vsq4z_row first = row_open(300);
    fill_row(&rng, STUDENT_T5, b->weights, 300);
    fill_importance(&rng, b->importance, 300);
    double error = quantize(b, b->importance, CLIP_SEARCH, "as it is");
    memcpy(first.codes, b->row.codes, 304);
    memcpy(first.scales, b->row.scales, 19);
    memcpy(first.zeros, b->row.zeros, 19);
    first.row_scale = b->row.row_scale;
    static const int powers[] = {-80, -30, -1, 1, 30, 110};
    float original[300];
    memcpy(original, b->weights, sizeof original);
    for (size_t i = 0; i < COUNT_OF(powers); i++) {
        for (int64_t k = 0; k < 300; k++)
            b->weights[k] = ldexpf(original[k], powers[i]);
        double scaled = quantize(b, b->importance, CLIP_SEARCH, "times a power of two");
        cr_assert_eq(ldexpf(first.row_scale, powers[i]), b->row.row_scale);
        cr_assert(memcmp(first.codes, b->row.codes, 304) == 0);
        cr_assert(memcmp(first.scales, b->row.scales, 19) == 0);
        cr_assert(memcmp(first.zeros, b->row.zeros, 19) == 0);
        cr_assert_float_eq(scaled, ldexp(error, 2 * powers[i]), 1e-12 * scaled);
    }
    row_close(&first);
    bench_close(b);
}

/* Whatever importance says, no input of a row is forgotten. */
Test(search, unused_inputs_keep_their_weights)
{
    struct rng rng = {27};
    struct bench *b = bench_open(128);
    fill_row(&rng, GAUSS, b->weights, 128);
    for (int64_t k = 0; k < 128; k++)
        b->importance[k] = k < 64 ? 1.0f : 0.0f;
    vsq4z_quantize_row(b->weights, b->importance, CLIP_SEARCH, b->scratch, &b->row);
    vsq4z_row_values(&b->row, b->values);
    cr_assert_lt(squared_distance(b->weights + 64, b->values + 64, 64),
                 0.02 * sum_of_squares(b->weights + 64, 64));
    memset(b->importance, 0, sizeof b->importance);
    vsq4z_quantize_row(b->weights, b->importance, CLIP_SEARCH, b->scratch, &b->row);
    vsq4z_row_values(&b->row, b->values);
    cr_assert_lt(squared_distance(b->weights, b->values, 128),
                 0.01 * sum_of_squares(b->weights, 128));
    bench_close(b);
}

Test(search, rows_of_nothing_are_zeros)
{
    for (int kind = 0; kind < 3; kind++)
        for (enum clip clip = CLIP_MAX; clip <= CLIP_SEARCH; clip++) {
            struct bench *b = bench_open(40);
            for (int64_t k = 0; k < 40; k++)
                b->weights[k] = kind == 0 ? 0 : kind == 1 ? -0.0f : 0.9e-30f;
            quantize(b, NULL, clip, "nothing");
            cr_assert_eq(b->row.row_scale, 0);
            for (int64_t k = 0; k < 40; k++)
                cr_assert_eq(b->values[k], 0);
            bench_close(b);
        }
}

Test(search, the_nearest_code_is_the_nearest)
{
    struct rng rng = {28};
    for (int i = 0; i < 20000; i++) {
        int s = (int)rng_below(&rng, 16), z = 7 + (int)rng_below(&rng, 2);
        float w = (float)rng_normal(&rng), row_scale = (float)(0.001 + 0.05 * rng_unit(&rng));
        int q = vsq4z_nearest(w, row_scale, s, z);
        cr_assert(q >= 0 && q <= 15);
        double found = fabs((double)w - (double)row_scale * (s * (q - z)));
        for (int other = 0; other <= 15; other++)
            cr_assert_leq(found, fabs((double)w - (double)row_scale * (s * (other - z))) + 1e-6);
        if (s == 0) cr_assert_eq(q, z);
    }
}

/* --- every instruction set */

typedef double quantize_row_fn(const float *, const float *, enum clip, float *,
                               struct vsq4z_row *);
typedef void choose_vector_fn(const float *, const float *, float, uint8_t *, uint8_t *);
quantize_row_fn portable_quantize_row, avx2_quantize_row;
choose_vector_fn portable_choose_vector, avx2_choose_vector;

static void check_same(struct bench *b, quantize_row_fn *quantize_row, choose_vector_fn *choose,
                       const char *name)
{
    int64_t vectors = vsq4z_vectors(b->row.cols);
    struct vsq4z_row other = row_open(b->row.cols);
    double error = vsq4z_quantize_row(b->weights, b->importance, CLIP_SEARCH, b->scratch, &b->row);
    cr_assert_eq(error, quantize_row(b->weights, b->importance, CLIP_SEARCH, b->scratch, &other));
    cr_assert_eq(b->row.row_scale, other.row_scale, "%s", name);
    cr_assert(memcmp(b->row.codes, other.codes, (size_t)vectors * VSQ4Z_VECTOR) == 0, "%s", name);
    cr_assert(memcmp(b->row.scales, other.scales, (size_t)vectors) == 0, "%s", name);
    cr_assert(memcmp(b->row.zeros, other.zeros, (size_t)vectors) == 0, "%s", name);
    for (int64_t k = 0; b->row.row_scale > 0 && k + VSQ4Z_VECTOR <= b->row.cols; k += 16) {
        uint8_t s[2], z[2];
        vsq4z_choose_vector(b->weights + k, b->importance + k, b->row.row_scale, &s[0], &z[0]);
        choose(b->weights + k, b->importance + k, b->row.row_scale, &s[1], &z[1]);
        cr_assert(s[0] == s[1] && z[0] == z[1], "%s", name);
    }
    row_close(&other);
}

static void check_isa(quantize_row_fn *quantize_row, choose_vector_fn *choose)
{
    struct rng rng = {29};
    for (const int64_t *cols = row_lengths; *cols; cols++) {
        struct bench *b = bench_open(*cols);
        fill_importance(&rng, b->importance, *cols);
        for (int d = GAUSS; d <= STUDENT_T5; d++) {
            fill_row(&rng, (enum distribution)d, b->weights, *cols);
            check_same(b, quantize_row, choose, "random");
        }
        const char *name;
        for (int i = 0; adversarial_row(i, b->weights, *cols, &name); i++)
            check_same(b, quantize_row, choose, name);
        bench_close(b);
    }
}

Test(search, is_the_same_without_vector_instructions)
{
    check_isa(portable_quantize_row, portable_choose_vector);
}

Test(search, is_the_same_with_avx2)
{
    if (!__builtin_cpu_supports("avx2")) cr_skip("no AVX2");
    check_isa(avx2_quantize_row, avx2_choose_vector);
}

/* --- what may be given */

Test(check, names_the_weight_that_cannot_be_quantized)
{
    float row[70];
    for (int i = 0; i < 70; i++)
        row[i] = i % 2 ? 1e37f : -1e-45f;
    struct error err = {0};
    cr_assert_eq(quant_check_weights(row, 70, &err), ST_OK);
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1.1e37f, -3e38f};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        row[68] = bad[i];
        cr_assert_eq(quant_check_weights(row, 70, &err), ST_INVALID);
        cr_assert(strstr(err.text, "weight 68 is ") && strstr(err.text, "1e+37"), "%s", err.text);
        cr_assert_eq(quant_check_weights(row, 68, &err), ST_OK);
    }
}

Test(check, names_the_importance_that_cannot_be)
{
    float row[5] = {0, 1, 1e37f, 0, 0};
    struct error err = {0};
    cr_assert_eq(quant_check_importance(row, 5, &err), ST_OK);
    static const float bad[] = {NAN, INFINITY, -1e-3f};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        row[3] = bad[i];
        cr_assert_eq(quant_check_importance(row, 5, &err), ST_INVALID);
        cr_assert(strstr(err.text, "input 3 "), "%s", err.text);
    }
}
