/* W8 and A8: int8 with scales. */
#include "base/base.h"
#include "quant/a8.h"
#include "quant/w8.h"
#include "tests/quant/support_rows.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLS = 576 };

static double w8_error(const float *weights, int64_t cols, int64_t group, enum clip clip,
                       int8_t *values, uint16_t *scales, const char *name)
{
    double error = w8_quantize_groups(weights, cols, group, clip, values, scales), again = 0;
    struct w8_matrix m = {1, cols, values, scales};
    for (int64_t k = 0; k < cols; k++) {
        cr_assert(values[k] >= -127 && values[k] <= 127, "%s", name);
        float scale = w8_scale(&m, 0, k / group * W8_GROUP); /* the scale of k's group */
        cr_assert(isfinite(scale) && scale >= 0, "%s", name);
        float value = (float)values[k] * scale;
        cr_assert(isfinite(value), "%s", name);
        again += ((double)weights[k] - (double)value) * ((double)weights[k] - (double)value);
    }
    cr_assert(fabs(error - again) <= 1e-9 * again, "%s: error %g, found %g", name, error, again);
    return error;
}

/* No clip: a scale is the smallest bf16 from max / 127 on, and no weight is off by more than half
 * of it. */
static void check_max(const float *weights, int64_t cols, const char *name)
{
    int8_t values[MAX_COLS];
    uint16_t scales[MAX_COLS / W8_GROUP + 1];
    struct w8_matrix m = {1, cols, values, scales};
    w8_quantize_row(weights, cols, values, scales);
    for (int64_t at = 0; at < cols; at += W8_GROUP) {
        float limit = 0, scale = w8_scale(&m, 0, at);
        int64_t end = at + W8_GROUP < cols ? at + W8_GROUP : cols;
        for (int64_t k = at; k < end; k++)
            limit = fmaxf(limit, fabsf(weights[k]));
        cr_assert(limit < 1e-30f ? scale == 0
                                 : scale >= limit / 127 && scale <= limit / 127 * 1.0079f,
                  "%s: largest %g, scale %g", name, (double)limit, (double)scale);
        for (int64_t k = at; scale > 0 && k < end; k++)
            cr_assert(fabsf(weights[k] - (float)values[k] * scale) <= scale * 0.50001f, "%s", name);
    }
}

static void check_clips(const float *weights, int64_t cols, int64_t group, const char *name)
{
    int8_t values[MAX_COLS];
    uint16_t scales[MAX_COLS];
    double max = w8_error(weights, cols, group, CLIP_MAX, values, scales, name);
    double octav = w8_error(weights, cols, group, CLIP_OCTAV, values, scales, name);
    double search = w8_error(weights, cols, group, CLIP_SEARCH, values, scales, name);
    cr_assert(search <= max && search <= octav, "%s: search %g, max %g, octav %g", name, search,
              max, octav);
}

Test(w8, every_length_and_kind_of_row)
{
    struct rng rng = {41};
    float weights[MAX_COLS];
    for (const int64_t *cols = row_lengths; *cols; cols++) {
        const char *name = "random";
        for (int d = GAUSS; d <= STUDENT_T5; d++) {
            fill_row(&rng, (enum distribution)d, weights, *cols);
            check_max(weights, *cols, name);
            check_clips(weights, *cols, W8_GROUP, name);
            check_clips(weights, *cols, *cols, name);
        }
        for (int i = 0; adversarial_row(i, weights, *cols, &name); i++) {
            check_max(weights, *cols, name);
            check_clips(weights, *cols, W8_GROUP, name);
            check_clips(weights, *cols, *cols, name);
        }
    }
}

/* The largest weight becomes 127 where its scale is exact, whatever the sign. */
Test(w8, the_largest_weight_is_127)
{
    float weights[4] = {-254, 127, 1, -1};
    int8_t values[4];
    uint16_t scale;
    w8_quantize_row(weights, 4, values, &scale);
    cr_assert_eq(scale, 0x4000); /* 2 */
    cr_assert_eq(values[0], -127);
    cr_assert_eq(values[1], 64); /* 63.5: ties to even */
    cr_assert_eq(values[2], 0);
}

/* quantization.md, section 2: INT8 per channel .00006 for Gauss; scales for 64 halve it and more.
 */
Test(w8, errors_are_those_of_the_reference)
{
    struct rng rng = {42};
    float weights[MAX_COLS];
    int8_t values[MAX_COLS];
    uint16_t scales[MAX_COLS];
    double channel = 0, groups = 0, total = 0;
    for (int row = 0; row < 256; row++) {
        fill_row(&rng, GAUSS, weights, MAX_COLS);
        channel += w8_error(weights, MAX_COLS, MAX_COLS, CLIP_MAX, values, scales, "channel");
        groups += w8_error(weights, MAX_COLS, W8_GROUP, CLIP_MAX, values, scales, "groups");
        total += sum_of_squares(weights, MAX_COLS);
    }
    cr_assert(channel / total < .00006 && channel / total > .00004, "channel: %g", channel / total);
    cr_assert(groups < 0.65 * channel, "groups: %g", groups / total);
}

Test(a8, values_are_within_half_a_step)
{
    struct rng rng = {43};
    float x[MAX_COLS], scales[MAX_COLS];
    int8_t q[MAX_COLS];
    for (const int64_t *cols = row_lengths; *cols; cols++)
        for (int kind = 0; kind < 2; kind++) {
            int64_t group = kind ? 64 : *cols;
            fill_row(&rng, STUDENT_T5, x, *cols);
            a8_quantize_groups(x, *cols, group, q, scales);
            for (int64_t k = 0; k < *cols; k++) {
                float scale = scales[k / group];
                cr_assert(q[k] >= -127 && q[k] <= 127);
                cr_assert(fabsf(x[k] - (float)q[k] * scale) <= scale * 0.50001f);
            }
            for (int64_t at = 0; at < *cols; at += group) {
                int largest = 0;
                for (int64_t k = at; k < at + group && k < *cols; k++)
                    largest = abs(q[k]) > largest ? abs(q[k]) : largest;
                cr_assert_eq(largest, 127);
            }
        }
}

Test(a8, a_group_of_nothing_is_zeros)
{
    float x[70] = {[3] = 0.9e-30f, [65] = -2};
    int8_t q[70];
    float scales[2];
    a8_quantize_groups(x, 70, 64, q, scales);
    cr_assert_eq(scales[0], 0);
    cr_assert_eq(q[3], 0);
    cr_assert_eq(scales[1], 2.0f / 127);
    cr_assert_eq(q[65], -127);
}

Test(a8, outliers_are_the_largest_and_leave_zeros)
{
    float x[9] = {1, -7, 2, 7, 0, -3, 2, 0.5f, 7}, values[4];
    int32_t columns[4];
    a8_split_outliers(x, 9, 4, columns, values);
    const int32_t expected_columns[4] = {1, 3, 8, 5};
    const float expected_values[4] = {-7, 7, 7, -3}, left[9] = {1, 0, 2, 0, 0, 0, 2, 0.5f, 0};
    cr_assert(memcmp(columns, expected_columns, sizeof columns) == 0);
    cr_assert(memcmp(values, expected_values, sizeof values) == 0);
    for (int k = 0; k < 9; k++)
        cr_assert_eq(x[k], left[k]);

    float few[3] = {0, 0, 5};
    a8_split_outliers(few, 3, 3, columns, values);
    cr_assert(columns[0] == 2 && values[0] == 5 && values[1] == 0 && values[2] == 0);
}
