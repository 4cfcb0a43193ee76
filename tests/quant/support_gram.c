#include "tests/quant/support_gram.h"
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

void fill_inputs(struct rng *rng, float *x, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++) {
        double shared = rng_normal(rng), left = 0;
        for (int64_t k = 0; k < cols; k++) {
            left = 0.6 * left + 0.8 * rng_normal(rng);
            x[r * cols + k] = (float)((left + 0.7 * shared) * (k % 7 == 3 ? 10 : 1));
        }
    }
}

double *exact_gram(const float *x, int64_t rows, int64_t cols, int64_t stride)
{
    double *gram = must_alloc((size_t)(cols * cols) * sizeof *gram);
    memset(gram, 0, (size_t)(cols * cols) * sizeof *gram);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cols; i++)
            for (int64_t j = 0; j < cols; j++)
                gram[i * cols + j] += (double)x[r * stride + i] * (double)x[r * stride + j];
    return gram;
}

double *correlated_gram(struct rng *rng, int64_t rows, int64_t cols)
{
    float *x = must_alloc((size_t)(rows * cols) * sizeof *x);
    fill_inputs(rng, x, rows, cols);
    double *gram = exact_gram(x, rows, cols, cols);
    free(x);
    return gram;
}

double quadratic(const double *h, const double *d, int64_t n)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            total += d[i] * h[i * n + j] * d[j];
    return total;
}
