/* The paper's VSQ4: its equations by hand, its axes, and its words on a command line. */
#include "base/base.h"
#include "quant/vsq.h"
#include "tests/quant/support_rows.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLS = 576 };

static double simulate(const float *weights, int64_t cols, const struct vsq_format *format,
                       float *out, const char *name)
{
    float scratch[MAX_COLS];
    double error = vsq_simulate_row(weights, cols, format, scratch, out);
    double again = squared_distance(weights, out, cols);
    for (int64_t k = 0; k < cols; k++)
        cr_assert(isfinite(out[k]), "%s", name);
    cr_assert(fabs(error - again) <= 1e-9 * again, "%s: error %g, found %g", name, error, again);
    return error;
}

/* Equations 2 to 7 for two vectors whose scales are 1 and 0.4: with M = 4 the row scale is 1 / 15,
 * the integer scales 15 and 6. */
Test(vsq, the_equations_by_hand)
{
    float weights[32] = {7, -7, 3.4f, -2.6f}, out[32];
    weights[16] = 2.8f;
    weights[17] = -0.9f;
    weights[18] = 0.19f;
    struct vsq_format format = {16, 4, CLIP_MAX};
    simulate(weights, 32, &format, out, "by hand");
    static const float expected[] = {7, -7, 3, -3}, second[] = {2.8f, -0.8f, 0};
    for (int i = 0; i < 4; i++)
        cr_assert_float_eq(out[i], expected[i], 1e-5);
    for (int i = 0; i < 3; i++)
        cr_assert_float_eq(out[16 + i], second[i], 1e-5);
    for (int i = 19; i < 32; i++)
        cr_assert_eq(out[i], 0);
}

/* What comes back is row_scale * s * q with whole s and q: every value of a vector is a whole
 * multiple, -7 to 7, of a step, and steps are whole multiples, 0 to 2^M - 1, of one number. */
Test(vsq, values_lie_on_the_grid)
{
    struct rng rng = {51};
    float weights[MAX_COLS], out[MAX_COLS];
    static const int vectors[] = {16, 32, 64};
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        struct vsq_format format = {vectors[i], 4, CLIP_MAX};
        fill_row(&rng, GAUSS, weights, MAX_COLS);
        simulate(weights, MAX_COLS, &format, out, "grid");
        float row_scale = 0;
        for (int k = 0; k < MAX_COLS; k++)
            row_scale = fmaxf(row_scale, fabsf(out[k]) / (7 * 15));
        for (int k = 0; k < MAX_COLS; k++) {
            float level = out[k] / row_scale;
            cr_assert(fabsf(level - nearbyintf(level)) < 1e-3f, "%g", (double)level);
            bool product = level == 0;
            for (int q = 1; q <= 7; q++)
                product |=
                    abs((int)nearbyintf(level)) % q == 0 && abs((int)nearbyintf(level)) / q <= 15;
            cr_assert(product, "level %g", (double)level);
        }
    }
}

/* A row scale that the search makes smaller leaves the integer scales within M bits: no value that
 * is not 0 is smaller than the largest one's (2^M - 1) * 7th part, however well that would fit. */
Test(vsq, searched_scales_stay_within_their_bits)
{
    static const float finer[] = {16, 30};
    for (size_t i = 0; i < COUNT_OF(finer); i++) {
        float weights[64], out[64], largest = 0, smallest = INFINITY;
        for (int k = 0; k < 64; k++)
            weights[k] = (float)(k % 15 - 7) / (k < 16 ? 1.0f : finer[i]);
        struct vsq_format format = {16, 4, CLIP_SEARCH};
        simulate(weights, 64, &format, out, "two sizes");
        for (int k = 0; k < 64; k++) {
            largest = fmaxf(largest, fabsf(out[k]));
            if (out[k] != 0) smallest = fminf(smallest, fabsf(out[k]));
        }
        cr_assert(smallest >= largest / (7 * 15) * 0.9999f, "%g and %g", (double)largest,
                  (double)smallest);
    }
}

static double relative_error(enum distribution distribution, struct vsq_format format)
{
    struct rng rng = {52};
    float weights[MAX_COLS], out[MAX_COLS];
    double error = 0, total = 0;
    for (int row = 0; row < 64; row++) {
        fill_row(&rng, distribution, weights, MAX_COLS);
        error += simulate(weights, MAX_COLS, &format, out, "random");
        total += sum_of_squares(weights, MAX_COLS);
    }
    return error / total;
}

