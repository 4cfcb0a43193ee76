/* AWQ: scaled columns and divided rows are the same function in f32, and the scales are those that
 * leave the least weighted error. */
#include "base/base.h"
#include "base/rng.h"
#include "quant/checkpoint/awq.h"
#include "quant/checkpoint/code_matrix.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static void random_scales(struct rng *rng, const int32_t *owners, int64_t inputs, float *scales)
{
    float of_owner[64];
    for (int i = 0; i < 64; i++)
        of_owner[i] = (float)exp(rng_normal(rng));
    for (int64_t k = 0; k < inputs; k++)
        scales[k] = of_owner[owners[k]];
}

static void check_same(const double *a, const double *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        cr_assert(fabs(a[i] - b[i]) <= 1e-5 * (fabs(a[i]) + 0.1), "%g, before %g", b[i], a[i]);
}

/* --- up and down: down(silu(gate) * up) */

enum { HIDDEN = 24, INNER = 40 };

static void ffn(const struct float_matrix *up, const struct float_matrix *down, const double *x,
                double *out)
{
    double inner[INNER];
    for (int k = 0; k < INNER; k++)
        inner[k] = (1 + 0.1 * k) * row_times(up, k, x);
    for (int i = 0; i < HIDDEN; i++)
        out[i] = row_times(down, i, inner);
}

Test(awq, down_into_up)
{
    struct rng rng = {1};
    struct float_matrix up = matrix_of(&rng, INNER, HIDDEN), down = matrix_of(&rng, HIDDEN, INNER);
    struct float_matrix no_bias = {0};
    double x[HIDDEN], before[HIDDEN], after[HIDDEN];
    float scales[INNER];
    int32_t owners[INNER];
    for (int k = 0; k < HIDDEN; k++)
        x[k] = rng_normal(&rng);
    ffn(&up, &down, x, before);
    awq_owners_of_down(INNER, owners);
    random_scales(&rng, owners, INNER, scales);
    awq_scale_columns(&down, scales);
    awq_divide_rows(&up, NULL, &no_bias, owners, INNER, scales);
    ffn(&up, &down, x, after);
    check_same(before, after, HIDDEN);
    free(up.values);
    free(down.values);
}

/* --- v and o: 6 query heads of 4 values read 2 heads of v, each its own mix of 3 tokens */

enum { HEADS = 6, KV_HEADS = 2, DIM = 4, TOKENS = 3 };

static void attend(const struct float_matrix *v, const struct float_matrix *bias,
                   const struct float_matrix *o, const double x[TOKENS][HIDDEN], double *out)
{
    double mixed[HEADS * DIM] = {0};
    for (int head = 0; head < HEADS; head++)
        for (int i = 0; i < DIM; i++)
            for (int t = 0; t < TOKENS; t++) {
                int row = head / (HEADS / KV_HEADS) * DIM + i;
                double share = (1.0 + head + t) / (3.0 * head + 6); /* they sum to 1 */
                mixed[head * DIM + i] += share * (row_times(v, row, x[t]) + bias->values[row]);
            }
    for (int i = 0; i < HIDDEN; i++)
        out[i] = row_times(o, i, mixed);
}

Test(awq, o_into_v_and_its_bias)
{
    struct rng rng = {2};
    struct float_matrix v = matrix_of(&rng, KV_HEADS * DIM, HIDDEN);
    struct float_matrix bias = matrix_of(&rng, 1, KV_HEADS * DIM);
    struct float_matrix o = matrix_of(&rng, HIDDEN, HEADS * DIM);
    double x[TOKENS][HIDDEN], before[HIDDEN], after[HIDDEN];
    float scales[HEADS * DIM];
    int32_t owners[HEADS * DIM];
    for (int t = 0; t < TOKENS; t++)
        for (int k = 0; k < HIDDEN; k++)
            x[t][k] = rng_normal(&rng);
    attend(&v, &bias, &o, x, before);
    awq_owners_of_o(HEADS, KV_HEADS, DIM, owners);
    random_scales(&rng, owners, HEADS * DIM, scales);
    awq_scale_columns(&o, scales);
    awq_divide_rows(&v, NULL, &bias, owners, HEADS * DIM, scales);
    attend(&v, &bias, &o, x, after);
    check_same(before, after, HIDDEN);
    free(v.values);
    free(bias.values);
    free(o.values);
}

/* Dividing rows in codes is dividing what they stand for. */
Test(awq, rows_that_are_coded)
{
    struct rng rng = {3};
    struct float_matrix up = matrix_of(&rng, INNER, HIDDEN), no_bias = {0};
    struct thread_pool *pool;
    struct error err;
    struct coded_matrix coded;
    struct coding coding = {.type = FILE_VSQ4Z, .clip = CLIP_SEARCH};
    int32_t owners[INNER];
    float scales[INNER];
    cr_assert_eq(thread_pool_create(1, &pool, &err), ST_OK);
    cr_assert_eq(code_matrix(&up, &coding, pool, &coded, &err), ST_OK);
    awq_owners_of_down(INNER, owners);
    random_scales(&rng, owners, INNER, scales);
    awq_divide_rows(&up, &coded, &no_bias, owners, INNER, scales);
    struct vsq4z_matrix view = coded_vsq4z(&coded);
    for (int64_t i = 0; i < INNER; i++)
        for (int64_t k = 0; k < HIDDEN; k++) {
            float coded_value = (float)vsq4z_level(&view, i, k) * view.row_scale[i];
            float value = up.values[i * HIDDEN + k];
            cr_assert(fabsf(coded_value - value) <= 1e-6f * fabsf(value), "%g, not %g",
                      (double)coded_value, (double)value);
        }
    coded_matrix_release(&coded);
    free(up.values);
    thread_pool_free(pool);
}

/* --- which scales */

static bool choose(float outlier, const int32_t *owners, float *scales)
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
    bool chosen = awq_choose(list, 1, energies, owners, pool, scales);
    thread_pool_free(pool);
    free(m.values);
    return chosen;
}

Test(awq, columns_of_large_inputs_grow)
{
    float scales[48];
    double logs = 0;
    cr_assert(choose(400, NULL, scales));
    for (int k = 0; k < 48; k++)
        logs += log((double)scales[k]);
    cr_assert(fabs(logs) < 1e-3, "the geometric mean is 1");
    cr_assert_gt(scales[5], 1.2f * scales[4]);
    cr_assert_gt(scales[13], scales[5]);
}

Test(awq, equal_inputs_need_none)
{
    float scales[48];
    cr_assert_not(choose(0, NULL, scales));
    for (int k = 0; k < 48; k++)
        cr_assert_eq(scales[k], 1);
}

Test(awq, inputs_of_one_row_get_one_scale)
{
    float scales[48];
    int32_t owners[48];
    awq_owners_of_o(6, 2, 8, owners);
    cr_assert(choose(400, owners, scales));
    cr_assert_neq(scales[5], scales[29]);
    for (int k = 0; k < 48; k++)
        cr_assert_eq(scales[k], scales[k % 8 + k / 24 * 24]);
}
