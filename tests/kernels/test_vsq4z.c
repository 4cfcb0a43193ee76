/* Products with ready codes: VSQ4z on every instruction set against plain C over the canonical
 * bytes, straight from 4 bits and over expanded panels, and W8 codes that nobody rounds again. */
#include "kernels/cpu/vsq4z_panel.h"
#include "tests/kernels/support_vsq4z.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    enum cpu_isa isa;
    const struct cpu_kernels *kernels;
} isas[] = {{CPU_PORTABLE, &cpu_kernels_portable},
            {CPU_AVX2, &cpu_kernels_avx2},
            {CPU_AVX512, &cpu_kernels_avx512}};

#define EPS 1e-5f

enum activation { RANDOM_INT8, ALL_127, ALL_MINUS_127, SIGNS };

static int8_t activation_value(struct rng *rng, enum activation kind, int64_t k)
{
    switch (kind) {
    case RANDOM_INT8:
        return (int8_t)((int)rng_below(rng, 255) - 127);
    case ALL_127:
        return 127;
    case ALL_MINUS_127:
        return -127;
    case SIGNS:
        return k % 3 ? 127 : -127;
    }
    return 0;
}

/* One row of activations as linear.c prepares it, every sum there is. */
struct row {
    int8_t *q8;
    int32_t *groups, start; /* as products begin: -128 * sum */
    int16_t *vectors;
};

static struct row row_make(struct rng *rng, enum activation kind, int64_t cols)
{
    int64_t vectors = vsq4z_blocks(cols) * BLOCK_VECTORS;
    struct row row = {.q8 = must_alloc_aligned(64, (size_t)(vectors * VSQ4Z_VECTOR)),
                      .groups = must_alloc((size_t)w8_groups(cols) * sizeof(int32_t)),
                      .vectors = must_alloc((size_t)vectors * sizeof(int16_t))};
    for (int64_t k = 0; k < cols; k++) {
        row.q8[k] = activation_value(rng, kind, k);
        row.groups[k / W8_GROUP] -= 128 * row.q8[k];
        row.vectors[k / VSQ4Z_VECTOR] = (int16_t)(row.vectors[k / VSQ4Z_VECTOR] + row.q8[k]);
        row.start = (int32_t)((uint32_t)row.start - 128u * (uint32_t)row.q8[k]);
    }
    return row;
}

static void row_free(struct row *row)
{
    free(row->q8), free(row->groups), free(row->vectors);
}

static void expect_sums(const int32_t *found, const struct vsq4z_matrix *m, int64_t panel,
                        const struct row *row, const char *what)
{
    for (int64_t lane = 0; lane < PANEL; lane++) {
        int64_t output = panel * PANEL + lane, expected = 0;
        for (int64_t k = 0; output < m->rows && k < m->cols; k++)
            expected += (int64_t)vsq4z_level(m, output, k) * row->q8[k];
        cr_assert_eq(found[lane], expected, "%s [%lld, %lld] output %lld: %d, not %lld", what,
                     (long long)m->rows, (long long)m->cols, (long long)output, found[lane],
                     (long long)expected);
    }
}

/* What the int8 kernel makes of the same levels, all groups together. */
static void sums_of_w8(const struct cpu_kernels *kernels, const struct weight *w8, int64_t panel,
                       const struct row *row, int32_t *sums)
{
    const struct product p = {
        .w = w8,
        .in = {.q8 = row->q8, .q8_stride = w8->cols, .start = row->groups, .start_stride = 1}};
    memset(sums, 0, PANEL * sizeof *sums);
    for (int64_t group = 0; group < w8_groups(w8->cols); group++) {
        int32_t part[PANEL];
        kernels->sums_w8(&p, panel, 0, group, part);
        for (int i = 0; i < PANEL; i++)
            sums[i] += part[i];
    }
}

