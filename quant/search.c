#include "quant/search.h"
#include "quant/lanes.h"
#include "quant/octav.h"

#include <math.h>
#include <string.h>

/* Row scales that are tried, as multiples of max|w| / (7.5 * 15): the whole range of 0.5 to 1.5,
 * then twice around the best; before them those of the other clips, so that a search is never
 * worse. What the row scale wins is more than what anything else does (docs/quantization.md). */
#define COARSE_STEP  0.05
#define COARSE_COUNT 21
#define FINE_STEPS   2
#define REFITS       2

INLINE lanes squared_error(lanes weight, lanes importance, lanes twice_level, lanes half_step)
{
    lanes d = weight - twice_level * half_step;
    return importance * (d * d);
}

/* For one vector, where a lane is a scale, 0 to 15. */
EVERY_ISA void vsq4z_choose_vector(const float *weights, const float *importance, float row_scale,
                                   uint8_t *scale, uint8_t *zero)
{
    lanes half, inverse, errors[2] = {{}, {}};
    for (int s = 0; s <= VSQ4Z_MAX_SCALE; s++) {
        half[s] = row_scale * (float)s * 0.5f;
        inverse[s] = s ? 1.0f / (row_scale * (float)s) : 0;
    }
    for (int i = 0; i < VSQ4Z_VECTOR; i++) {
        lanes weight = lanes_set(weights[i]), counts = lanes_set(importance[i]);
        lanes level = lanes_nearest(weight * inverse);
        errors[0] += squared_error(weight, counts, lanes_clamp_twice(level, -7, 8), half);
        errors[1] += squared_error(weight, counts, lanes_clamp_twice(level, -8, 7), half);
    }
    float least = errors[0][0];
    *scale = 0;
    *zero = 7;
    for (int s = 1; s <= VSQ4Z_MAX_SCALE; s++)
        for (int z = 7; z <= 8; z++) {
            if (!(errors[z - 7][s] < least)) continue;
            least = errors[z - 7][s];
            *scale = (uint8_t)s;
            *zero = (uint8_t)z;
        }
}

/* --- a whole row: 16 vectors at once, one a lane */

/* Block b holds element i of its vectors at [b][i][lane]. */
#define BLOCK (VSQ4Z_VECTOR * 16)

/* A row as the search sees it: brought to a largest value in [1, 2) by a power of two, so that no
 * square is too large or too small. */
struct scaled {
    int64_t cols, blocks;
    float *weights, *importance;              /* [256 blocks], zeros behind the last column */
    float *weight_blocks, *importance_blocks; /* the same, transposed */
    float largest;
    int exponent; /* the row is weights * 2^exponent */
};

static int64_t blocks_of(int64_t cols)
{
    return (cols + BLOCK - 1) / BLOCK;
}

int64_t search_scratch(int64_t cols)
{
    return 4 * BLOCK * blocks_of(cols) + 16; /* and room to align */
}

/* The least error of 16 vectors under one row scale, and the scale and zero point that give it. */
INLINE lanes best_of_block(const lanes *weights, const lanes *importance, float row_scale,
                           lanes *scale, lanes *zero)
{
    lanes least = {};
    for (int i = 0; i < VSQ4Z_VECTOR; i++)
        least += importance[i] * (weights[i] * weights[i]);
    *scale = (lanes){};
    *zero = lanes_set(7);
    for (int s = 1; s <= VSQ4Z_MAX_SCALE; s++) {
        float step = row_scale * (float)s;
        lanes half = lanes_set(step * 0.5f), inverse = lanes_set(1.0f / step);
        lanes errors[2] = {{}, {}};
        for (int i = 0; i < VSQ4Z_VECTOR; i++) {
            lanes weight = weights[i], level = lanes_nearest(weight * inverse);
            errors[0] +=
                squared_error(weight, importance[i], lanes_clamp_twice(level, -7, 8), half);
            errors[1] +=
                squared_error(weight, importance[i], lanes_clamp_twice(level, -8, 7), half);
        }
        for (int j = 0; j < 2; j++) {
            lanes_i less = lanes_less(errors[j], least);
            least = lanes_select(less, errors[j], least);
            *scale = lanes_select(less, lanes_set((float)s), *scale);
            *zero = lanes_select(less, lanes_set((float)(7 + j)), *zero);
        }
    }
    return least;
}

/* The row's least error under a row scale, or something above `limit`; with `row`, its scales and
 * zero points too. */
EVERY_ISA static double under(const struct scaled *scaled, float row_scale, double limit,
                              struct vsq4z_row *row)
{
    double total = 0;
    int64_t vectors = row ? vsq4z_vectors(row->cols) : 0;
    for (int64_t b = 0; b < scaled->blocks && total <= limit; b++) {
        lanes scale, zero;
        lanes least =
            best_of_block((const lanes *)(const void *)(scaled->weight_blocks + b * BLOCK),
                          (const lanes *)(const void *)(scaled->importance_blocks + b * BLOCK),
                          row_scale, &scale, &zero);
        for (int lane = 0; lane < 16; lane++) {
            total += (double)least[lane];
            int64_t v = b * 16 + lane;
            if (v >= vectors) continue;
            row->scales[v] = (uint8_t)scale[lane];
            row->zeros[v] = (uint8_t)zero[lane];
        }
    }
    return total;
}

