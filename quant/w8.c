#include "quant/w8.h"
#include "quant/octav.h"

#include <math.h>
#include <stdbool.h>

/* Below this a group is zeros: 127 / limit would not be a finite number. */
#define LEAST_LIMIT 1e-30f

/* The clips that CLIP_SEARCH tries, as parts of the largest value: 1, 63/64, ..., 1/2. */
#define SEARCH_PARTS 64

/* The smallest bf16 that is no smaller than `value` (>= 0). */
static uint16_t bf16_above(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0xffff) >> 16);
}

static float bf16_value(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float nearest(float weight, float inverse)
{
    float level = nearbyintf(weight * inverse);
    return level < -127 ? -127 : level > 127 ? 127 : level;
}

/* The squared error that a scale leaves. */
static double error_of(const float *weights, int64_t count, uint16_t scale)
{
    float step = bf16_value(scale), inverse = scale ? 1.0f / step : 0.0f;
    double error = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)weights[i] - (double)(nearest(weights[i], inverse) * step);
        error += d * d;
    }
    return error;
}

static uint16_t search_scale(const float *weights, int64_t count, float limit)
{
    uint16_t best = bf16_above(limit / 127.0f);
    double least = error_of(weights, count, best);
    uint16_t octav = bf16_above(octav_clip(weights, count, 8) / 127.0f);
    for (int part = SEARCH_PARTS; part >= SEARCH_PARTS / 2 - 1; part--) {
        bool seed = part < SEARCH_PARTS / 2;
        uint16_t scale = seed ? octav : bf16_above(limit * ((float)part / SEARCH_PARTS) / 127.0f);
        double error = error_of(weights, count, scale);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

static uint16_t scale_of(const float *weights, int64_t count, enum clip clip)
{
    float limit = 0;
    for (int64_t i = 0; i < count; i++)
        limit = fmaxf(limit, fabsf(weights[i]));
    if (limit < LEAST_LIMIT) return 0;
    if (clip == CLIP_SEARCH) return search_scale(weights, count, limit);
    if (clip == CLIP_OCTAV) limit = octav_clip(weights, count, 8);
    return bf16_above(limit / 127.0f);
}

static double quantize_group(const float *weights, int64_t count, enum clip clip, int8_t *values,
                             uint16_t *scale)
{
    double error = 0;
    *scale = scale_of(weights, count, clip);
    float step = bf16_value(*scale), inverse = *scale ? 1.0f / step : 0.0f;
    for (int64_t i = 0; i < count; i++) {
        values[i] = (int8_t)nearest(weights[i], inverse);
        double d = (double)weights[i] - (double)((float)values[i] * step);
        error += d * d;
    }
    return error;
}

double w8_quantize_groups(const float *weights, int64_t cols, int64_t group, enum clip clip,
                          int8_t *values, uint16_t *scales)
{
    double error = 0;
    for (int64_t at = 0; at < cols; at += group)
        error += quantize_group(weights + at, cols - at < group ? cols - at : group, clip,
                                values + at, scales + at / group);
    return error;
}

double w8_quantize_row(const float *weights, int64_t cols, int8_t *values, uint16_t *scales)
{
    return w8_quantize_groups(weights, cols, W8_GROUP, CLIP_MAX, values, scales);
}