static void check_sums(size_t isa, const struct vsq4z_matrix *m, const struct row *row)
{
    const struct cpu_kernels *kernels = isas[isa].kernels;
    struct rig rig = rig_open(isas[isa].isa, 1);
    struct w8_matrix levels = w8_of_levels(m);
    struct weight *w = rig_vsq4z(&rig, m, 1, false), *w8 = rig_w8(&rig, &levels, 1, false);
    unsigned char *expanded = must_alloc_aligned(64, vsq4z_expanded_bytes(m->cols));
    struct product p = {.w = w,
                        .in = {.q8 = row->q8,
                               .q8_stride = round_up(m->cols, 16),
                               .start = &row->start,
                               .vector_sum = row->vectors,
                               .vector_stride = vsq4z_blocks(m->cols) * BLOCK_VECTORS}};
    cr_assert(kernels->vsq4z_rows || kernels->expand_vsq4z);
    for (int64_t panel = 0; panel < w->panels; panel++) {
        int32_t sums[PANEL];
        sums_of_w8(kernels, w8, panel, row, sums);
        expect_sums(sums, m, panel, row, "int8 kernel");
        p.expanded[0] = NULL;
        if (kernels->vsq4z_rows) {
            kernels->sums_vsq4z(&p, panel, 0, sums);
            expect_sums(sums, m, panel, row, kernels->backend_name);
        }
        if (!kernels->expand_vsq4z) continue;
        kernels->expand_vsq4z(w, panel, expanded);
        p.expanded[0] = expanded;
        kernels->sums_vsq4z(&p, panel, 0, sums);
        expect_sums(sums, m, panel, row, kernels->backend_name);
    }
    rig.backend->ops->weight_free(rig.backend, w);
    rig.backend->ops->weight_free(rig.backend, w8);
    rig_close(&rig);
    free(expanded);
    w8_free(&levels);
}

static void check_all_sums(int64_t rows, int64_t cols, enum levels levels, enum activation kind)
{
    struct rng rng = {(uint64_t)(rows * 1000 + cols)};
    struct vsq4z_matrix m = vsq4z_random(&rng, rows, cols, levels);
    struct row row = row_make(&rng, kind, cols);
    for (size_t i = 0; i < COUNT_OF(isas); i++)
        if (cpu_isa_supported(isas[i].isa)) check_sums(i, &m, &row);
    row_free(&row);
    vsq4z_free(&m);
}

Test(vsq4z, sums_with_every_tail)
{
    for (int64_t cols = 1; cols <= 80; cols++)
        check_all_sums(1 + cols % 37, cols, LEVELS_RANDOM, RANDOM_INT8);
    check_all_sums(50, 576, LEVELS_RANDOM, RANDOM_INT8);
    check_all_sums(18, 1536, LEVELS_RANDOM, RANDOM_INT8);
    check_all_sums(17, 4099, LEVELS_RANDOM, RANDOM_INT8);
}

Test(vsq4z, sums_of_extreme_values)
{
    static const int64_t cols[] = {1, 15, 16, 17, 48, 63, 64, 65, 576, 1536};
    for (size_t c = 0; c < COUNT_OF(cols); c++)
        for (int levels = LEVELS_LARGEST; levels <= LEVELS_MIXED; levels++)
            for (int kind = RANDOM_INT8; kind <= SIGNS; kind++)
                check_all_sums(17, cols[c], (enum levels)levels, (enum activation)kind);
}

/* The widest matrix there is: sums reach 99.99 % of an int32, and pass it on the way with a bias.
 */
Test(vsq4z, sums_of_the_most_columns)
{
    check_all_sums(16, VSQ4Z_MAX_COLS, LEVELS_LARGEST, ALL_127);
    check_all_sums(16, VSQ4Z_MAX_COLS, LEVELS_LARGEST, ALL_MINUS_127);
    check_all_sums(16, VSQ4Z_MAX_COLS, LEVELS_LOWEST, ALL_127);
}

Test(vsq4z, too_many_columns_are_refused)
{
    struct rig rig = rig_open(CPU_PORTABLE, 1);
    struct vsq4z_matrix m = {.rows = 1, .cols = VSQ4Z_MAX_COLS + 1};
    struct weight_source source = {.rows = 1, .vsq4z = &m};
    struct weight_spec spec = {
        .format = WEIGHT_VSQ4Z, .parts = &source, .part_count = 1, .cols = m.cols};
    struct weight *w = NULL;
    struct error err = {0};
    cr_assert_eq(rig.backend->ops->weight_create(rig.backend, &spec, &w, &err), ST_UNSUPPORTED);
    cr_assert_null(w);
    cr_assert(strstr(err.text, "1 to 140896"), "%s", err.text);
    rig_close(&rig);
}

/* --- rows read back */

