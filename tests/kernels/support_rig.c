#include "tests/kernels/support_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct rig rig_open(enum cpu_isa isa, int threads)
{
    struct rig rig = {0};
    struct error err = {0};
    cr_assert_eq(thread_pool_create(threads, &rig.pool, &err), ST_OK, "%s", err.text);
    cr_assert_eq(backend_cpu_create(rig.pool, isa, false, &rig.backend, &err), ST_OK, "%s",
                 err.text);
    return rig;
}

void rig_close(struct rig *rig)
{
    rig->backend->ops->free(rig->backend);
    thread_pool_free(rig->pool);
}

static float rounded(float value, enum dtype exact)
{
    if (exact == DT_BF16) return bf16_to_float(float_to_bf16(value));
    if (exact == DT_F16) return half_to_float(float_to_half(value));
    return value;
}

struct matrix matrix_random(struct rng *rng, int64_t rows, int64_t cols, float deviation,
                            enum dtype exact)
{
    struct matrix m = {rows, cols, must_alloc((size_t)(rows * cols) * sizeof(float))};
    for (int64_t i = 0; i < rows * cols; i++) {
        float scale = i % cols % 50 == 7 ? 10 * deviation : deviation;
        m.values[i] = rounded(scale * (float)rng_normal(rng), exact);
    }
    return m;
}

static void read_rows(const void *context, int64_t first, int64_t count, float *out)
{
    const struct matrix *m = context;
    memcpy(out, m->values + first * m->cols, (size_t)(count * m->cols) * sizeof *out);
}

struct weight *rig_weight(struct rig *rig, const struct matrix *parts, int count, bool paired,
                          enum weight_format format, enum dtype native)
{
    struct weight_source sources[3];
    struct weight *weight = NULL;
    struct error err = {0};
    for (int i = 0; i < count; i++)
        sources[i] =
            (struct weight_source){.read = read_rows, .context = &parts[i], .rows = parts[i].rows};
    struct weight_spec spec = {.format = format,
                               .native = native,
                               .parts = sources,
                               .part_count = count,
                               .paired = paired,
                               .cols = parts[0].cols};
    cr_assert_eq(rig->backend->ops->weight_create(rig->backend, &spec, &weight, &err), ST_OK, "%s",
                 err.text);
    return weight;
}

struct tensor *rig_tensor(struct rig *rig, const struct matrix *values)
{
    struct tensor *tensor =
        rig->backend->ops->tensor_create(rig->backend, values->rows, values->cols);
    cr_assert(tensor);
    for (int64_t row = 0; row < values->rows; row++)
        rig->backend->ops->tensor_write(rig->backend, tensor, row,
                                        values->values + row * values->cols);
    return tensor;
}

void rig_read(struct rig *rig, const struct tensor *tensor, int64_t rows, int64_t cols, float *out)
{
    for (int64_t row = 0; row < rows; row++)
        rig->backend->ops->tensor_read(rig->backend, tensor, row, out + row * cols);
}

void rig_step(struct rig *rig, int32_t rows, const int32_t *tokens, struct step_input *input)
{
    static int32_t positions[64], logit_rows[64], block;
    static int64_t slots[64];
    static struct attention_span span;
    static struct attention_sequence sequence;
    cr_assert_leq(rows, 64);
    for (int32_t i = 0; i < rows; i++) {
        positions[i] = logit_rows[i] = i;
        slots[i] = i % BLOCK_SLOTS;
    }
    span = (struct attention_span){&block, 0, min_i32(rows, BLOCK_SLOTS)};
    sequence = (struct attention_sequence){
        .rows = min_i32(rows, BLOCK_SLOTS), .context = 1, .spans = &span, .span_count = 1};
    *input = (struct step_input){.rows = rows,
                                 .tokens = tokens,
                                 .positions = positions,
                                 .slots = slots,
                                 .sequences = &sequence,
                                 .sequence_count = 1,
                                 .logit_rows = logit_rows,
                                 .logit_count = rows};
    rig->backend->ops->step_begin(rig->backend, input);
}

void reference_rmsnorm(const float *x, const float *norm, int64_t count, double eps, double *out)
{
    double squares = 0;
    for (int64_t k = 0; k < count; k++)
        squares += (double)x[k] * (double)x[k];
    for (int64_t k = 0; k < count; k++)
        out[k] = (double)x[k] / sqrt(squares / (double)count + eps) * (double)norm[k];
}

/* The largest activation that stays in int8: outliers leave it. */
static double largest_inlier(const double *x, int64_t count)
{
    double top[OUTLIERS + 1] = {0};
    for (int64_t k = 0; k < count; k++) {
        double size = fabs(x[k]);
        for (int i = 0; i <= OUTLIERS; i++) {
            if (size <= top[i]) continue;
            double smaller = top[i];
            top[i] = size;
            size = smaller;
        }
    }
    return top[OUTLIERS];
}

double reference_product(const struct matrix *w, int64_t output, const double *x,
                         enum weight_format format, double *bound)
{
    const float *row = w->values + output * w->cols;
    double sum = 0, magnitude = 0, steps = 0;
    double activation_step = largest_inlier(x, w->cols) / 127;
    for (int64_t k = 0; k < w->cols; k++) {
        if (k % W8_GROUP == 0) steps = 0;
        sum += (double)row[k] * x[k];
        magnitude += fabs((double)row[k] * x[k]);
    }
    /* k + 4 roundings of f32, each at most 2^-24 of the sum of magnitudes; twice that for the
     * input's. */
    *bound = 2 * (double)(w->cols + 4) * 0x1p-24 * magnitude + 1e-30;
    if (format == WEIGHT_NATIVE) return sum;
    for (int64_t k = 0; k < w->cols; k++) {
        if (k % W8_GROUP == 0) {
            double largest = 0;
            for (int64_t i = k; i < k + W8_GROUP && i < w->cols; i++)
                largest = fmax(largest, fabs((double)row[i]));
            steps = largest / 127 * (1 + 0x1p-7); /* the scale is rounded up to bf16 */
        }
        *bound += 0.505 *
                  (steps * (fabs(x[k]) + activation_step) + activation_step * fabs((double)row[k]));
    }
    return sum;
}
