#include "quant/checkpoint/code_matrix.h"
#include "base/base.h"
#include "quant/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct code_job {
    const struct float_matrix *matrix;
    const struct coding *coding;
    struct coded_matrix *out;
    struct row_result {
        double error, energy, clipped;
    } * rows;
};

struct row_scratch row_scratch_make(int64_t cols)
{
    size_t padded = (size_t)vsq4z_vectors(cols) * VSQ4Z_VECTOR;
    struct row_scratch s = {.row = {.cols = cols}};
    s.row.codes = must_alloc(padded);
    s.row.scales = must_alloc(padded);
    s.row.zeros = must_alloc(padded);
    s.search = must_alloc((size_t)search_scratch(cols) * sizeof *s.search);
    s.work = must_alloc(padded * sizeof *s.work);
    s.values = must_alloc(padded * sizeof *s.values);
    return s;
}

void row_scratch_free(struct row_scratch *s)
{
    void *parts[] = {s->row.codes, s->row.scales, s->row.zeros, s->search, s->work, s->values};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        free(parts[i]);
}

/* Weights beyond the last level of their vector by more than half a step. */
static double clipped_share(const struct vsq4z_row *row, const float *weights)
{
    int64_t count = 0;
    for (int64_t k = 0; k < row->cols; k++) {
        int64_t v = k / VSQ4Z_VECTOR;
        float step = row->row_scale * (float)row->scales[v];
        float low = -((float)row->zeros[v] + 0.5f) * step;
        float high = ((float)(VSQ4Z_MAX_CODE - row->zeros[v]) + 0.5f) * step;
        count += weights[k] < low || weights[k] > high;
    }
    return (double)count;
}

static void code_vsq4z(const struct code_job *job, int64_t index, struct row_scratch *s)
{
    const struct coding *coding = job->coding;
    const float *weights = job->matrix->values + index * job->matrix->cols;
    vsq4z_quantize_row(weights, coding->importance, coding->clip, s->search, &s->row);
    if (coding->factor && s->row.row_scale > 0)
        vsq4z_gptq_row(coding->factor, weights, s->work, &s->row);
    vsq4z_store_row(&s->row, index, &job->out->vsq4z);
    vsq4z_row_values(&s->row, s->values);
    job->rows[index].clipped = clipped_share(&s->row, weights);
}

static void code_w8(const struct code_job *job, int64_t index, struct row_scratch *s)
{
    struct coded_matrix *out = job->out;
    const float *weights = job->matrix->values + index * job->matrix->cols;
    w8_quantize_groups(weights, out->cols, W8_GROUP, job->coding->clip,
                       out->values + index * out->cols, out->scales + index * w8_groups(out->cols));
    struct w8_matrix view = coded_w8(out);
    for (int64_t k = 0; k < out->cols; k++)
        s->values[k] = (float)view.values[index * out->cols + k] * w8_scale(&view, index, k);
}

static void code_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct code_job *job = argument;
    int64_t cols = job->matrix->cols;
    struct row_scratch s = row_scratch_make(cols);
    for (int64_t i = begin; i < end; i++) {
        float *weights = job->matrix->values + i * cols;
        job->coding->type == FILE_VSQ4Z ? code_vsq4z(job, i, &s) : code_w8(job, i, &s);
        struct row_result *result = &job->rows[i];
        for (int64_t k = 0; k < cols; k++) {
            double d = (double)weights[k] - (double)s.values[k];
            result->error += d * d;
            result->energy += (double)weights[k] * (double)weights[k];
        }
        memcpy(weights, s.values, (size_t)cols * sizeof *weights);
    }
    row_scratch_free(&s);
}

static bool allocate(struct coded_matrix *m)
{
    size_t rows = (size_t)m->rows;
    if (m->type == FILE_VSQ4Z) {
        m->vsq4z.codes = try_alloc(rows, (size_t)vsq4z_code_bytes(m->cols));
        m->vsq4z.scales = try_alloc(rows, (size_t)vsq4z_scale_bytes(m->cols));
        m->vsq4z.zeros = try_alloc(rows, (size_t)vsq4z_zero_bytes(m->cols));
        m->vsq4z.row_scale = try_alloc(rows, sizeof(float));
        return m->vsq4z.codes && m->vsq4z.scales && m->vsq4z.zeros && m->vsq4z.row_scale;
    }
    m->values = try_alloc(rows, (size_t)m->cols);
    m->scales = try_alloc(rows, (size_t)w8_groups(m->cols) * sizeof *m->scales);
    return m->values && m->scales;
}

enum status code_matrix(struct float_matrix *matrix, const struct coding *coding,
                        struct thread_pool *pool, struct coded_matrix *out, struct error *err)
{
    *out = (struct coded_matrix){.type = coding->type, .rows = matrix->rows, .cols = matrix->cols};
    struct code_job job = {matrix, coding, out,
                           try_alloc((size_t)matrix->rows, sizeof(struct row_result))};
    if (!job.rows || !allocate(out)) {
        free(job.rows);
        coded_matrix_release(out);
        return fail(err, ST_NO_MEMORY, "no memory for the codes of %lld x %lld weights",
                    (long long)matrix->rows, (long long)matrix->cols);
    }
    /* What was finite in the file may not be any more where a method has moved it. */
    enum status status = quant_check_weights(matrix->values, matrix->rows * matrix->cols, err);
    if (status) {
        free(job.rows);
        coded_matrix_release(out);
        return status;
    }
    thread_pool_for(pool, matrix->rows, 8, code_rows, &job);
    double error = 0, energy = 0, clipped = 0;
    for (int64_t i = 0; i < matrix->rows; i++) {
        error += job.rows[i].error;
        energy += job.rows[i].energy;
        clipped += job.rows[i].clipped;
    }
    out->error = energy > 0 ? error / energy : 0;
    out->clipped = clipped / ((double)matrix->rows * (double)matrix->cols);
    free(job.rows);
    return ST_OK;
}
