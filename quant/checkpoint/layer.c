#include "quant/checkpoint/layer.h"
#include "base/base.h"
#include "quant/check.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

struct load_job {
    const struct checkpoint_tensor *tensor;
    float *values;
    _Atomic int64_t bad; /* the first value that check.h refuses, or -1 */
};

static void load_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    struct load_job *job = argument;
    int64_t cols = job->tensor->cols;
    checkpoint_read_rows(job->tensor, begin, end - begin, job->values + begin * cols);
    for (int64_t i = begin * cols; i < end * cols; i++)
        if (!quant_value_allowed(job->values[i])) {
            int64_t seen = job->bad;
            while ((seen < 0 || i < seen) && !atomic_compare_exchange_weak(&job->bad, &seen, i)) {
            }
            return;
        }
}

enum status float_tensor_load(const struct checkpoint *source, enum tensor_role role, int32_t layer,
                              struct thread_pool *pool, struct float_layer *out, struct error *err)
{
    const struct checkpoint_tensor *tensor = checkpoint_tensor(source, role, layer);
    if (!tensor) return ST_OK;
    uint64_t count;
    float *values = checked_mul((uint64_t)tensor->rows, (uint64_t)tensor->cols, &count)
                        ? try_alloc(count, sizeof *values)
                        : NULL;
    if (!values) return fail(err, ST_NO_MEMORY, "no memory for tensor %s in f32", tensor->name);
    out->tensors[role].rows = tensor->rows;
    out->tensors[role].cols = tensor->cols;
    out->tensors[role].values = values;
    struct load_job job = {tensor, values, -1};
    thread_pool_for(pool, tensor->rows, 16, load_rows, &job);
    if (job.bad < 0) return ST_OK;
    return fail(err, ST_BAD_FILE,
                "tensor %s: row %lld, column %lld is %g; weights are finite and at most 1e37",
                tensor->name, (long long)(job.bad / tensor->cols),
                (long long)(job.bad % tensor->cols), (double)values[job.bad]);
}

enum status float_layer_load(const struct checkpoint *source, int32_t layer,
                             struct thread_pool *pool, struct float_layer *out, struct error *err)
{
    *out = (struct float_layer){0};
    for (enum tensor_role role = TENSOR_ATTN_NORM; role < TENSOR_ROLES; role++) {
        enum status status = float_tensor_load(source, role, layer, pool, out, err);
        if (status) {
            float_layer_release(out);
            return status;
        }
    }
    return ST_OK;
}

void float_layer_release(struct float_layer *layer)
{
    for (enum tensor_role role = 0; role < TENSOR_ROLES; role++)
        free(layer->tensors[role].values);
    *layer = (struct float_layer){0};
}

void coded_matrix_release(struct coded_matrix *m)
{
    free(m->vsq4z.codes);
    free(m->vsq4z.scales);
    free(m->vsq4z.zeros);
    free(m->vsq4z.row_scale);
    free(m->values);
    free(m->scales);
    *m = (struct coded_matrix){0};
}

struct vsq4z_matrix coded_vsq4z(const struct coded_matrix *m)
{
    return (struct vsq4z_matrix){.rows = m->rows,
                                 .cols = m->cols,
                                 .codes = m->vsq4z.codes,
                                 .scales = m->vsq4z.scales,
                                 .zeros = m->vsq4z.zeros,
                                 .row_scale = m->vsq4z.row_scale};
}

struct w8_matrix coded_w8(const struct coded_matrix *m)
{
    return (struct w8_matrix){
        .rows = m->rows, .cols = m->cols, .values = m->values, .scales = m->scales};
}
