#include "quant/search.h"
#include "quant/lanes.h"
#include "quant/octav.h"

#include <math.h>
#include <string.h>

/* Row scales that are tried, as multiples of max|w| / (7.5 * 15): the whole range first, then twice
 * around the best. What the row scale wins is more than what anything else does
 * (docs/quantization.md). */
#define COARSE_FIRST 0.5
#define COARSE_STEP  0.05
#define COARSE_COUNT 21
#define FINE_STEPS   2
#define REFITS       2

const char *clip_name(enum clip clip)
{
    static const char *const names[] = {"max", "octav", "search"};
    return names[clip];
}

/* Vectors are looked at 16 at once, one a lane: block b holds element i of its vectors at
 * [b][i][lane]. */
#define BLOCK (VSQ4Z_VECTOR * 16)

static int64_t blocks_of(int64_t cols)
{
    return (vsq4z_vectors(cols) + 15) / 16;
}

int64_t search_scratch(int64_t cols)
{
    return 2 * BLOCK * blocks_of(cols) + 16; /* weights, importance, room to align */
}

struct transposed {
    int64_t blocks;
    float *weights, *importance; /* [blocks][16][16]; zeros behind the last column */
};

static struct transposed transpose(const float *weights, const float *importance, int64_t cols,
                                   float *scratch)
{
    float *at = (float *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    struct transposed t = {blocks_of(cols), at, at + BLOCK * blocks_of(cols)};
    memset(at, 0, (size_t)(2 * BLOCK * t.blocks) * sizeof *at);
    for (int64_t k = 0; k < cols; k++) {
        int64_t vector = k / VSQ4Z_VECTOR;
        int64_t to = vector / 16 * BLOCK + k % VSQ4Z_VECTOR * 16 + vector % 16;
        t.weights[to] = weights[k];
        t.importance[to] = importance ? importance[k] : 1.0f;
    }
    return t;
}

INLINE lanes squared_error(lanes weight, lanes importance, lanes level, lanes step)
{
    lanes d = weight - level * step;
    return importance * (d * d);
}

/* For 16 vectors under one row scale: the least error of each, and the scale and zero point that
 * give it. error, scale, zero: [16]. */
INLINE void best_of_block(const lanes *weights, const lanes *importance, float row_scale,
                          lanes *error, lanes *scale, lanes *zero)
{
    *error = (lanes){};
    for (int i = 0; i < VSQ4Z_VECTOR; i++)
        *error += importance[i] * (weights[i] * weights[i]);
    *scale = (lanes){};
    *zero = lanes_set(7);
    for (int s = 1; s <= VSQ4Z_MAX_SCALE; s++) {
        lanes step = lanes_set(row_scale * (float)s), inverse = 1.0f / step;
        lanes with7 = {}, with8 = {};
        for (int i = 0; i < VSQ4Z_VECTOR; i++) {
            lanes level = lanes_nearest(weights[i] * inverse);
            with7 += squared_error(weights[i], importance[i], lanes_clamp(level, -7, 8), step);
            with8 += squared_error(weights[i], importance[i], lanes_clamp(level, -8, 7), step);
        }
        *scale = lanes_if_less(with7, *error, lanes_set((float)s), *scale);
        *zero = lanes_if_less(with7, *error, lanes_set(7), *zero);
        *error = lanes_if_less(with7, *error, with7, *error);
        *scale = lanes_if_less(with8, *error, lanes_set((float)s), *scale);
        *zero = lanes_if_less(with8, *error, lanes_set(8), *zero);
        *error = lanes_if_less(with8, *error, with8, *error);
    }
}

/* The row's least error under one row scale; with `row`, its scales and zero points too. */
EVERY_ISA static double under(const struct transposed *t, float row_scale, struct vsq4z_row *row)
{
    double total = 0;
    int64_t vectors = row ? vsq4z_vectors(row->cols) : 0;
    for (int64_t b = 0; b < t->blocks; b++) {
        lanes error, scale, zero;
        best_of_block((const lanes *)(const void *)(t->weights + b * BLOCK),
                      (const lanes *)(const void *)(t->importance + b * BLOCK), row_scale, &error,
                      &scale, &zero);
        for (int lane = 0; lane < 16; lane++) {
            total += (double)error[lane];
            int64_t v = b * 16 + lane;
            if (v >= vectors) continue;
            row->scales[v] = (uint8_t)scale[lane];
            row->zeros[v] = (uint8_t)zero[lane];
        }
    }
    return total;
}

/* Here a lane is a scale, 0 to 15. */
EVERY_ISA void vsq4z_choose_vector(const float *weights, const float *importance, float row_scale,
                                   uint8_t *scale, uint8_t *zero)
{
    lanes step, with7 = {}, with8 = {};
    for (int s = 0; s < 16; s++)
        step[s] = row_scale * (float)s;
    lanes inverse = 1.0f / step;
    inverse[0] = 0;
    for (int i = 0; i < VSQ4Z_VECTOR; i++) {
        lanes weight = lanes_set(weights[i]), counts = lanes_set(importance[i]);
        lanes level = lanes_nearest(weight * inverse);
        with7 += squared_error(weight, counts, lanes_clamp(level, -7, 8), step);
        with8 += squared_error(weight, counts, lanes_clamp(level, -8, 7), step);
    }
    float least = with7[0];
    *scale = 0;
    *zero = 7;
    for (int s = 1; s < 16; s++)
        for (int z = 7; z <= 8; z++) {
            float error = z == 7 ? with7[s] : with8[s];
            if (!(error < least)) continue;
            least = error;
            *scale = (uint8_t)s;
            *zero = (uint8_t)z;
        }
}

uint8_t vsq4z_nearest(float weight, float row_scale, int32_t scale, int32_t zero)
{
    float step = row_scale * (float)scale;
    if (!(step > 0)) return (uint8_t)zero;
    float level = nearbyintf(weight * (1.0f / step));
    if (level < (float)-zero) level = (float)-zero;
    if (level > (float)(VSQ4Z_MAX_CODE - zero)) level = (float)(VSQ4Z_MAX_CODE - zero);
    return (uint8_t)((int32_t)level + zero);
}

/* Codes under the row's scales and zero points; returns the weighted squared error. */
static double choose_codes(const float *weights, const float *importance, struct vsq4z_row *row)
{
    double error = 0;
    int64_t padded = vsq4z_vectors(row->cols) * VSQ4Z_VECTOR;
    for (int64_t k = 0; k < padded; k++) {
        int64_t v = k / VSQ4Z_VECTOR;
        float weight = k < row->cols ? weights[k] : 0;
        row->codes[k] = vsq4z_nearest(weight, row->row_scale, row->scales[v], row->zeros[v]);
        int32_t level = row->scales[v] * (row->codes[k] - row->zeros[v]);
        double d = (double)weight - (double)((float)level * row->row_scale);
        if (k < row->cols) error += d * d * (importance ? (double)importance[k] : 1.0);
    }
    return error;
}

/* --- max and octav: a scale for each vector first, the row scale from the largest of them */

struct vector_step {
    float step;
    uint8_t zero;
};

/* The smallest step that reaches both ends: one side has 7 levels, the other 8. */
static struct vector_step step_of(const float *weights, int64_t count, float clip)
{
    float high = 0, low = 0;
    for (int64_t i = 0; i < count; i++) {
        if (weights[i] > high) high = weights[i];
        if (-weights[i] > low) low = -weights[i];
    }
    if (high > clip) high = clip;
    if (low > clip) low = clip;
    float with7 = fmaxf(high / 8, low / 7), with8 = fmaxf(high / 7, low / 8);
    return with8 < with7 ? (struct vector_step){with8, 8} : (struct vector_step){with7, 7};
}

static struct vector_step vector_step_of(const float *weights, int64_t cols, int64_t vector,
                                         enum clip clip)
{
    int64_t first = vector * VSQ4Z_VECTOR;
    int64_t count = cols - first < VSQ4Z_VECTOR ? cols - first : VSQ4Z_VECTOR;
    float most = clip == CLIP_OCTAV ? octav_clip(weights + first, count, 4) : INFINITY;
    return step_of(weights + first, count, most);
}

static void two_levels(const float *weights, enum clip clip, struct vsq4z_row *row)
{
    int64_t vectors = vsq4z_vectors(row->cols);
    float largest = 0;
    for (int64_t v = 0; v < vectors; v++)
        largest = fmaxf(largest, vector_step_of(weights, row->cols, v, clip).step);
    row->row_scale = largest / VSQ4Z_MAX_SCALE;
    for (int64_t v = 0; v < vectors; v++) {
        struct vector_step step = vector_step_of(weights, row->cols, v, clip);
        float s = row->row_scale > 0 ? nearbyintf(step.step / row->row_scale) : 0;
        row->scales[v] = (uint8_t)(s < 1 && step.step > 0 && row->row_scale > 0 ? 1 : s);
        row->zeros[v] = step.zero;
    }
}

/* --- search */

struct best_scale {
    float scale;
    double error;
};

static void try_scale(const struct transposed *t, double scale, struct best_scale *best)
{
    double error = under(t, (float)scale, NULL);
    if (error < best->error) *best = (struct best_scale){(float)scale, error};
}

/* The row scale that fits the chosen levels best: sum e w l / sum e l^2. */
static float refit(const float *weights, const float *importance, const struct vsq4z_row *row)
{
    double products = 0, squares = 0;
    for (int64_t k = 0; k < row->cols; k++) {
        int64_t v = k / VSQ4Z_VECTOR;
        double level = row->scales[v] * (row->codes[k] - row->zeros[v]);
        double e = importance ? (double)importance[k] : 1.0;
        products += e * (double)weights[k] * level;
        squares += e * level * level;
    }
    return squares > 0 && products > 0 ? (float)(products / squares) : row->row_scale;
}

static double search(const struct transposed *t, const float *weights, const float *importance,
                     struct vsq4z_row *row)
{
    float largest = 0;
    for (int64_t k = 0; k < row->cols; k++)
        largest = fmaxf(largest, fabsf(weights[k]));
    double unit = (double)largest / (7.5 * VSQ4Z_MAX_SCALE), width = COARSE_STEP;
    struct best_scale best = {(float)unit, INFINITY};
    for (int i = 0; i < COARSE_COUNT; i++)
        try_scale(t, unit * (COARSE_FIRST + i * COARSE_STEP), &best);
    for (int i = 0; i < FINE_STEPS; i++) {
        double middle = best.scale;
        width /= 2;
        try_scale(t, middle - unit * width, &best);
        try_scale(t, middle + unit * width, &best);
    }
    for (int i = 0; i < REFITS; i++) {
        row->row_scale = best.scale;
        under(t, row->row_scale, row);
        choose_codes(weights, importance, row);
        try_scale(t, refit(weights, importance, row), &best);
        if (best.scale == row->row_scale) break;
    }
    row->row_scale = best.scale;
    under(t, row->row_scale, row);
    return choose_codes(weights, importance, row);
}

/* Below this a row is zero: steps of its vectors would not be normal numbers. */
#define LEAST_WEIGHT 1e-30f

static bool is_zero(const float *weights, int64_t cols)
{
    for (int64_t k = 0; k < cols; k++)
        if (fabsf(weights[k]) >= LEAST_WEIGHT) return false;
    return true;
}

double vsq4z_quantize_row(const float *weights, const float *importance, enum clip clip,
                          float *scratch, struct vsq4z_row *row)
{
    if (is_zero(weights, row->cols)) {
        row->row_scale = 0;
        memset(row->scales, 0, (size_t)vsq4z_vectors(row->cols));
        memset(row->zeros, 7, (size_t)vsq4z_vectors(row->cols));
    } else if (clip == CLIP_SEARCH) {
        struct transposed t = transpose(weights, importance, row->cols, scratch);
        return search(&t, weights, importance, row);
    } else {
        two_levels(weights, clip, row);
    }
    return choose_codes(weights, importance, row);
}

double vsq4z_quantize_under(const float *weights, const float *importance, float row_scale,
                            float *scratch, struct vsq4z_row *row)
{
    struct transposed t = transpose(weights, importance, row->cols, scratch);
    row->row_scale = row_scale;
    under(&t, row_scale, row);
    return choose_codes(weights, importance, row);
}
