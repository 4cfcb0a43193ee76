/* Operators that multiply, against double-precision references: every instruction set of this
 * machine, every weight format, shapes with tails in both directions, rows from 1 to more than any
 * tile. */
#include "tests/kernels/support_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const enum cpu_isa isas[] = {CPU_PORTABLE, CPU_AVX2, CPU_AVX512};
static const struct {
    enum weight_format format;
    enum dtype native;
    const char *name;
} formats[] = {{WEIGHT_NATIVE, DT_F32, "f32"},
               {WEIGHT_NATIVE, DT_F16, "f16"},
               {WEIGHT_NATIVE, DT_BF16, "bf16"},
               {WEIGHT_W8, DT_F32, "w8"}};
static const struct {
    int64_t outputs, inputs;
} shapes[] = {{16, 16}, {1, 1},    {17, 5},   {33, 63},  {48, 64},
              {31, 65}, {50, 130}, {96, 576}, {20, 1537}};
static const int32_t row_counts[] = {1, 2, 3, 5, 12, 13, 40};

#define EPS 1e-5f

typedef void case_fn(struct rig *rig, struct rng *rng, int64_t outputs, int64_t inputs,
                     int32_t rows, size_t format);

static void for_each_case(case_fn *check)
{
    for (size_t i = 0; i < COUNT_OF(isas); i++) {
        if (!cpu_isa_supported(isas[i])) continue;
        struct rig rig = rig_open(isas[i], 2);
        struct rng rng = {i + 1};
        for (size_t f = 0; f < COUNT_OF(formats); f++)
            for (size_t s = 0; s < COUNT_OF(shapes); s++)
                for (size_t r = 0; r < COUNT_OF(row_counts); r++)
                    check(&rig, &rng, shapes[s].outputs, shapes[s].inputs, row_counts[r], f);
        rig_close(&rig);
    }
}

static void expect_near(double found, double expected, double bound, const char *what,
                        size_t format, int64_t outputs, int64_t inputs, int64_t row, int64_t output)
{
    cr_assert(fabs(found - expected) <= bound,
              "%s %s [%lld, %lld] row %lld output %lld: %.9g, expected %.9g within %.3g", what,
              formats[format].name, (long long)outputs, (long long)inputs, (long long)row,
              (long long)output, found, expected, bound);
}

static void check_linear_add(struct rig *rig, struct rng *rng, int64_t outputs, int64_t inputs,
                             int32_t rows, size_t f)
{
    const struct backend_ops *ops = rig->backend->ops;
    struct matrix w = matrix_random(rng, outputs, inputs, 0.1f, formats[f].native);
    struct matrix in = matrix_random(rng, rows, inputs, 1, DT_F32);
    struct matrix x = matrix_random(rng, rows, outputs, 1, DT_F32);
    struct weight *weight = rig_weight(rig, &w, 1, false, formats[f].format, formats[f].native);
    struct tensor *t_in = rig_tensor(rig, &in), *t_x = rig_tensor(rig, &x);
    float *found = must_alloc((size_t)(rows * outputs) * sizeof *found);
    double *row = must_alloc((size_t)inputs * sizeof *row);
    struct step_input input;
    rig_step(rig, rows, NULL, &input);
    ops->linear_add(rig->backend, weight, t_in, t_x);
    rig_read(rig, t_x, rows, outputs, found);
    for (int32_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < inputs; k++)
            row[k] = (double)in.values[r * inputs + k];
        for (int64_t o = 0; o < outputs; o++) {
            double bound, value = reference_product(&w, o, row, formats[f].format, &bound);
            double before = (double)x.values[r * outputs + o];
            expect_near((double)found[r * outputs + o], before + value,
                        bound + 0x1p-23 * fabs(before + value), "linear_add", f, outputs, inputs, r,
                        o);
        }
    }
    ops->weight_free(rig->backend, weight);
    ops->tensor_free(rig->backend, t_in);
    ops->tensor_free(rig->backend, t_x);
    free(w.values), free(in.values), free(x.values), free(found), free(row);
}

Test(operators, linear_add)
{
    for_each_case(check_linear_add);
}