/* quantization.md, section 2: V = 32, M = 6, max: .0094 for Gauss, .0152 for Student t5. */
Test(vsq, errors_are_those_of_the_reference)
{
    double gauss = relative_error(GAUSS, (struct vsq_format){32, 6, CLIP_MAX});
    double t5 = relative_error(STUDENT_T5, (struct vsq_format){32, 6, CLIP_MAX});
    cr_assert(gauss > .0085 && gauss < .0100, "%g", gauss);
    cr_assert(t5 > .0135 && t5 < .0165, "%g", t5);
}

/* Shorter vectors and wider scales are better, and so is the search. */
Test(vsq, the_axes_point_the_right_way)
{
    for (int d = GAUSS; d <= STUDENT_T5; d++) {
        enum distribution distribution = (enum distribution)d;
        double v16 = relative_error(distribution, (struct vsq_format){16, 6, CLIP_MAX});
        double v32 = relative_error(distribution, (struct vsq_format){32, 6, CLIP_MAX});
        double v64 = relative_error(distribution, (struct vsq_format){64, 6, CLIP_MAX});
        double m4 = relative_error(distribution, (struct vsq_format){32, 4, CLIP_MAX});
        double m10 = relative_error(distribution, (struct vsq_format){32, 10, CLIP_MAX});
        double searched = relative_error(distribution, (struct vsq_format){32, 6, CLIP_SEARCH});
        cr_assert(v16 < v32 && v32 < v64, "%g %g %g", v16, v32, v64);
        cr_assert(m10 < v32 && v32 < m4, "%g %g %g", m10, v32, m4);
        cr_assert(searched < 0.95 * v32, "%g searched, %g", searched, v32);
    }
}

Test(vsq, every_length_and_kind_of_row)
{
    float weights[MAX_COLS], out[MAX_COLS];
    static const int vectors[] = {16, 32, 64}, bits[] = {4, 10};
    for (const int64_t *cols = row_lengths; *cols; cols++)
        for (int i = 0; i < 6; i++) {
            const char *name;
            for (int j = 0; adversarial_row(j, weights, *cols, &name); j++) {
                struct vsq_format format = {vectors[i % 3], bits[i / 3], CLIP_MAX};
                double max = simulate(weights, *cols, &format, out, name);
                format.clip = CLIP_OCTAV;
                simulate(weights, *cols, &format, out, name);
                format.clip = CLIP_SEARCH;
                double search = simulate(weights, *cols, &format, out, name);
                cr_assert(max <= sum_of_squares(weights, *cols) * 1.0001, "%s", name);
                cr_assert(search <= max * 1.0001 + 1e-9 * sum_of_squares(weights, *cols),
                          "%s, %lld cols, V %d, M %d: search %g, max %g", name, (long long)*cols,
                          format.vector, format.scale_bits, search, max);
            }
        }
}

Test(vsq, words_of_a_command_line)
{
    struct vsq_format format;
    struct error err = {0};
    cr_assert_eq(vsq_parse("vsq4:16,4", &format, &err), ST_OK);
    cr_assert(format.vector == 16 && format.scale_bits == 4 && format.clip == CLIP_MAX);
    cr_assert_eq(vsq_bits(&format), 4.25);
    cr_assert_eq(vsq_parse("vsq4:64,10,search", &format, &err), ST_OK);
    cr_assert(format.vector == 64 && format.scale_bits == 10 && format.clip == CLIP_SEARCH);
    static const char *const bad[] = {"vsq4",           "vsq4:",      "vsq4:16",
                                      "vsq4:16,",       "vsq4:8,4",   "vsq4:16,5",
                                      "vsq4:16,4,",     "vsq4:16,4x", "vsq4:16,4,best",
                                      "vsq4:16,4,max,", "vsq4z:16,4", "vsq4:999999999999,4",
                                      "vsq4:-16,4",     "",           "vsq4:16,4,searchx"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert_eq(vsq_parse(bad[i], &format, &err), ST_USAGE, "%s", bad[i]);
        cr_assert(strstr(err.text, bad[i]) && strstr(err.text, "16, 32 or 64"), "%s", err.text);
    }
}