Test(vsq4z, rows_of_three_parts)
{
    struct rig rig = rig_open(CPU_PORTABLE, 2);
    struct rng rng = {5};
    for (int64_t cols = 1; cols <= 80; cols++) {
        const int64_t rows[3] = {5, 19, 8}; /* panels that hold the end of one and all of another */
        struct vsq4z_matrix parts[3];
        for (int i = 0; i < 3; i++)
            parts[i] = vsq4z_random(&rng, rows[i], cols, LEVELS_RANDOM);
        struct weight *w = rig_vsq4z(&rig, parts, 3, false);
        float found[80];
        int64_t output = 0;
        for (int i = 0; i < 3; i++)
            for (int64_t row = 0; row < rows[i]; row++) {
                weight_row(w, output++, found);
                for (int64_t k = 0; k < cols; k++) {
                    float expected =
                        (float)vsq4z_level(&parts[i], row, k) * parts[i].row_scale[row];
                    cr_assert_eq(found[k], expected, "part %d row %d column %d", i, (int)row,
                                 (int)k);
                }
            }
        cr_assert_eq(output, w->outputs);
        rig.backend->ops->weight_free(rig.backend, w);
        for (int i = 0; i < 3; i++)
            vsq4z_free(&parts[i]);
    }
    rig_close(&rig);
}

Test(vsq4z, w8_codes_are_kept_as_they_are)
{
    struct rig rig = rig_open(CPU_PORTABLE, 2);
    struct rng rng = {6};
    for (int64_t cols = 1; cols <= 130; cols++) {
        struct w8_matrix parts[2] = {w8_random(&rng, 21, cols), w8_random(&rng, 30, cols)};
        struct weight *w = rig_w8(&rig, parts, 2, false);
        float found[130];
        for (int64_t output = 0; output < 51; output++) {
            const struct w8_matrix *part = &parts[output >= 21];
            int64_t row = output >= 21 ? output - 21 : output;
            weight_row(w, output, found);
            for (int64_t k = 0; k < cols; k++)
                cr_assert_eq(found[k],
                             (float)part->values[row * cols + k] * w8_scale(part, row, k));
        }
        rig.backend->ops->weight_free(rig.backend, w);
        w8_free(&parts[0]), w8_free(&parts[1]);
    }
    rig_close(&rig);
}

/* --- operators */

enum { ROWS = 40 };

struct setup {
    struct rig rig;
    const struct cpu_kernels *kernels;
    struct vsq4z_matrix parts[3];
    struct weight *w;
    struct matrix x, norm;
    struct tensor *t_x, *t_norm, *t_out;
    int64_t outputs;
};

static struct setup setup_open(size_t isa, int part_count, bool paired, const int64_t *rows,
                               int64_t cols)
{
    struct setup s = {.rig = rig_open(isas[isa].isa, 2), .kernels = isas[isa].kernels};
    struct rng rng = {(uint64_t)cols};
    for (int i = 0; i < part_count; i++) {
        s.parts[i] = vsq4z_random(&rng, rows[i], cols, LEVELS_RANDOM);
        s.outputs += paired && i ? 0 : rows[i];
    }
    s.w = rig_vsq4z(&s.rig, s.parts, part_count, paired);
    s.x = matrix_random(&rng, ROWS, cols, 1, DT_F32);
    s.norm = matrix_random(&rng, 1, cols, 1, DT_F32);
    s.t_x = rig_tensor(&s.rig, &s.x);
    s.t_norm = rig_tensor(&s.rig, &s.norm);
    s.t_out = s.rig.backend->ops->tensor_create(s.rig.backend, ROWS, s.outputs);
    return s;
}

static void setup_close(struct setup *s)
{
    const struct backend_ops *ops = s->rig.backend->ops;
    ops->weight_free(s->rig.backend, s->w);
    ops->tensor_free(s->rig.backend, s->t_x);
    ops->tensor_free(s->rig.backend, s->t_norm);
    ops->tensor_free(s->rig.backend, s->t_out);
    rig_close(&s->rig);
    for (int i = 0; i < 3; i++)
        vsq4z_free(&s->parts[i]);
    free(s->x.values), free(s->norm.values);
}

