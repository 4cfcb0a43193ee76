#include "quant/checkpoint/awq.h"
#include "base/base.h"
#include "quant/checkpoint/code_matrix.h"

#include <math.h>
#include <stdlib.h>

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

/* Logarithms of the energies, their mean taken off. */
static void log_energies(const float *energies, int64_t cols, double *out)
{
    double mean = 0, logs = 0;
    for (int64_t k = 0; k < cols; k++)
        mean += (double)energies[k] / (double)cols;
    for (int64_t k = 0; k < cols; k++) {
        double energy = fmax((double)energies[k], LEAST_ENERGY * mean);
        out[k] = log(energy > 0 ? energy : 1);
        logs += out[k] / (double)cols;
    }
    for (int64_t k = 0; k < cols; k++)
        out[k] -= logs;
}

static void scales_of(const double *logs, int64_t cols, int step, float *scales)
{
    for (int64_t k = 0; k < cols; k++)
        scales[k] = (float)exp((double)step / STEPS / 2 * logs[k]);
}

bool awq_choose(const struct float_matrix *const *matrices, int count, const float *energies,
                struct thread_pool *pool, float *scales)
{
    int64_t cols = matrices[0]->cols;
    double *logs = must_alloc((size_t)cols * sizeof *logs), least = INFINITY;
    int best = 0;
    log_energies(energies, cols, logs);
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

void awq_fold(struct float_matrix *norm, struct float_matrix *const *matrices, int count,
              const float *scales)
{
    for (int64_t k = 0; k < norm->cols; k++)
        norm->values[k] /= scales[k];
    for (int m = 0; m < count; m++)
        for (int64_t row = 0; row < matrices[m]->rows; row++)
            for (int64_t k = 0; k < norm->cols; k++)
                matrices[m]->values[row * norm->cols + k] *= scales[k];
}
