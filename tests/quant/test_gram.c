/* X^T X against sums in double, for every tail, and its bits on any number of threads. */
#include "base/base.h"
#include "base/thread_pool.h"
#include "quant/gram.h"
#include "tests/quant/support_gram.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double *gram_of(const float *x, int64_t rows, int64_t cols, int64_t stride, int threads)
{
    struct thread_pool *pool;
    struct error err;
    cr_assert_eq(thread_pool_create(threads, &pool, &err), ST_OK);
    double *gram = must_alloc((size_t)(cols * cols) * sizeof *gram);
    memset(gram, 0, (size_t)(cols * cols) * sizeof *gram);
    gram_add(gram, cols, x, rows, stride, pool);
    gram_mirror(gram, cols);
    thread_pool_free(pool);
    return gram;
}

/* f32 sums over at most 512 rows: an error of 512 * 2^-24 of the magnitudes at the very worst. */
static void check_close(const double *gram, const double *exact, int64_t cols)
{
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j < cols; j++) {
            double size = sqrt(exact[i * cols + i] * exact[j * cols + j]);
            double off = fabs(gram[i * cols + j] - exact[i * cols + j]);
            cr_assert(off <= 3e-5 * size, "%lld cols, [%lld][%lld] is %g, not %g", (long long)cols,
                      (long long)i, (long long)j, gram[i * cols + j], exact[i * cols + j]);
        }
}

static void check_size(int64_t rows, int64_t cols, int64_t stride)
{
    struct rng rng = {(uint64_t)(rows * 1000 + cols)};
    float *x = must_alloc((size_t)(rows * stride) * sizeof *x);
    fill_inputs(&rng, x, rows, stride);
    double *exact = exact_gram(x, rows, cols, stride);
    double *one = gram_of(x, rows, cols, stride, 1), *three = gram_of(x, rows, cols, stride, 3);
    check_close(one, exact, cols);
    cr_assert(memcmp(one, three, (size_t)(cols * cols) * sizeof *one) == 0,
              "%lld cols: other bits on three threads", (long long)cols);
    double *diagonal = must_alloc((size_t)(cols * cols) * sizeof *diagonal);
    memset(diagonal, 0, (size_t)(cols * cols) * sizeof *diagonal);
    gram_add_diagonal(diagonal, cols, x, rows, stride);
    for (int64_t k = 0; k < cols * cols; k++)
        cr_assert_eq(diagonal[k], k % (cols + 1) ? 0 : one[k], "diagonal of %lld cols",
                     (long long)cols);
    free(diagonal);
    free(x);
    free(exact);
    free(one);
    free(three);
}

Test(gram, every_tail)
{
    static const int64_t sizes[] = {1, 2, 7, 8, 9, 15, 16, 31, 32, 33, 40, 63, 64, 65, 100};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        check_size(3, sizes[i], sizes[i]);
        check_size(513, sizes[i], sizes[i] + 5);
    }
}

/* Two calls add up. */
Test(gram, adds)
{
    enum { ROWS = 20, COLS = 40 };
    struct rng rng = {5};
    float x[2 * ROWS * COLS];
    fill_inputs(&rng, x, 2 * ROWS, COLS);
    double *exact = exact_gram(x, 2 * ROWS, COLS, COLS);
    struct thread_pool *pool;
    struct error err;
    cr_assert_eq(thread_pool_create(1, &pool, &err), ST_OK);
    double gram[COLS * COLS] = {0};
    gram_add(gram, COLS, x, ROWS, COLS, pool);
    gram_add(gram, COLS, x + ROWS * COLS, ROWS, COLS, pool);
    gram_mirror(gram, COLS);
    check_close(gram, exact, COLS);
    thread_pool_free(pool);
    free(exact);
}

static void check_cross(int64_t rows, int64_t left_cols, int64_t right_cols)
{
    struct rng rng = {(uint64_t)(left_cols * 100 + right_cols)};
    float *left = must_alloc((size_t)(rows * left_cols) * sizeof *left);
    float *right = must_alloc((size_t)(rows * right_cols) * sizeof *right);
    double *gram = must_alloc((size_t)(left_cols * right_cols) * sizeof *gram);
    fill_inputs(&rng, left, rows, left_cols);
    fill_inputs(&rng, right, rows, right_cols);
    memset(gram, 0, (size_t)(left_cols * right_cols) * sizeof *gram);
    struct thread_pool *pool;
    struct error err;
    cr_assert_eq(thread_pool_create(2, &pool, &err), ST_OK);
    cross_gram_add(gram, left, left_cols, right, right_cols, rows, pool);
    for (int64_t i = 0; i < left_cols; i++)
        for (int64_t j = 0; j < right_cols; j++) {
            double exact = 0, size = 0;
            for (int64_t r = 0; r < rows; r++) {
                double term = (double)left[r * left_cols + i] * (double)right[r * right_cols + j];
                exact += term;
                size += fabs(term);
            }
            cr_assert(fabs(gram[i * right_cols + j] - exact) <= 3e-5 * size, "%lld x %lld",
                      (long long)left_cols, (long long)right_cols);
        }
    thread_pool_free(pool);
    free(left);
    free(right);
    free(gram);
}

Test(gram, of_two)
{
    static const int64_t sizes[] = {1, 7, 8, 31, 32, 41, 64};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (size_t j = 0; j < COUNT_OF(sizes); j++)
            check_cross(i % 2 ? 520 : 11, sizes[i], sizes[j]);
}
