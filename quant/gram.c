#include "quant/gram.h"
#include "base/alloc.h"
#include "quant/lanes.h"

#include <stdbool.h>
#include <stdlib.h>

#define TILE_ROWS  8   /* of the gram matrix: broadcast */
#define TILE_COLS  32  /* two registers of 16 */
#define BATCH_ROWS 512 /* of x, summed in f32 */

struct gram_job {
    double *gram; /* [left_cols][cols] */
    const float *left, *right;
    int64_t left_cols, cols, rows, left_stride, stride;
    bool symmetric; /* right of the diagonal alone, whole tiles */
};

/* gram[i .. i + 8)[j .. j + 32) += left^T right, all inside. Sixteen sums stay in registers. */
EVERY_ISA static void whole_tile(const struct gram_job *job, int64_t i, int64_t j)
{
    lanes sum[TILE_ROWS][2] = {};
    const float *left = job->left + i, *right = job->right + j;
    for (int64_t r = 0; r < job->rows; r++, left += job->left_stride, right += job->stride) {
        lanes first = lanes_load(right), second = lanes_load(right + 16);
        for (int a = 0; a < TILE_ROWS; a++) {
            sum[a][0] += first * left[a];
            sum[a][1] += second * left[a];
        }
    }
    for (int a = 0; a < TILE_ROWS; a++)
        for (int b = 0; b < TILE_COLS; b++)
            job->gram[(i + a) * job->cols + j + b] += (double)sum[a][b / 16][b % 16];
}

static void part_tile(const struct gram_job *job, int64_t i, int64_t j, int64_t i_end,
                      int64_t j_end)
{
    for (int64_t a = i; a < i_end; a++)
        for (int64_t b = j; b < j_end; b++) {
            float sum = 0;
            for (int64_t r = 0; r < job->rows; r++)
                sum += job->right[r * job->stride + b] * job->left[r * job->left_stride + a];
            job->gram[a * job->cols + b] += (double)sum;
        }
}

static void tile_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct gram_job *job = argument;
    for (int64_t i = begin * TILE_ROWS; i < end * TILE_ROWS; i += TILE_ROWS)
        for (int64_t j = job->symmetric ? i / TILE_COLS * TILE_COLS : 0; j < job->cols;
             j += TILE_COLS) {
            if (i + TILE_ROWS <= job->left_cols && j + TILE_COLS <= job->cols) {
                whole_tile(job, i, j);
                continue;
            }
            part_tile(job, i, j, i + TILE_ROWS < job->left_cols ? i + TILE_ROWS : job->left_cols,
                      j + TILE_COLS < job->cols ? j + TILE_COLS : job->cols);
        }
}

static void add(const struct gram_job *all, struct thread_pool *pool)
{
    for (int64_t at = 0; at < all->rows; at += BATCH_ROWS) {
        struct gram_job job = *all;
        job.left += at * all->left_stride;
        job.right += at * all->stride;
        job.rows = all->rows - at < BATCH_ROWS ? all->rows - at : BATCH_ROWS;
        thread_pool_for(pool, (job.left_cols + TILE_ROWS - 1) / TILE_ROWS, 1, tile_rows, &job);
    }
}

void gram_add(double *gram, int64_t cols, const float *x, int64_t rows, int64_t stride,
              struct thread_pool *pool)
{
    struct gram_job job = {gram, x, x, cols, cols, rows, stride, stride, true};
    add(&job, pool);
}

void gram_add_diagonal(double *gram, int64_t cols, const float *x, int64_t rows, int64_t stride)
{
    float *sums = must_alloc((size_t)cols * sizeof *sums);
    for (int64_t at = 0; at < rows; at += BATCH_ROWS) {
        memset(sums, 0, (size_t)cols * sizeof *sums);
        for (int64_t r = at; r < rows && r < at + BATCH_ROWS; r++)
            for (int64_t k = 0; k < cols; k++)
                sums[k] += x[r * stride + k] * x[r * stride + k];
        for (int64_t k = 0; k < cols; k++)
            gram[k * cols + k] += (double)sums[k];
    }
    free(sums);
}

void cross_gram_add(double *gram, const float *left, int64_t left_cols, const float *right,
                    int64_t right_cols, int64_t rows, struct thread_pool *pool)
{
    struct gram_job job = {gram, left,      right,      left_cols, right_cols,
                           rows, left_cols, right_cols, false};
    add(&job, pool);
}

void gram_mirror(double *gram, int64_t cols)
{
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j < i; j++)
            gram[i * cols + j] = gram[j * cols + i];
}
