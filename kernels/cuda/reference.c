/* The kernels of this folder in plain C on host memory: what each must give, said as simply as it
 * can be. It shares nothing with them but the contract in cuda.h. */
#include "kernels/cuda/cuda.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* 16 sums, value i to sum i mod 16, each in one chain of fused multiply-adds; then halves,
 * quarters, pairs. The order is kernels/cpu's (vector.h). */
static float sum_of_squares(const float *x, int64_t count)
{
    float sums[16] = {0};
    for (int64_t i = 0; i < count; i++)
        sums[i % 16] = fmaf(x[i], x[i], sums[i % 16]);
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            sums[i] += sums[i + half];
    return sums[0];
}

static float normalised(const struct cuda_norm_args *args, const float *x, float factor, int64_t k)
{
    return args->norm ? x[k] * factor * args->norm[k] : x[k];
}

/* Takes the value of largest magnitude that is not among the `taken` columns; false: all others are
 * 0 (or no numbers). */
static bool next_largest(const struct cuda_norm_args *args, const float *x, float factor,
                         const struct cuda_outliers *taken, int count, int32_t *column,
                         float *value)
{
    *value = 0;
    for (int64_t k = 0; k < args->out.cols; k++) {
        bool out = false;
        for (int o = 0; o < count; o++)
            out |= taken->column[o] == k;
        float h = normalised(args, x, factor, k);
        if (out || !(fabsf(h) > fabsf(*value))) continue;
        *value = h;
        *column = (int32_t)k;
    }
    return *value != 0;
}

static void quantize_row(const struct cuda_norm_args *args, const float *x, float factor,
                         int64_t row)
{
    const struct cuda_activations *out = &args->out;
    struct cuda_outliers *outliers = &out->outliers[row];
    *outliers = (struct cuda_outliers){{0}, {0}};
    int count = 0;
    int32_t column = 0;
    float largest;
    while (next_largest(args, x, factor, outliers, count, &column, &largest) &&
           count < CUDA_OUTLIERS) {
        outliers->column[count] = column;
        outliers->value[count++] = largest;
    }
    largest = fabsf(largest);
    bool zero = largest < 1e-30f;
    out->scale[row] = zero ? 0 : largest / 127;
    int8_t *q8 = out->q8 + row * out->q8_stride;
    memset(q8, 0, (size_t)(vsq4z_vectors(out->cols) * VSQ4Z_VECTOR));
    for (int64_t k = 0; k < out->cols; k++) {
        float scaled = normalised(args, x, factor, k) * (zero ? 0 : 127 / largest);
        q8[k] = isnan(scaled) ? 0 : (int8_t)rintf(scaled);
    }
    for (int o = 0; o < count; o++)
        q8[outliers->column[o]] = 0;
    out->sum[row] = 0;
    for (int64_t k = 0; k < out->cols; k++)
        out->sum[row] += q8[k];
}

enum status cuda_rmsnorm_quantize_reference(const struct cuda_norm_args *args)
{
    for (int64_t row = 0; row < args->out.rows; row++) {
        const float *x = args->x + row * args->x_stride;
        float mean = sum_of_squares(x, args->out.cols) / (float)args->out.cols;
        quantize_row(args, x, 1 / sqrtf(mean + args->eps), row);
    }
    return ST_OK;
}

enum status cuda_vsq4z_gemm_reference(const struct cuda_gemm_args *args,
                                      const struct vsq4z_matrix *m)
{
    const struct cuda_activations *in = &args->in;
    for (int64_t row = 0; row < in->rows; row++)
        for (int64_t output = 0; output < m->rows; output++) {
            int64_t sum = 0;
            for (int64_t k = 0; k < m->cols; k++)
                sum += (int64_t)in->q8[row * in->q8_stride + k] * vsq4z_level(m, output, k);
            if (args->sums) args->sums[row * args->out_stride + output] = (int32_t)sum;
            if (!args->out) continue;
            const struct cuda_outliers *outliers = &in->outliers[row];
            float value = (float)(int32_t)sum * in->scale[row];
            for (int o = 0; o < CUDA_OUTLIERS; o++)
                value = fmaf(outliers->value[o], (float)vsq4z_level(m, output, outliers->column[o]),
                             value);
            args->out[row * args->out_stride + output] = value * m->row_scale[output];
        }
    return ST_OK;
}