static void check_norm_head(struct rig *rig, struct rng *rng, int64_t outputs, int64_t inputs,
                            int32_t rows, size_t f)
{
    const struct backend_ops *ops = rig->backend->ops;
    struct matrix w = matrix_random(rng, outputs, inputs, 0.1f, formats[f].native);
    struct matrix x = matrix_random(rng, rows, inputs, 3, DT_F32);
    struct matrix norm = matrix_random(rng, 1, inputs, 1, DT_F32), zero = {rows, outputs, NULL};
    struct weight *weight = rig_weight(rig, &w, 1, false, formats[f].format, formats[f].native);
    struct tensor *t_x = rig_tensor(rig, &x), *t_norm = rig_tensor(rig, &norm);
    struct tensor *logits = ops->tensor_create(rig->backend, zero.rows, zero.cols);
    float *found = must_alloc((size_t)(rows * outputs) * sizeof *found);
    double *row = must_alloc((size_t)inputs * sizeof *row);
    struct step_input input;
    rig_step(rig, rows, NULL, &input);
    ops->norm_head(rig->backend, t_x, t_norm, EPS, weight, logits);
    rig_read(rig, logits, rows, outputs, found);
    for (int32_t r = 0; r < rows; r++) {
        reference_rmsnorm(x.values + r * inputs, norm.values, inputs, (double)EPS, row);
        for (int64_t o = 0; o < outputs; o++) {
            double bound, value = reference_product(&w, o, row, formats[f].format, &bound);
            expect_near((double)found[r * outputs + o], value, bound, "norm_head", f, outputs,
                        inputs, r, o);
        }
    }
    ops->weight_free(rig->backend, weight);
    ops->tensor_free(rig->backend, t_x);
    ops->tensor_free(rig->backend, t_norm);
    ops->tensor_free(rig->backend, logits);
    free(w.values), free(x.values), free(norm.values), free(found), free(row);
}

