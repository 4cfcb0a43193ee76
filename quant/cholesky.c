#include "quant/cholesky.h"
#include "base/alloc.h"
#include "quant/doubles.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct factor_job {
    double *h;
    int64_t n, column;
};

static void factor_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct factor_job *job = argument;
    int64_t n = job->n, j = job->column, tail = n - j - 1;
    const double *pivot = job->h + j * n;
    for (int64_t i = begin; i < end; i++) {
        double *row = job->h + i * n;
        row[j] = (row[j] - doubles_dot(row + j + 1, pivot + j + 1, tail)) / pivot[j];
    }
}

/* R over the upper half of h, from the last column to the first. */
static bool factor(double *h, int64_t n, struct thread_pool *pool)
{
    for (int64_t j = n - 1; j >= 0; j--) {
        double *pivot = h + j * n;
        double square = pivot[j] - doubles_dot(pivot + j + 1, pivot + j + 1, n - j - 1);
        if (!(square > 0) || !isfinite(square)) return false;
        pivot[j] = sqrt(square);
        struct factor_job job = {h, n, j};
        thread_pool_for(pool, j, 64, factor_rows, &job);
    }
    return true;
}

/* Columns [begin, end) of U = R^-1 into `out`: each column depends on R and itself alone. */
struct invert_job {
    const double *r;
    double *out;
    int64_t n;
};

static void invert_columns(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct invert_job *job = argument;
    int64_t n = job->n;
    for (int64_t i = end - 1; i >= 0; i--) {
        const double *r = job->r + i * n;
        double *row = job->out + i * n;
        int64_t first = i > begin ? i : begin;
        if (i >= begin) row[i] = 1;
        for (int64_t k = i + 1; k < end; k++) {
            int64_t from = k > begin ? k : begin; /* row k of U begins at k */
            doubles_add_scaled(row + from, -r[k], job->out + k * n + from, end - from);
        }
        for (int64_t j = first; j < end; j++)
            row[j] /= r[i];
    }
}

bool inverse_factor(double *h, int64_t n, struct thread_pool *pool)
{
    if (!factor(h, n, pool)) return false;
    double *out = must_alloc((size_t)(n * n) * sizeof *out);
    struct invert_job job = {h, out, n};
    thread_pool_for(pool, n, 64, invert_columns, &job);
    memcpy(h, out, (size_t)(n * n) * sizeof *out);
    free(out);
    return true;
}
