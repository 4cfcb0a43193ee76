#include "tests/kernels/support_vsq4z.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* s, q and z of one input. */
static void choose(struct rng *rng, enum levels levels, int *s, int *q, int *z)
{
    switch (levels) {
    case LEVELS_RANDOM:
        *s = (int)rng_below(rng, 16), *q = (int)rng_below(rng, 16), *z = 7 + (int)rng_below(rng, 2);
        return;
    case LEVELS_LARGEST:
        *s = 15, *q = 15, *z = 7;
        return;
    case LEVELS_LOWEST:
        *s = 15, *q = 0, *z = 8;
        return;
    case LEVELS_MIXED:
        *s = 15 * (int)rng_below(rng, 2), *q = 15 * (int)rng_below(rng, 2);
        *z = 7 + (int)rng_below(rng, 2);
        return;
    }
    die("levels %d", (int)levels);
}

struct vsq4z_matrix vsq4z_random(struct rng *rng, int64_t rows, int64_t cols, enum levels levels)
{
    int64_t code_bytes = vsq4z_code_bytes(cols), scale_bytes = vsq4z_scale_bytes(cols);
    int64_t zero_bytes = vsq4z_zero_bytes(cols);
    uint8_t *codes = must_alloc((size_t)(rows * code_bytes));
    uint8_t *scales = must_alloc((size_t)(rows * scale_bytes));
    uint8_t *zeros = must_alloc((size_t)(rows * zero_bytes));
    float *row_scale = must_alloc((size_t)rows * sizeof *row_scale);
    for (int64_t row = 0; row < rows; row++) {
        row_scale[row] = 1e-4f * (1 + (float)rng_below(rng, 1000) / 100);
        for (int64_t k = 0; k < vsq4z_vectors(cols) * VSQ4Z_VECTOR; k++) {
            int64_t v = k / VSQ4Z_VECTOR;
            int s, q, z;
            choose(rng, levels, &s, &q, &z);
            if (k % VSQ4Z_VECTOR == 0) {
                scales[row * scale_bytes + v / 2] |= (uint8_t)(s << v % 2 * 4);
                zeros[row * zero_bytes + v / 8] |= (uint8_t)((z - 7) << v % 8);
            }
            if (k >= cols) q = 7 + (zeros[row * zero_bytes + v / 8] >> v % 8 & 1);
            codes[row * code_bytes + k / 2] |= (uint8_t)(q << k % 2 * 4);
        }
    }
    return (struct vsq4z_matrix){rows, cols, codes, scales, zeros, row_scale};
}

void vsq4z_free(struct vsq4z_matrix *m)
{
    free((void *)m->codes), free((void *)m->scales), free((void *)m->zeros);
    free((void *)m->row_scale);
}

static struct weight *create(struct rig *rig, const struct weight_spec *spec)
{
    struct weight *weight = NULL;
    struct error err = {0};
    cr_assert_eq(rig->backend->ops->weight_create(rig->backend, spec, &weight, &err), ST_OK, "%s",
                 err.text);
    return weight;
}

struct weight *rig_vsq4z(struct rig *rig, const struct vsq4z_matrix *parts, int count, bool paired)
{
    struct weight_source sources[3];
    for (int i = 0; i < count; i++)
        sources[i] = (struct weight_source){.rows = parts[i].rows, .vsq4z = &parts[i]};
    return create(rig, &(struct weight_spec){.format = WEIGHT_VSQ4Z,
                                             .parts = sources,
                                             .part_count = count,
                                             .paired = paired,
                                             .cols = parts[0].cols});
}

static struct w8_matrix w8_empty(int64_t rows, int64_t cols, int8_t **values, uint16_t **scales)
{
    *values = must_alloc((size_t)(rows * cols));
    *scales = must_alloc((size_t)(rows * w8_groups(cols)) * sizeof **scales);
    return (struct w8_matrix){rows, cols, *values, *scales};
}

