/* GPTQ against what it stands for: before each column is rounded, the weights that are still free
 * are those that make up best for the columns that are rounded already. Here they are solved for
 * from the start, in double, at every step; no factor is involved. */
#include "base/base.h"
#include "base/thread_pool.h"
#include "quant/gptq.h"
#include "quant/search.h"
#include "tests/quant/support_gram.h"
#include "tests/quant/support_rows.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DAMPING 0.01

static struct thread_pool *pool_open(int threads)
{
    struct thread_pool *pool;
    struct error err;
    cr_assert_eq(thread_pool_create(threads, &pool, &err), ST_OK);
    return pool;
}

static struct gptq_factor factor_of(const double *gram, int64_t cols, int threads)
{
    struct thread_pool *pool = pool_open(threads);
    struct gptq_factor factor = {0};
    cr_assert(gptq_factor_make(gram, cols, DAMPING, pool, &factor));
    thread_pool_free(pool);
    return factor;
}

static void damp(double *gram, int64_t cols)
{
    double mean = 0;
    for (int64_t k = 0; k < cols; k++)
        mean += gram[k * cols + k] / (double)cols;
    for (int64_t k = 0; k < cols; k++)
        gram[k * cols + k] += DAMPING * mean;
}

/* a x = b by elimination; a is symmetric positive definite. Both are overwritten, b by x. */
static void solve(double *a, double *b, int64_t n)
{
    for (int64_t p = 0; p < n; p++)
        for (int64_t i = p + 1; i < n; i++) {
            double f = a[i * n + p] / a[p * n + p];
            for (int64_t j = p; j < n; j++)
                a[i * n + j] -= f * a[p * n + j];
            b[i] -= f * b[p];
        }
    for (int64_t p = n - 1; p >= 0; p--) {
        for (int64_t j = p + 1; j < n; j++)
            b[p] -= a[p * n + j] * b[j];
        b[p] /= a[p * n + p];
    }
}

/* What column k should be now: columns before it have the errors e = w - quantized w; the free ones
 * move by d with H_ff d = H_fe e. */
static double best_weight(const double *h, const float *weights, const double *errors, int64_t k,
                          int64_t n)
{
    int64_t left = n - k;
    double *a = must_alloc((size_t)(left * left) * sizeof *a);
    double *b = must_alloc((size_t)left * sizeof *b);
    for (int64_t i = 0; i < left; i++) {
        b[i] = 0;
        for (int64_t j = 0; j < k; j++)
            b[i] += h[(k + i) * n + j] * errors[j];
        for (int64_t j = 0; j < left; j++)
            a[i * left + j] = h[(k + i) * n + k + j];
    }
    solve(a, b, left);
    double best = (double)weights[k] + b[0];
    free(a);
    free(b);
    return best;
}

/* The code must be the nearest level to `best`, or one of two that are nearly as near. */
static void check_code(const struct vsq4z_row *row, int64_t k, double best)
{
    int64_t v = k / VSQ4Z_VECTOR;
    double step = (double)row->row_scale * row->scales[v];
    if (!(step > 0)) return;
    double level = best / step, low = -row->zeros[v], high = VSQ4Z_MAX_CODE - row->zeros[v];
    level = level < low ? low : level > high ? high : level;
    double found = (double)row->codes[k] - row->zeros[v];
    cr_assert(fabs(found - level) < 0.5 + 1e-3, "column %lld of %lld: level %g for %g",
              (long long)k, (long long)row->cols, found, level);
}

static void check_row(struct rng *rng, const struct gptq_factor *factor, const double *h,
                      int64_t cols)
{
    struct vsq4z_row row = row_open(cols);
    float weights[128], work[128];
    double errors[128];
    fill_row(rng, GAUSS, weights, cols);
    row.row_scale = 0.06f / 120;
    vsq4z_gptq_row(factor, weights, work, &row);
    for (int64_t k = 0; k < cols; k++) {
        check_code(&row, k, best_weight(h, weights, errors, k, cols));
        int64_t v = k / VSQ4Z_VECTOR;
        int32_t level = row.scales[v] * (row.codes[k] - row.zeros[v]);
        errors[k] = (double)weights[k] - (double)((float)level * row.row_scale);
    }
    for (int64_t k = cols; k < vsq4z_vectors(cols) * VSQ4Z_VECTOR; k++)
        cr_assert_eq(row.codes[k], row.zeros[k / VSQ4Z_VECTOR], "behind the last column");
    row_close(&row);
}

Test(gptq, solves_for_the_columns_that_are_free)
{
    static const int64_t sizes[] = {1, 5, 16, 17, 40, 64, 75};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        int64_t cols = sizes[i];
        struct rng rng = {(uint64_t)cols};
        double *gram = correlated_gram(&rng, 4 * cols, cols);
        struct gptq_factor factor = factor_of(gram, cols, 1);
        damp(gram, cols);
        for (int r = 0; r < 10; r++)
            check_row(&rng, &factor, gram, cols);
        gptq_factor_free(&factor);
        free(gram);
    }
}