/* Row `row` of x as this instruction set normalises it. */
static void normed(const struct setup *s, int64_t row, float *out)
{
    int64_t cols = s->x.cols, padded = round_up(cols, 16);
    float *x = must_alloc((size_t)padded * sizeof *x);
    float *norm = must_alloc((size_t)padded * sizeof *norm);
    memcpy(x, s->x.values + row * cols, (size_t)cols * sizeof *x);
    memcpy(norm, s->norm.values, (size_t)cols * sizeof *norm);
    float *y = must_alloc((size_t)padded * sizeof *y);
    s->kernels->rmsnorm(x, norm, cols, EPS, y);
    memcpy(out, y, (size_t)cols * sizeof *y);
    free(x), free(norm), free(y);
}

static void expect_close(const struct setup *s, double found, double expected, double magnitude,
                         int32_t rows, int64_t row, int64_t output)
{
    cr_assert(fabs(found - expected) <= 1e-6 * magnitude,
              "%s, %d rows: row %lld output %lld: %.9g, expected %.9g", s->kernels->backend_name,
              rows, (long long)row, (long long)output, found, expected);
}

/* Every count of rows: near the reference, and for each token the same bits as alone. */
static void run_rows(struct setup *s, bool paired, float *alone, int32_t rows)
{
    const struct backend_ops *ops = s->rig.backend->ops;
    float *found = must_alloc((size_t)(rows * s->outputs) * sizeof *found);
    struct step_input input;
    rig_step(&s->rig, rows, NULL, &input);
    if (paired)
        ops->norm_gate_up(s->rig.backend, s->t_x, s->t_norm, EPS, s->w, s->t_out);
    else
        ops->norm_head(s->rig.backend, s->t_x, s->t_norm, EPS, s->w, s->t_out);
    rig_read(&s->rig, s->t_out, rows, s->outputs, found);
    int64_t have = (rows - 1) * s->outputs;
    cr_assert_arr_eq(found, alone, (size_t)have * sizeof *found, "%s, %d rows",
                     s->kernels->backend_name, rows);
    memcpy(alone + have, found + have, (size_t)s->outputs * sizeof *found);
    free(found);
}

/* The last of n rows is kept and compared with itself among more rows; its first appearance is
 * checked against the reference. */
static void check_parts(size_t isa, const int64_t *rows, int64_t cols)
{
    struct setup s = setup_open(isa, 3, false, rows, cols);
    float *all = must_alloc((size_t)(ROWS * s.outputs) * sizeof *all);
    float *x = must_alloc((size_t)cols * sizeof *x);
    for (int32_t n = 1; n <= ROWS; n++) {
        run_rows(&s, false, all, n);
        normed(&s, n - 1, x);
        int64_t output = 0;
        for (int i = 0; i < 3; i++)
            for (int64_t row = 0; row < rows[i]; row++, output++) {
                double magnitude, expected = vsq4z_reference(&s.parts[i], row, x, &magnitude);
                expect_close(&s, (double)all[(n - 1) * s.outputs + output], expected, magnitude, n,
                             n - 1, output);
            }
    }
    free(all), free(x);
    setup_close(&s);
}

static void check_pair(size_t isa, int64_t outputs, int64_t cols)
{
    struct setup s = setup_open(isa, 2, true, (int64_t[]){outputs, outputs}, cols);
    float *all = must_alloc((size_t)(ROWS * s.outputs) * sizeof *all);
    float *x = must_alloc((size_t)cols * sizeof *x);
    for (int32_t n = 1; n <= ROWS; n++) {
        run_rows(&s, true, all, n);
        normed(&s, n - 1, x);
        for (int64_t o = 0; o < outputs; o++) {
            double gate_size, up_size;
            double gate = vsq4z_reference(&s.parts[0], o, x, &gate_size);
            double up = vsq4z_reference(&s.parts[1], o, x, &up_size);
            /* |silu'| <= 1.1, |silu| <= |gate|; 2e-6 for exp itself */
            double silu = gate / (1 + exp(-gate));
            double size =
                1.1 * gate_size * fabs(up) + (fabs(silu) + 1) * up_size + 2 * fabs(silu * up);
            expect_close(&s, (double)all[(n - 1) * s.outputs + o], silu * up, size, n, n - 1, o);
        }
    }
    free(all), free(x);
    setup_close(&s);
}