struct w8_matrix w8_of_levels(const struct vsq4z_matrix *m)
{
    int8_t *values;
    uint16_t *scales;
    struct w8_matrix w8 = w8_empty(m->rows, m->cols, &values, &scales);
    for (int64_t i = 0; i < m->rows * m->cols; i++)
        values[i] = (int8_t)vsq4z_level(m, i / m->cols, i % m->cols);
    for (int64_t i = 0; i < m->rows * w8_groups(m->cols); i++)
        scales[i] = float_to_bf16(1);
    return w8;
}

struct w8_matrix w8_random(struct rng *rng, int64_t rows, int64_t cols)
{
    int8_t *values;
    uint16_t *scales;
    struct w8_matrix w8 = w8_empty(rows, cols, &values, &scales);
    for (int64_t i = 0; i < rows * cols; i++)
        values[i] = (int8_t)((int)rng_below(rng, 255) - 127);
    for (int64_t i = 0; i < rows * w8_groups(cols); i++)
        scales[i] = (uint16_t)(0x3c00 + rng_below(rng, 256));
    return w8;
}

void w8_free(struct w8_matrix *m)
{
    free((void *)m->values), free((void *)m->scales);
}

struct weight *rig_w8(struct rig *rig, const struct w8_matrix *parts, int count, bool paired)
{
    struct weight_source sources[3];
    for (int i = 0; i < count; i++)
        sources[i] = (struct weight_source){.rows = parts[i].rows, .w8 = &parts[i]};
    return create(rig, &(struct weight_spec){.format = WEIGHT_W8,
                                             .parts = sources,
                                             .part_count = count,
                                             .paired = paired,
                                             .cols = parts[0].cols});
}

/* The position of the `rank`-th largest |x|, the lower one among equals. */
static int64_t position_of_rank(const float *x, int64_t count, int rank)
{
    for (int64_t k = 0; k < count; k++) {
        int before = 0;
        for (int64_t i = 0; i < count && before <= rank; i++)
            before += fabsf(x[i]) > fabsf(x[k]) || (fabsf(x[i]) == fabsf(x[k]) && i < k);
        if (before == rank) return k;
    }
    return -1;
}

static double reference(const double *weights, int64_t cols, const float *x, double *magnitude)
{
    int64_t outlier[OUTLIERS + 1];
    for (int o = 0; o <= OUTLIERS; o++)
        outlier[o] = position_of_rank(x, cols, o);
    float limit = outlier[OUTLIERS] >= 0 ? fabsf(x[outlier[OUTLIERS]]) : 0;
    float scale = limit < 1e-30f ? 0 : limit / 127, inverse = limit < 1e-30f ? 0 : 127 / limit;
    double sum = 0;
    *magnitude = 0;
    for (int64_t k = 0; k < cols; k++) {
        double value = (double)rintf(x[k] * inverse) * (double)scale;
        for (int o = 0; o < OUTLIERS; o++)
            if (outlier[o] == k) value = (double)x[k];
        sum += value * weights[k];
        *magnitude += fabs(value * weights[k]);
    }
    return sum;
}

double vsq4z_reference(const struct vsq4z_matrix *m, int64_t output, const float *x,
                       double *magnitude)
{
    double *weights = must_alloc((size_t)m->cols * sizeof *weights);
    for (int64_t k = 0; k < m->cols; k++)
        weights[k] = (double)vsq4z_level(m, output, k) * (double)m->row_scale[output];
    double sum = reference(weights, m->cols, x, magnitude);
    free(weights);
    return sum;
}

double w8_reference(const struct w8_matrix *m, int64_t output, const float *x, double *magnitude)
{
    double *weights = must_alloc((size_t)m->cols * sizeof *weights);
    for (int64_t k = 0; k < m->cols; k++)
        weights[k] = (double)m->values[output * m->cols + k] * (double)w8_scale(m, output, k);
    double sum = reference(weights, m->cols, x, magnitude);
    free(weights);
    return sum;
}
