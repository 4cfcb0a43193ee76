#include "quant/a8.h"

#include <math.h>

void a8_split_outliers(float *x, int64_t cols, int count, int32_t *columns, float *values)
{
    for (int o = 0; o < count; o++) {
        int64_t at = 0;
        for (int64_t k = 1; k < cols; k++)
            if (fabsf(x[k]) > fabsf(x[at])) at = k;
        values[o] = x[at];
        columns[o] = x[at] != 0 ? (int32_t)at : 0;
        x[at] = 0;
    }
}

static float quantize_group(const float *x, int64_t count, int8_t *q)
{
    float limit = 0;
    for (int64_t i = 0; i < count; i++)
        limit = fmaxf(limit, fabsf(x[i]));
    float inverse = limit < 1e-30f ? 0.0f : 127.0f / limit;
    for (int64_t i = 0; i < count; i++)
        q[i] = (int8_t)nearbyintf(x[i] * inverse);
    return limit < 1e-30f ? 0.0f : limit / 127.0f;
}

void a8_quantize_groups(const float *x, int64_t cols, int64_t group, int8_t *q, float *scales)
{
    for (int64_t at = 0; at < cols; at += group)
        scales[at / group] = quantize_group(x + at, cols - at < group ? cols - at : group, q + at);
}
