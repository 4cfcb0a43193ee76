/* The moved weights solve the normal equations that retarget.h states, and nothing moves when
 * nothing is lost. */
#include "base/base.h"
#include "base/rng.h"
#include "quant/checkpoint/retarget.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 120, COLS = 37, ROWS = 9 };

static struct thread_pool *pool;

static void open_pool(void)
{
    struct error err;
    cr_assert_eq(thread_pool_create(2, &pool, &err), ST_OK);
}

static void close_pool(void)
{
    thread_pool_free(pool);
}

TestSuite(retarget, .init = open_pool, .fini = close_pool);

static void random_values(struct rng *rng, double *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = rng_normal(rng);
}

/* out[n][m] = a^T b */
static void transposed_product(const double *a, const double *b, int64_t n, int64_t m, double *out)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) {
            out[i * m + j] = 0;
            for (int64_t t = 0; t < TOKENS; t++)
                out[i * m + j] += a[t * n + i] * b[t * m + j];
        }
}

static struct float_matrix random_matrix(struct rng *rng, float *values)
{
    for (int i = 0; i < ROWS * COLS; i++)
        values[i] = (float)rng_normal(rng);
    return (struct float_matrix){ROWS, COLS, values};
}

/* (W' - W) (X^T X + a tenth of its mean diagonal) must be `right`[ROWS][COLS]. */
static void check_normal(const float *before, const float *after, const double *gram,
                         const double *right)
{
    double damping = 0;
    for (int k = 0; k < COLS; k++)
        damping += 0.1 * gram[k * COLS + k] / COLS;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++) {
            double left = 0, size = 1;
            for (int k = 0; k < COLS; k++) {
                double moved = (double)after[i * COLS + k] - (double)before[i * COLS + k];
                double term = moved * (gram[k * COLS + j] + (j == k ? damping : 0));
                left += term;
                size += fabs(term);
            }
            cr_assert(fabs(left - right[i * COLS + j]) < 1e-4 * size, "[%d][%d] %g, not %g", i, j,
                      left, right[i * COLS + j]);
        }
}

Test(retarget, by_inputs)
{
    struct rng rng = {1};
    static double x[TOKENS * COLS], e[TOKENS * COLS], gram[COLS * COLS], cross[COLS * COLS];
    static double right[ROWS * COLS];
    static float values[2][ROWS * COLS], before[2][ROWS * COLS];
    random_values(&rng, x, TOKENS * COLS);
    random_values(&rng, e, TOKENS * COLS); /* what X lacks of E */
    transposed_product(x, x, COLS, COLS, gram);
    transposed_product(e, x, COLS, COLS, cross);
    struct float_matrix first = random_matrix(&rng, values[0]);
    struct float_matrix second = random_matrix(&rng, values[1]);
    struct float_matrix *both[] = {&first, &second};
    memcpy(before, values, sizeof before);
    double lost[COLS * COLS];
    memcpy(lost, cross, sizeof lost);
    cr_assert(retarget_by_inputs(both, 2, gram, cross, pool));
    for (int m = 0; m < 2; m++) {
        for (int i = 0; i < ROWS * COLS; i++) {
            right[i] = 0;
            for (int k = 0; k < COLS; k++)
                right[i] += (double)before[m][i / COLS * COLS + k] * lost[k * COLS + i % COLS];
        }
        check_normal(before[m], values[m], gram, right);
    }
}

Test(retarget, by_outputs)
{
    struct rng rng = {2};
    static double x[TOKENS * COLS], gap[TOKENS * ROWS], gram[COLS * COLS], cross[ROWS * COLS];
    static double right[ROWS * COLS];
    static float values[ROWS * COLS], before[ROWS * COLS];
    random_values(&rng, x, TOKENS * COLS);
    random_values(&rng, gap, TOKENS * ROWS);
    transposed_product(x, x, COLS, COLS, gram);
    transposed_product(gap, x, ROWS, COLS, cross);
    struct float_matrix matrix = random_matrix(&rng, values);
    memcpy(before, values, sizeof before);
    memcpy(right, cross, sizeof right);
    cr_assert(retarget_by_outputs(&matrix, gram, cross, pool));
    check_normal(before, values, gram, right);
}

Test(retarget, nothing_lost)
{
    struct rng rng = {3};
    static double x[TOKENS * COLS], gram[COLS * COLS], cross[COLS * COLS];
    static float values[ROWS * COLS], before[ROWS * COLS];
    random_values(&rng, x, TOKENS * COLS);
    transposed_product(x, x, COLS, COLS, gram);
    struct float_matrix matrix = random_matrix(&rng, values), *list[] = {&matrix};
    memcpy(before, values, sizeof before);
    cr_assert(retarget_by_inputs(list, 1, gram, cross, pool));
    cr_assert(retarget_by_outputs(&matrix, gram, cross, pool));
    cr_assert_arr_eq(before, values, sizeof before);
}
