/* AWQ: scaled columns and a divided norm are the same function in f32, and the scales are those
 * that leave the least weighted error. */
#include "base/base.h"
#include "base/rng.h"
#include "quant/checkpoint/awq.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static struct float_matrix matrix_of(struct rng *rng, int64_t rows, int64_t cols)
{
    struct float_matrix m = {rows, cols, must_alloc((size_t)(rows * cols) * sizeof(float))};
    for (int64_t i = 0; i < rows * cols; i++)
        m.values[i] = (float)(0.1 * rng_normal(rng));
    return m;
}

static double row_times(const struct float_matrix *m, int64_t row, const double *x)
{
    double sum = 0;
    for (int64_t k = 0; k < m->cols; k++)
        sum += (double)m->values[row * m->cols + k] * x[k];
    return sum;
}

/* --- W (norm * x), before and after */

enum { OUTPUTS = 40, INPUTS = 24 };

static void product(const struct float_matrix *w, const struct float_matrix *norm, const double *x,
                    double *out)
{
    double scaled[INPUTS];
    for (int k = 0; k < INPUTS; k++)
        scaled[k] = (double)norm->values[k] * x[k];
    for (int i = 0; i < OUTPUTS; i++)
        out[i] = row_times(w, i, scaled);
}

Test(awq, folding_leaves_the_function)
{
    struct rng rng = {1};
    struct float_matrix w = matrix_of(&rng, OUTPUTS, INPUTS), v = matrix_of(&rng, OUTPUTS, INPUTS);
    struct float_matrix norm = matrix_of(&rng, 1, INPUTS), *both[] = {&w, &v};
    double x[INPUTS], before[2][OUTPUTS], after[2][OUTPUTS];
    float scales[INPUTS];
    for (int k = 0; k < INPUTS; k++) {
        x[k] = rng_normal(&rng);
        scales[k] = (float)exp(rng_normal(&rng));
    }
    for (int m = 0; m < 2; m++)
        product(both[m], &norm, x, before[m]);
    awq_fold(&norm, both, 2, scales);
    for (int m = 0; m < 2; m++) {
        product(both[m], &norm, x, after[m]);
        for (int i = 0; i < OUTPUTS; i++)
            cr_assert(fabs(before[m][i] - after[m][i]) <= 1e-5 * (fabs(before[m][i]) + 0.1),
                      "%g, before %g", after[m][i], before[m][i]);
    }
    free(w.values);
    free(v.values);
    free(norm.values);
}

/* --- which scales */

static bool choose(float outlier, float *scales)
{
    struct rng rng = {4};
    struct float_matrix m = matrix_of(&rng, 64, 48);
    const struct float_matrix *list[] = {&m};
    struct thread_pool *pool;
    struct error err;
    float energies[48];
    cr_assert_eq(thread_pool_create(2, &pool, &err), ST_OK);
    for (int k = 0; k < 48; k++)
        energies[k] = k % 8 == 5 && outlier > 0 ? outlier * (float)(1 + k / 8) : 1;
    bool chosen = awq_choose(list, 1, energies, pool, scales);
    thread_pool_free(pool);
    free(m.values);
    return chosen;
}

Test(awq, columns_of_large_inputs_grow)
{
    float scales[48];
    double logs = 0;
    cr_assert(choose(400, scales));
    for (int k = 0; k < 48; k++)
        logs += log((double)scales[k]);
    cr_assert(fabs(logs) < 1e-3, "the geometric mean is 1");
    cr_assert_gt(scales[5], 1.2f * scales[4]);
    cr_assert_gt(scales[13], scales[5]);
}

Test(awq, equal_inputs_need_none)
{
    float scales[48];
    cr_assert_not(choose(0, scales));
    for (int k = 0; k < 48; k++)
        cr_assert_eq(scales[k], 1);
}
