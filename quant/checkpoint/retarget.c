#include "quant/checkpoint/retarget.h"
#include "base/base.h"
#include "quant/doubles.h"
#include "quant/gptq.h"

#include <stdlib.h>

#define DAMPING 0.1

static bool solve(const double *gram, int64_t cols, double *cross, int64_t rows,
                  struct thread_pool *pool)
{
    struct gptq_factor factor;
    if (!gptq_factor_make(gram, cols, DAMPING, pool, &factor)) return false;
    gptq_solve_rows(&factor, cross, rows, pool);
    gptq_factor_free(&factor);
    return true;
}

struct move_job {
    struct float_matrix *matrix;
    const double *change; /* [cols][cols]: W += W change */
};

static void move_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct move_job *job = argument;
    int64_t cols = job->matrix->cols;
    double *sum = must_alloc((size_t)cols * sizeof *sum);
    for (int64_t row = begin; row < end; row++) {
        float *weights = job->matrix->values + row * cols;
        for (int64_t k = 0; k < cols; k++)
            sum[k] = (double)weights[k];
        for (int64_t k = 0; k < cols; k++)
            doubles_add_scaled(sum, (double)weights[k], job->change + k * cols, cols);
        for (int64_t k = 0; k < cols; k++)
            weights[k] = (float)sum[k];
    }
    free(sum);
}

bool retarget_by_inputs(struct float_matrix *const *matrices, int count, const double *gram,
                        double *cross, struct thread_pool *pool)
{
    if (!solve(gram, matrices[0]->cols, cross, matrices[0]->cols, pool)) return false;
    for (int m = 0; m < count; m++) {
        struct move_job job = {matrices[m], cross};
        thread_pool_for(pool, matrices[m]->rows, 8, move_rows, &job);
    }
    return true;
}

bool retarget_by_outputs(struct float_matrix *matrix, const double *gram, double *cross,
                         struct thread_pool *pool)
{
    if (!solve(gram, matrix->cols, cross, matrix->rows, pool)) return false;
    for (int64_t i = 0; i < matrix->rows * matrix->cols; i++)
        matrix->values[i] = (float)((double)matrix->values[i] + cross[i]);
    return true;
}
