#include "quant/gptq.h"
#include "base/alloc.h"
#include "quant/cholesky.h"
#include "quant/lanes.h"
#include "quant/search.h"

#include <stdlib.h>

bool gptq_factor_make(const double *gram, int64_t cols, double damping, struct thread_pool *pool,
                      struct gptq_factor *out)
{
    size_t count = (size_t)(cols * cols);
    double *h = must_alloc(count * sizeof *h), mean = 0;
    memcpy(h, gram, count * sizeof *h);
    for (int64_t k = 0; k < cols; k++)
        mean += gram[k * cols + k] / (double)cols;
    for (int64_t k = 0; k < cols; k++)
        h[k * cols + k] =
            gram[k * cols + k] > 0 ? gram[k * cols + k] + damping * mean : (mean > 0 ? mean : 1);
    bool made = inverse_factor(h, cols, pool);
    if (made) {
        *out = (struct gptq_factor){.cols = cols};
        out->u = must_alloc(count * sizeof *out->u);
        out->importance = must_alloc((size_t)cols * sizeof *out->importance);
        for (size_t i = 0; i < count; i++)
            out->u[i] = (float)h[i];
        for (int64_t k = 0; k < cols; k++)
            out->importance[k] = (float)(1 / (h[k * cols + k] * h[k * cols + k]));
    }
    free(h);
    return made;
}

void gptq_factor_free(struct gptq_factor *factor)
{
    free(factor->u);
    free(factor->importance);
    *factor = (struct gptq_factor){0};
}

/* y -= e x */
EVERY_ISA static void subtract_scaled(float *y, float e, const float *x, int64_t count)
{
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
        lanes_store(y + i, lanes_load(y + i) - lanes_load(x + i) * e);
    for (; i < count; i++)
        y[i] -= x[i] * e;
}

static void choose(const struct gptq_factor *factor, const float *work, int64_t first,
                   struct vsq4z_row *row)
{
    float weights[VSQ4Z_VECTOR] = {0}, importance[VSQ4Z_VECTOR] = {0};
    int64_t left = row->cols - first, v = first / VSQ4Z_VECTOR;
    size_t count = (size_t)(left < VSQ4Z_VECTOR ? left : VSQ4Z_VECTOR);
    memcpy(weights, work + first, count * sizeof *weights);
    memcpy(importance, factor->importance + first, count * sizeof *importance);
    vsq4z_choose_vector(weights, importance, row->row_scale, &row->scales[v], &row->zeros[v]);
    memset(row->codes + first, row->zeros[v], VSQ4Z_VECTOR);
}

void vsq4z_gptq_row(const struct gptq_factor *factor, const float *weights, float *work,
                    struct vsq4z_row *row)
{
    int64_t cols = row->cols;
    memcpy(work, weights, (size_t)cols * sizeof *work);
    for (int64_t k = 0; k < cols; k++) {
        int64_t v = k / VSQ4Z_VECTOR;
        if (k % VSQ4Z_VECTOR == 0) choose(factor, work, k, row);
        int32_t scale = row->scales[v], zero = row->zeros[v];
        row->codes[k] = vsq4z_nearest(work[k], row->row_scale, scale, zero);
        float value = (float)(scale * (row->codes[k] - zero)) * row->row_scale;
        const float *u = factor->u + k * cols;
        subtract_scaled(work + k + 1, (work[k] - value) / u[k], u + k + 1, cols - k - 1);
    }
}

EVERY_ISA static double dot(const double *a, const float *b, int64_t count)
{
    double total = 0;
    for (int64_t i = 0; i < count; i++)
        total += a[i] * (double)b[i];
    return total;
}

float vsq4z_refit_scale(const double *gram, const float *weights, float *work,
                        const struct vsq4z_row *row)
{
    int64_t cols = row->cols;
    double along = 0, squares = 0;
    for (int64_t k = 0; k < cols; k++) {
        int64_t v = k / VSQ4Z_VECTOR;
        work[k] = (float)(row->scales[v] * (row->codes[k] - row->zeros[v]));
    }
    for (int64_t k = 0; k < cols; k++) {
        if (work[k] == 0 && weights[k] == 0) continue;
        double hl = dot(gram + k * cols, work, cols);
        along += (double)weights[k] * hl;
        squares += (double)work[k] * hl;
    }
    return along > 0 && squares > 0 ? (float)(along / squares) : row->row_scale;
}
