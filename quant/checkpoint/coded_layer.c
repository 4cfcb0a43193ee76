#include "quant/checkpoint/coded_layer.h"
#include "base/base.h"

#include <stdlib.h>

/* One matrix, its rows shared among the threads. Errors are kept by row and summed in their order:
 * the same number for any number of threads. */
struct rounding {
    const float *weights;
    const struct coded_matrix *out;
    enum clip clip;
    double *errors, *squares; /* [rows] */
};

static double squares_of(const float *row, int64_t cols)
{
    double sum = 0;
    for (int64_t k = 0; k < cols; k++)
        sum += (double)row[k] * (double)row[k];
    return sum;
}

static void round_vsq4z(const struct rounding *job, int64_t row, float *scratch, uint8_t *bytes)
{
    const struct coded_matrix *m = job->out;
    int64_t vectors = vsq4z_vectors(m->cols);
    struct vsq4z_row made = {.cols = m->cols,
                             .codes = bytes,
                             .scales = bytes + vectors * VSQ4Z_VECTOR,
                             .zeros = bytes + vectors * (VSQ4Z_VECTOR + 1)};
    job->errors[row] =
        vsq4z_quantize_row(job->weights + row * m->cols, NULL, job->clip, scratch, &made);
    vsq4z_store_row(&made, row, &m->vsq4z);
}

static void round_rows(void *argument, int64_t begin, int64_t end, int member)
{
    const struct rounding *job = argument;
    const struct coded_matrix *m = job->out;
    (void)member;
    float *scratch = must_alloc((size_t)search_scratch(m->cols) * sizeof *scratch);
    uint8_t *bytes = must_alloc((size_t)vsq4z_vectors(m->cols) * (VSQ4Z_VECTOR + 2));
    for (int64_t row = begin; row < end; row++) {
        const float *weights = job->weights + row * m->cols;
        job->squares[row] = squares_of(weights, m->cols);
        if (m->type == FILE_VSQ4Z)
            round_vsq4z(job, row, scratch, bytes);
        else
            job->errors[row] = w8_quantize_row(weights, m->cols, m->values + row * m->cols,
                                               m->scales + row * w8_groups(m->cols));
    }
    free(bytes);
    free(scratch);
}

static bool make_arrays(struct coded_matrix *m)
{
    size_t rows = (size_t)m->rows;
    if (m->type == FILE_W8) {
        m->values = try_alloc(rows, (size_t)m->cols);
        m->scales = try_alloc(rows * (size_t)w8_groups(m->cols), sizeof *m->scales);
        return m->values && m->scales;
    }
    m->vsq4z.codes = try_alloc(rows, (size_t)vsq4z_code_bytes(m->cols));
    m->vsq4z.scales = try_alloc(rows, (size_t)vsq4z_scale_bytes(m->cols));
    m->vsq4z.zeros = try_alloc(rows, (size_t)vsq4z_zero_bytes(m->cols));
    m->vsq4z.row_scale = try_alloc(rows, sizeof *m->vsq4z.row_scale);
    return m->vsq4z.codes && m->vsq4z.scales && m->vsq4z.zeros && m->vsq4z.row_scale;
}

static enum status round_matrix(const float *weights, enum clip clip, struct thread_pool *pool,
                                struct coded_matrix *m, struct error *err)
{
    double *sums = try_alloc((size_t)m->rows, 2 * sizeof *sums);
    if (!make_arrays(m) || !sums) {
        free(sums);
        return fail(err, ST_NO_MEMORY, "no memory for a matrix of %lld x %lld in codes",
                    (long long)m->rows, (long long)m->cols);
    }
    struct rounding job = {weights, m, clip, sums, sums + m->rows};
    thread_pool_for(pool, m->rows, 4, round_rows, &job);
    double error = 0, squares = 0;
    for (int64_t row = 0; row < m->rows; row++) {
        error += job.errors[row];
        squares += job.squares[row];
    }
    m->error = squares > 0 ? error / squares : 0;
    free(sums);
    return ST_OK;
}

enum status round_layer(const struct float_layer *in, const struct format_plan *plan, int32_t layer,
                        enum clip clip, struct thread_pool *pool,
                        struct coded_matrix out[TENSOR_ROLES], struct error *err)
{
    enum status status = ST_OK;
    for (enum tensor_role role = TENSOR_ATTN_NORM; !status && role < TENSOR_ROLES; role++) {
        if (!tensor_role_is_matrix(role)) continue;
        out[role] = (struct coded_matrix){.type = format_plan_type(plan, role, layer),
                                          .rows = in->tensors[role].rows,
                                          .cols = in->tensors[role].cols};
        status = round_matrix(in->tensors[role].values, clip, pool, &out[role], err);
    }
    return status;
}
