#include "quant/checkpoint/awq.h"
#include "base/base.h"
#include "quant/checkpoint/code_matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 10 /* exponents 0, 0.1, ... 1 */
#define ROWS  8  /* every eighth row decides */

struct scale_job {
    const struct float_matrix *matrix;
    const float *energies, *scales;
    double *errors; /* [rows] */
};

static void scale_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct scale_job *job = argument;
    int64_t cols = job->matrix->cols;
    struct row_scratch s = row_scratch_make(cols);
    for (int64_t k = 0; k < cols; k++)
        s.values[k] = job->energies[k] / (job->scales[k] * job->scales[k]);
    for (int64_t i = begin; i < end; i++) {
        const float *weights = job->matrix->values + i * ROWS * cols;
        for (int64_t k = 0; k < cols; k++)
            s.work[k] = weights[k] * job->scales[k];
        job->errors[i] = vsq4z_quantize_row(s.work, s.values, CLIP_SEARCH, s.search, &s.row);
    }
    row_scratch_free(&s);
}

static double error_of(const struct float_matrix *matrix, const float *energies,
                       const float *scales, struct thread_pool *pool)
{
    int64_t rows = (matrix->rows + ROWS - 1) / ROWS;
    double *errors = must_alloc((size_t)rows * sizeof *errors), total = 0;
    struct scale_job job = {matrix, energies, scales, errors};
    thread_pool_for(pool, rows, 4, scale_rows, &job);
    for (int64_t i = 0; i < rows; i++)
        total += errors[i];
    free(errors);
    return total;
}

/* An energy below a ten-thousandth of the mean counts as that much: its input is not blown up. */
#define LEAST_ENERGY 1e-4

/* Logarithms of the energies, their mean taken off; those of one owner have one, of their mean. */
static void log_energies(const float *energies, int64_t cols, const int32_t *owners, double *out)
{
    double mean = 0, logs = 0;
    double *sums = must_alloc((size_t)cols * sizeof *sums);
    int32_t *counts = must_alloc((size_t)cols * sizeof *counts);
    memset(sums, 0, (size_t)cols * sizeof *sums);
    memset(counts, 0, (size_t)cols * sizeof *counts);
    for (int64_t k = 0; k < cols; k++) {
        int64_t owner = owners ? owners[k] : k;
        sums[owner] += (double)energies[k];
        counts[owner]++;
        mean += (double)energies[k] / (double)cols;
    }
    for (int64_t k = 0; k < cols; k++) {
        int64_t owner = owners ? owners[k] : k;
        double energy = fmax(sums[owner] / counts[owner], LEAST_ENERGY * mean);
        out[k] = log(energy > 0 ? energy : 1);
        logs += out[k] / (double)cols;
    }
    for (int64_t k = 0; k < cols; k++)
        out[k] -= logs;
    free(sums);
    free(counts);
}

static void scales_of(const double *logs, int64_t cols, int step, float *scales)
{
    for (int64_t k = 0; k < cols; k++)
        scales[k] = (float)exp((double)step / STEPS / 2 * logs[k]);
}

bool awq_choose(const struct float_matrix *const *matrices, int count, const float *energies,
                const int32_t *owners, struct thread_pool *pool, float *scales)
{
    int64_t cols = matrices[0]->cols;
    double *logs = must_alloc((size_t)cols * sizeof *logs), least = INFINITY;
    int best = 0;
    log_energies(energies, cols, owners, logs);
    for (int step = 0; step <= STEPS; step++) {
        double error = 0;
        scales_of(logs, cols, step, scales);
        for (int m = 0; m < count; m++)
            error += error_of(matrices[m], energies, scales, pool);
        if (!(error < least)) continue;
        least = error;
        best = step;
    }
    scales_of(logs, cols, best, scales);
    free(logs);
    return best > 0;
}

/* --- folding */

void awq_scale_columns(struct float_matrix *matrix, const float *scales)
{
    for (int64_t row = 0; row < matrix->rows; row++)
        for (int64_t k = 0; k < matrix->cols; k++)
            matrix->values[row * matrix->cols + k] *= scales[k];
}

void awq_divide_rows(struct float_matrix *matrix, struct coded_matrix *coded,
                     struct float_matrix *bias, const int32_t *owners, int64_t inputs,
                     const float *scales)
{
    float *divisors = must_alloc((size_t)matrix->rows * sizeof *divisors);
    for (int64_t row = 0; row < matrix->rows; row++)
        divisors[row] = 1;
    for (int64_t k = 0; k < inputs; k++)
        divisors[owners[k]] = scales[k];
    for (int64_t row = 0; row < matrix->rows; row++) {
        for (int64_t k = 0; k < matrix->cols; k++)
            matrix->values[row * matrix->cols + k] /= divisors[row];
        if (coded) coded->vsq4z.row_scale[row] /= divisors[row];
        if (bias->values) bias->values[row] /= divisors[row];
    }
    free(divisors);
}

void awq_owners_of_o(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t *owners)
{
    for (int32_t head = 0; head < heads; head++)
        for (int32_t i = 0; i < head_dim; i++)
            owners[head * head_dim + i] = head / (heads / kv_heads) * head_dim + i;
}

void awq_owners_of_down(int32_t intermediate, int32_t *owners)
{
    for (int32_t k = 0; k < intermediate; k++)
        owners[k] = k;
}