Test(operators, norm_head)
{
    for_each_case(check_norm_head);
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void check_gate_up(struct rig *rig, struct rng *rng, int64_t outputs, int64_t inputs,
                          int32_t rows, size_t f)
{
    const struct backend_ops *ops = rig->backend->ops;
    struct matrix w[2] = {matrix_random(rng, outputs, inputs, 0.1f, formats[f].native),
                          matrix_random(rng, outputs, inputs, 0.1f, formats[f].native)};
    struct matrix x = matrix_random(rng, rows, inputs, 3, DT_F32);
    struct matrix norm = matrix_random(rng, 1, inputs, 1, DT_F32);
    struct weight *weight = rig_weight(rig, w, 2, true, formats[f].format, formats[f].native);
    struct tensor *t_x = rig_tensor(rig, &x), *t_norm = rig_tensor(rig, &norm);
    struct tensor *out = ops->tensor_create(rig->backend, rows, outputs);
    float *found = must_alloc((size_t)(rows * outputs) * sizeof *found);
    double *row = must_alloc((size_t)inputs * sizeof *row);
    struct step_input input;
    rig_step(rig, rows, NULL, &input);
    ops->norm_gate_up(rig->backend, t_x, t_norm, EPS, weight, out);
    rig_read(rig, out, rows, outputs, found);
    for (int32_t r = 0; r < rows; r++) {
        reference_rmsnorm(x.values + r * inputs, norm.values, inputs, (double)EPS, row);
        for (int64_t o = 0; o < outputs; o++) {
            double gate_bound, up_bound;
            double gate = reference_product(&w[0], o, row, formats[f].format, &gate_bound);
            double up = reference_product(&w[1], o, row, formats[f].format, &up_bound);
            /* |silu'| <= 1.1 */
            double bound = 1.1 * gate_bound * (fabs(up) + up_bound) +
                           (fabs(silu(gate)) + 1.1 * gate_bound) * up_bound +
                           1e-6 * fabs(silu(gate) * up) + 1e-7;
            expect_near((double)found[r * outputs + o], silu(gate) * up, bound, "norm_gate_up", f,
                        outputs, inputs, r, o);
        }
    }
    ops->weight_free(rig->backend, weight);
    ops->tensor_free(rig->backend, t_x);
    ops->tensor_free(rig->backend, t_norm);
    ops->tensor_free(rig->backend, out);
    free(w[0].values), free(w[1].values), free(x.values), free(norm.values), free(found), free(row);
}

Test(operators, norm_gate_up)
{
    for_each_case(check_gate_up);
}

Test(operators, embed_reads_the_rows_that_products_use)
{
    for (size_t i = 0; i < COUNT_OF(isas); i++) {
        if (!cpu_isa_supported(isas[i])) continue;
        struct rig rig = rig_open(isas[i], 2);
        const struct backend_ops *ops = rig.backend->ops;
        struct rng rng = {9};
        for (size_t f = 0; f < COUNT_OF(formats); f++) {
            enum { VOCAB = 37, HIDDEN = 70, ROWS = 9 };
            struct matrix w = matrix_random(&rng, VOCAB, HIDDEN, 1, formats[f].native);
            struct weight *table =
                rig_weight(&rig, &w, 1, false, formats[f].format, formats[f].native);
            struct tensor *x = ops->tensor_create(rig.backend, ROWS, HIDDEN);
            const int32_t tokens[ROWS] = {0, 36, 15, 16, 17, 5, 5, 31, 32};
            float found[ROWS * HIDDEN];
            struct step_input input;
            rig_step(&rig, ROWS, tokens, &input);
            ops->embed(rig.backend, table, x);
            rig_read(&rig, x, ROWS, HIDDEN, found);
            for (int k = 0; k < ROWS * HIDDEN; k++) {
                float expected = w.values[tokens[k / HIDDEN] * HIDDEN + k % HIDDEN];
                float bound = formats[f].format == WEIGHT_W8 ? 0.51f * 40 / 127 : 0;
                cr_assert(fabsf(found[k] - expected) <= bound, "%s token %d column %d: %g not %g",
                          formats[f].name, tokens[k / HIDDEN], k % HIDDEN, (double)found[k],
                          (double)expected);
            }
            ops->weight_free(rig.backend, table);
            ops->tensor_free(rig.backend, x);
            free(w.values);
        }
        rig_close(&rig);
    }
}

/* int32 sums are the same on every instruction set; portable C is the definition. */
Test(operators, int32_sums_are_equal_everywhere)
{
    for (size_t s = 0; s < COUNT_OF(shapes); s++) {
        struct rig rig = rig_open(CPU_PORTABLE, 1);
        struct rng rng = {s + 77};
        struct matrix w = matrix_random(&rng, shapes[s].outputs, shapes[s].inputs, 1, DT_F32);
        struct weight *weight = rig_weight(&rig, &w, 1, false, WEIGHT_W8, DT_F32);
        int64_t groups = w8_groups(w.cols), padded = round_up(w.cols, 16);
        int8_t *q8 = aligned_alloc(64, (size_t)round_up(padded, 64));
        int32_t *start = must_alloc((size_t)groups * sizeof *start);
        memset(q8, 0, (size_t)padded);
        for (int64_t k = 0; k < w.cols; k++) {
            q8[k] = (int8_t)(s % 3 == 0 ? 127 : (int64_t)rng_below(&rng, 255) - 127);
            start[k / W8_GROUP] -= 128 * q8[k];
        }
        struct product p = {
            .w = weight, .in = {.q8 = q8, .q8_stride = padded, .start = start, .start_stride = 1}};
        const struct cpu_kernels *kernels[] = {&cpu_kernels_avx2, &cpu_kernels_avx512};
        const enum cpu_isa of[] = {CPU_AVX2, CPU_AVX512};
        for (int64_t panel = 0; panel < weight->panels; panel++) {
            for (int64_t group = 0; group < groups; group++) {
                int32_t expected[PANEL], found[PANEL];
                cpu_kernels_portable.sums_w8(&p, panel, 0, group, expected);
                for (size_t i = 0; i < COUNT_OF(of); i++) {
                    if (!cpu_isa_supported(of[i])) continue;
                    kernels[i]->sums_w8(&p, panel, 0, group, found);
                    cr_assert_arr_eq(found, expected, sizeof found);
                }
            }
        }
        rig.backend->ops->weight_free(rig.backend, weight);
        rig_close(&rig);
        free(w.values), free(q8), free(start);
    }
}
