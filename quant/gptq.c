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

/* --- e H^-1 = (e U^T) U */

struct solve_job {
    const struct gptq_factor *factor;
    double *e;
};

/* Eight sums, element i to sum i mod 8. */
EVERY_ISA static double dot(const double *a, const float *b, int64_t count)
{
    lanes_d sums = {};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        sums += lanes_load_d(a + i) * lanes_widen(b + i);
    double total = 0;
    for (int lane = 0; lane < 8; lane++)
        total += sums[lane];
    for (; i < count; i++)
        total += a[i] * (double)b[i];
    return total;
}

/* y += factor x */
EVERY_ISA static void add_scaled(double *y, double factor, const float *x, int64_t count)
{
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        lanes_store_d(y + i, lanes_load_d(y + i) + lanes_widen(x + i) * factor);
    for (; i < count; i++)
        y[i] += (double)x[i] * factor;
}

/* Both products in place: element k of the first needs those from k on, of the second those up to
 * k. */
static void solve_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct solve_job *job = argument;
    int64_t n = job->factor->cols;
    for (int64_t row = begin; row < end; row++) {
        double *e = job->e + row * n;
        const float *u = job->factor->u;
        for (int64_t k = 0; k < n; k++)
            e[k] = dot(e + k, u + k * n + k, n - k);
        for (int64_t k = n - 1; k >= 0; k--) {
            double value = e[k];
            e[k] = 0;
            add_scaled(e + k, value, u + k * n + k, n - k);
        }
    }
}

void gptq_solve_rows(const struct gptq_factor *factor, double *e, int64_t rows,
                     struct thread_pool *pool)
{
    struct solve_job job = {factor, e};
    thread_pool_for(pool, rows, 8, solve_rows, &job);
}