static double error_under(const double *gram, const float *weights, const struct vsq4z_row *row)
{
    double d[128];
    float values[128];
    vsq4z_row_values(row, values);
    for (int64_t k = 0; k < row->cols; k++)
        d[k] = (double)weights[k] - (double)values[k];
    return quadratic(gram, d, row->cols);
}

/* That is what it is for: a third less error of the product, at least, on correlated inputs. */
Test(gptq, beats_the_search_on_correlated_inputs)
{
    enum { COLS = 128 };
    struct rng rng = {3};
    double *gram = correlated_gram(&rng, 6 * COLS, COLS), searched = 0, compensated = 0;
    struct gptq_factor factor = factor_of(gram, COLS, 1);
    float importance[COLS], weights[COLS], work[COLS];
    float *scratch = must_alloc((size_t)search_scratch(COLS) * sizeof *scratch);
    for (int k = 0; k < COLS; k++)
        importance[k] = (float)gram[k * COLS + k];
    struct vsq4z_row row = row_open(COLS);
    for (int r = 0; r < 40; r++) {
        fill_row(&rng, STUDENT_T5, weights, COLS);
        vsq4z_quantize_row(weights, importance, CLIP_SEARCH, scratch, &row);
        searched += error_under(gram, weights, &row);
        vsq4z_gptq_row(&factor, weights, work, &row);
        compensated += error_under(gram, weights, &row);
    }
    cr_assert(compensated < searched / 1.5, "%g of %g", compensated, searched);
    row_close(&row);
    free(scratch);
    gptq_factor_free(&factor);
    free(gram);
}

/* Inputs that are always 0 neither help nor are they moved: their weights are rounded to nearest.
 */
Test(gptq, inputs_that_are_never_used)
{
    enum { COLS = 32 };
    struct rng rng = {4};
    double *gram = correlated_gram(&rng, 6 * COLS, COLS);
    for (int k = 0; k < COLS; k++)
        gram[20 * COLS + k] = gram[k * COLS + 20] = 0;
    struct gptq_factor factor = factor_of(gram, COLS, 1);
    float weights[COLS], work[COLS];
    struct vsq4z_row row = row_open(COLS);
    row.row_scale = 0.06f / 120;
    for (int r = 0; r < 20; r++) {
        fill_row(&rng, GAUSS, weights, COLS);
        vsq4z_gptq_row(&factor, weights, work, &row);
        cr_assert_eq(work[20], weights[20]);
        check_code(&row, 20, (double)weights[20]);
    }
    row_close(&row);
    gptq_factor_free(&factor);
    free(gram);
}

Test(gptq, the_same_bits_on_any_number_of_threads)
{
    enum { COLS = 100 };
    struct rng rng = {6};
    double *gram = correlated_gram(&rng, 300, COLS);
    struct gptq_factor one = factor_of(gram, COLS, 1), three = factor_of(gram, COLS, 3);
    cr_assert(memcmp(one.u, three.u, COLS * COLS * sizeof(float)) == 0);
    cr_assert(memcmp(one.importance, three.importance, COLS * sizeof(float)) == 0);
    gptq_factor_free(&one);
    gptq_factor_free(&three);
    free(gram);
}

/* Rows times the damped inverse, times what was inverted, are the rows again. */
Test(gptq, solves_rows)
{
    static const int64_t sizes[] = {1, 7, 8, 9, 40, 67};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        enum { ROWS = 3 };
        int64_t n = sizes[i];
        struct rng rng = {(uint64_t)n};
        double *gram = correlated_gram(&rng, 4 * n, n);
        struct gptq_factor factor = factor_of(gram, n, 1);
        struct thread_pool *pool = pool_open(2);
        double e[ROWS * 67], solved[ROWS * 67];
        for (int64_t k = 0; k < ROWS * n; k++)
            solved[k] = e[k] = rng_normal(&rng);
        gptq_solve_rows(&factor, solved, ROWS, pool);
        damp(gram, n);
        for (int64_t k = 0; k < ROWS * n; k++) {
            double back = 0, size = 0;
            for (int64_t j = 0; j < n; j++) {
                back += solved[k / n * n + j] * gram[j * n + k % n];
                size += fabs(solved[k / n * n + j] * gram[j * n + k % n]);
            }
            cr_assert(fabs(back - e[k]) < 1e-5 * size, "n %lld: %g, not %g", (long long)n, back,
                      e[k]);
        }
        thread_pool_free(pool);
        gptq_factor_free(&factor);
        free(gram);
    }
}
