#include "quant/w8.h"

#include <math.h>

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

static double quantize_group(const float *weights, int64_t count, int8_t *values, uint16_t *scale)
{
    float limit = 0;
    double error = 0;
    for (int64_t i = 0; i < count; i++)
        limit = fmaxf(limit, fabsf(weights[i]));
    *scale = limit < 1e-30f ? 0 : bf16_above(limit / 127.0f);
    float step = bf16_value(*scale), inverse = *scale ? 1.0f / step : 0.0f;
    for (int64_t i = 0; i < count; i++) {
        values[i] = (int8_t)nearbyintf(weights[i] * inverse);
        double d = (double)weights[i] - (double)((float)values[i] * step);
        error += d * d;
    }
    return error;
}

double w8_quantize_row(const float *weights, int64_t cols, int8_t *values, uint16_t *scales)
{
    double error = 0;
    for (int64_t at = 0; at < cols; at += W8_GROUP)
        error += quantize_group(weights + at, cols - at < W8_GROUP ? cols - at : W8_GROUP,
                                values + at, scales + at / W8_GROUP);
    return error;
}