static float largest_of(const float *x, int64_t count)
{
    float largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    return largest;
}

/* x times a power of two with the largest in [1, 2); returns the exponent that was taken out. */
static int normalize(const float *x, int64_t count, float *out)
{
    int exponent;
    frexpf(largest_of(x, count), &exponent);
    for (int64_t i = 0; i < count; i++)
        out[i] = ldexpf(x[i], 1 - exponent);
    return exponent - 1;
}

/* An input that the text hardly used still gets a scale that fits it. */
#define LEAST_IMPORTANCE 1e-4 /* of the mean */

static void normalize_importance(const float *importance, int64_t cols, float *out)
{
    double sum = 0;
    if (importance && largest_of(importance, cols) > 0)
        normalize(importance, cols, out);
    else
        for (int64_t k = 0; k < cols; k++)
            out[k] = 1;
    for (int64_t k = 0; k < cols; k++)
        sum += (double)out[k];
    float least = (float)(LEAST_IMPORTANCE * sum / (double)cols);
    for (int64_t k = 0; k < cols; k++)
        out[k] = fmaxf(out[k], least);
}

static void transpose(const float *from, int64_t blocks, float *to)
{
    for (int64_t b = 0; b < blocks; b++)
        for (int lane = 0; lane < 16; lane++)
            for (int i = 0; i < VSQ4Z_VECTOR; i++)
                to[b * BLOCK + i * 16 + lane] = from[b * BLOCK + lane * VSQ4Z_VECTOR + i];
}

static struct scaled scale_row(const float *weights, const float *importance, int64_t cols,
                               float *scratch)
{
    float *at = (float *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
    int64_t blocks = blocks_of(cols), padded = blocks * BLOCK;
    struct scaled row = {.cols = cols,
                         .blocks = blocks,
                         .weights = at,
                         .importance = at + padded,
                         .weight_blocks = at + 2 * padded,
                         .importance_blocks = at + 3 * padded};
    memset(at, 0, (size_t)(2 * padded) * sizeof *at);
    row.exponent = normalize(weights, cols, row.weights);
    row.largest = largest_of(row.weights, cols);
    normalize_importance(importance, cols, row.importance);
    transpose(row.weights, blocks, row.weight_blocks);
    transpose(row.importance, blocks, row.importance_blocks);
    return row;
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

static float two_level_scale(const float *weights, int64_t cols, enum clip clip)
{
    float largest = 0;
    for (int64_t v = 0; v < vsq4z_vectors(cols); v++)
        largest = fmaxf(largest, vector_step_of(weights, cols, v, clip).step);
    return largest / VSQ4Z_MAX_SCALE;
}

static void two_levels(const float *weights, enum clip clip, struct vsq4z_row *row)
{
    int64_t vectors = vsq4z_vectors(row->cols);
    row->row_scale = two_level_scale(weights, row->cols, clip);
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

static void try_scale(const struct scaled *row, double scale, struct best_scale *best)
{
    double error = under(row, (float)scale, best->error, NULL);
    if (error < best->error) *best = (struct best_scale){(float)scale, error};
}

/* The row scale that fits the chosen levels best: sum e w l / sum e l^2. */
static float refit(const struct scaled *scaled, const struct vsq4z_row *row)
{
    double products = 0, squares = 0;
    for (int64_t k = 0; k < row->cols; k++) {
        int64_t v = k / VSQ4Z_VECTOR;
        double level = row->scales[v] * (row->codes[k] - row->zeros[v]);
        products += (double)scaled->importance[k] * (double)scaled->weights[k] * level;
        squares += (double)scaled->importance[k] * level * level;
    }
    return squares > 0 && products > 0 ? (float)(products / squares) : row->row_scale;
}

/* From the middle of the range outwards: that gives a low bar early. */
static float search(const struct scaled *scaled, struct vsq4z_row *row)
{
    double unit = (double)scaled->largest / (7.5 * VSQ4Z_MAX_SCALE), width = COARSE_STEP;
    struct best_scale best = {(float)unit, INFINITY};
    for (enum clip clip = CLIP_MAX; clip <= CLIP_OCTAV; clip++)
        try_scale(scaled, two_level_scale(scaled->weights, scaled->cols, clip), &best);
    for (int i = 0; i < COARSE_COUNT; i++) {
        int away = i % 2 ? (i + 1) / 2 : -i / 2;
        try_scale(scaled, unit * (1 + away * COARSE_STEP), &best);
    }
    for (int i = 0; i < FINE_STEPS; i++) {
        double middle = best.scale;
        width /= 2;
        try_scale(scaled, middle - unit * width, &best);
        try_scale(scaled, middle + unit * width, &best);
    }
    for (int i = 0; i < REFITS; i++) {
        row->row_scale = best.scale;
        under(scaled, best.scale, INFINITY, row);
        choose_codes(scaled->weights, NULL, row);
        try_scale(scaled, refit(scaled, row), &best);
        if (best.scale == row->row_scale) break;
    }
    return best.scale;
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
        struct scaled scaled = scale_row(weights, importance, row->cols, scratch);
        row->row_scale = search(&scaled, row);
        under(&scaled, row->row_scale, INFINITY, row);
        row->row_scale = ldexpf(row->row_scale, scaled.exponent);
    } else {
        two_levels(weights, clip, row);
    }
    return choose_codes(weights, importance, row);
}