Test(vsq4z, products_of_every_row_count)
{
    for (size_t i = 0; i < COUNT_OF(isas); i++) {
        if (!cpu_isa_supported(isas[i].isa)) continue;
        check_parts(i, (int64_t[]){5, 19, 8}, 70);
        check_parts(i, (int64_t[]){1, 1, 1}, 3);
        check_parts(i, (int64_t[]){48, 16, 16}, 576);
        check_pair(i, 33, 200);
        check_pair(i, 32, 64);
    }
}

/* linear_add reads the tensor as it is and adds. */
Test(vsq4z, linear_add_of_every_tail)
{
    for (size_t i = 0; i < COUNT_OF(isas); i++) {
        if (!cpu_isa_supported(isas[i].isa)) continue;
        for (int64_t cols = 1; cols <= 80; cols += 1 + cols / 20) {
            struct setup s = setup_open(i, 1, false, (int64_t[]){18}, cols);
            struct rng rng = {77};
            for (int32_t rows = 1; rows <= 13; rows += 4) {
                struct matrix before = matrix_random(&rng, rows, 18, 1, DT_F32);
                struct tensor *out = rig_tensor(&s.rig, &before);
                float found[13 * 18];
                struct step_input input;
                rig_step(&s.rig, rows, NULL, &input);
                s.rig.backend->ops->linear_add(s.rig.backend, s.w, s.t_x, out);
                rig_read(&s.rig, out, rows, 18, found);
                for (int64_t n = 0; n < rows * 18; n++) {
                    double size, start = (double)before.values[n];
                    double expected =
                        vsq4z_reference(&s.parts[0], n % 18, s.x.values + n / 18 * cols, &size);
                    expect_close(&s, (double)found[n], start + expected, size + fabs(start), rows,
                                 n / 18, n % 18);
                }
                s.rig.backend->ops->tensor_free(s.rig.backend, out);
                free(before.values);
            }
            setup_close(&s);
        }
    }
}

/* W8 codes through every tile: 1 to 40 rows, one panel and pairs of them, tails of inputs. */
static void check_w8(size_t isa, int64_t outputs, int64_t cols)
{
    struct rig rig = rig_open(isas[isa].isa, 2);
    const struct backend_ops *ops = rig.backend->ops;
    struct rng rng = {(uint64_t)(cols * 100 + outputs)};
    struct w8_matrix m = w8_random(&rng, outputs, cols);
    struct weight *w = rig_w8(&rig, &m, 1, false);
    struct matrix x = matrix_random(&rng, ROWS, cols, 1, DT_F32);
    struct matrix zero = {ROWS, outputs, must_alloc((size_t)(ROWS * outputs) * sizeof(float))};
    float *all = must_alloc((size_t)(ROWS * outputs) * sizeof *all);
    float *found = must_alloc((size_t)(ROWS * outputs) * sizeof *found);
    struct tensor *in = rig_tensor(&rig, &x);
    for (int32_t n = 1; n <= ROWS; n++) {
        struct tensor *out = rig_tensor(&rig, &zero);
        struct step_input input;
        rig_step(&rig, n, NULL, &input);
        ops->linear_add(rig.backend, w, in, out);
        rig_read(&rig, out, n, outputs, found);
        ops->tensor_free(rig.backend, out);
        cr_assert_arr_eq(found, all, (size_t)((n - 1) * outputs) * sizeof *all, "%s, %d rows",
                         isas[isa].kernels->backend_name, n);
        for (int64_t o = 0; o < outputs; o++) {
            int64_t at = (n - 1) * outputs + o;
            double size, expected = w8_reference(&m, o, x.values + (n - 1) * cols, &size);
            cr_assert(fabs((double)found[at] - expected) <= 1e-6 * size,
                      "%s, %d rows, output %d: %.9g, expected %.9g",
                      isas[isa].kernels->backend_name, n, (int)o, (double)found[at], expected);
            all[at] = found[at];
        }
    }
    ops->weight_free(rig.backend, w);
    ops->tensor_free(rig.backend, in);
    rig_close(&rig);
    w8_free(&m);
    free(x.values), free(zero.values), free(all), free(found);
}

Test(vsq4z, w8_products_of_every_row_count)
{
    for (size_t i = 0; i < COUNT_OF(isas); i++) {
        if (!cpu_isa_supported(isas[i].isa)) continue;
        check_w8(i, 40, 200);
        check_w8(i, 17, 3);
        check_w8(i, 64, 63);
        check_w8(i, 32, 65);
    }
}
