/* OCTAV against a fine grid of clips, and what the clip is for: less error of real quantizers. */
#include "base/base.h"
#include "quant/octav.h"
#include "tests/quant/support_rows.h"

#include <criterion/criterion.h>
#include <math.h>

enum { COUNT = 2000, GRID = 4000 };

static float largest_of(const float *x, int64_t count)
{
    float largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    return largest;
}

/* The error that the paper's model gives a clip (its equation 6). */
static double model_error(const float *x, int64_t count, int bits, double clip)
{
    double error = 0, noise = ldexp(1.0, -2 * bits) / 3;
    for (int64_t i = 0; i < count; i++) {
        double size = fabs((double)x[i]);
        if (size >= clip)
            error += (size - clip) * (size - clip);
        else if (size > 0)
            error += noise * clip * clip;
    }
    return error;
}

/* The least error of the paper's model over GRID clips up to the largest value. */
static double brute_force(const float *x, int64_t count, int bits)
{
    double least = INFINITY, largest = (double)largest_of(x, count);
    for (int i = 1; i <= GRID; i++)
        least = fmin(least, model_error(x, count, bits, largest * i / GRID));
    return least;
}

/* Newton's method follows the slope between values and does not see that the error steps by
 * 4^-B / 3 clip^2 where a value enters the clip; so the published iteration ends a little beside
 * the least: `slack` for B = 2 and 3, where that step is large, and for more bits. */
static void check(const float *x, int64_t count, double slack2, double slack4, const char *name)
{
    for (int bits = 2; bits <= 8; bits++) {
        float clip = octav_clip(x, count, bits);
        cr_assert(clip >= 0 && clip <= largest_of(x, count), "%s: clip %g", name, (double)clip);
        double found = model_error(x, count, bits, (double)clip),
               least = brute_force(x, count, bits);
        cr_assert(found <= least * (1 + (bits < 4 ? slack2 : slack4)),
                  "%s, %d bits, %lld values: clip %g has %g, the grid %g", name, bits,
                  (long long)count, (double)clip, found, least);
    }
}

Test(octav, finds_the_least_error_of_its_model)
{
    struct rng rng = {31};
    static float x[COUNT];
    for (int d = GAUSS; d <= STUDENT_T5; d++)
        for (int i = 0; i < 4; i++) {
            fill_row(&rng, (enum distribution)d, x, COUNT);
            check(x, COUNT, 0.01, 0.002, "random");
        }
}

Test(octav, stands_adversarial_rows)
{
    static float x[COUNT];
    const char *name;
    for (int i = 0; adversarial_row(i, x, COUNT, &name); i++)
        for (int64_t count = 1; count <= COUNT; count = count * 3 + 1)
            check(x, count, 0.16, 0.025, name);
}

Test(octav, zeros_have_no_clip)
{
    float zeros[5] = {0, -0.0f, 0, 0, 0};
    cr_assert_eq(octav_clip(zeros, 5, 4), 0);
    cr_assert_eq(octav_clip(zeros, 0, 4), 0);
}

/* The published iteration, one step written out by hand: x = 1, 1, 1, 5, B = 2. From 2:
 * 5 / (1/48 * 3 + 1) = 4.705882, which is a fixed point since the same value is cut off. */
Test(octav, iterates_as_published)
{
    float x[4] = {1, -1, 1, 5};
    cr_assert_float_eq(octav_clip(x, 4, 2), 80.0 / 17, 1e-6);
    /* The error there: 3/48 clip^2 + (5 - clip)^2. */
    double clip = 80.0 / 17;
    cr_assert_float_eq(model_error(x, 4, 2, clip), 3 * clip * clip / 48 + (5 - clip) * (5 - clip),
                       1e-12);
}

/* The squared error of symmetric 4-bit codes, relative to the row. */
static double int4_error(const float *x, int64_t count, float clip)
{
    double error = 0;
    float step = clip / 7;
    for (int64_t i = 0; i < count; i++) {
        float code = nearbyintf(x[i] / step);
        code = fmaxf(-7, fminf(7, code));
        double d = (double)x[i] - (double)(code * step);
        error += d * d;
    }
    return error / sum_of_squares(x, count);
}

/* quantization.md, section 1: 37 % less for Gauss, 52 % for Student t5, where a channel has one
 * scale; section 2: .0129 and .0369 remain. */
Test(octav, clips_a_channel_as_well_as_the_reference_says)
{
    static float x[4096];
    static const struct {
        enum distribution distribution;
        double most, saved;
    } table[] = {{GAUSS, .0135, .30}, {STUDENT_T5, .0385, .45}};
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct rng rng = {32};
        double max = 0, octav = 0;
        for (int row = 0; row < 32; row++) {
            fill_row(&rng, table[i].distribution, x, 4096);
            max += int4_error(x, 4096, largest_of(x, 4096)) / 32;
            octav += int4_error(x, 4096, octav_clip(x, 4096, 4)) / 32;
        }
        cr_assert(octav <= table[i].most && octav <= (1 - table[i].saved) * max,
                  "distribution %d: max %.4f, octav %.4f", table[i].distribution, max, octav);
    }
}
