#include "quant/gram.h"
#include "quant/lanes.h"

#define TILE_ROWS  8   /* of the gram matrix: broadcast */
#define TILE_COLS  32  /* two registers of 16 */
#define BATCH_ROWS 512 /* of x, summed in f32 */

struct gram_job {
    double *gram;
    const float *x;
    int64_t cols, rows, stride;
};

/* gram[i .. i + 8)[j .. j + 32) += x^T x, all inside. Sixteen sums stay in registers. */
EVERY_ISA static void whole_tile(const struct gram_job *job, int64_t i, int64_t j)
{
    lanes sum[TILE_ROWS][2] = {};
    const float *row = job->x;
    for (int64_t r = 0; r < job->rows; r++, row += job->stride) {
        lanes left = lanes_load(row + j), right = lanes_load(row + j + 16);
        for (int a = 0; a < TILE_ROWS; a++) {
            sum[a][0] += left * row[i + a];
            sum[a][1] += right * row[i + a];
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
                sum += job->x[r * job->stride + b] * job->x[r * job->stride + a];
            job->gram[a * job->cols + b] += (double)sum;
        }
}

static void tile_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct gram_job *job = argument;
    for (int64_t i = begin * TILE_ROWS; i < end * TILE_ROWS; i += TILE_ROWS)
        for (int64_t j = i / TILE_COLS * TILE_COLS; j < job->cols; j += TILE_COLS) {
            if (i + TILE_ROWS <= job->cols && j + TILE_COLS <= job->cols) {
                whole_tile(job, i, j);
                continue;
            }
            part_tile(job, i, j, i + TILE_ROWS < job->cols ? i + TILE_ROWS : job->cols,
                      j + TILE_COLS < job->cols ? j + TILE_COLS : job->cols);
        }
}

void gram_add(double *gram, int64_t cols, const float *x, int64_t rows, int64_t stride,
              struct thread_pool *pool)
{
    for (int64_t at = 0; at < rows; at += BATCH_ROWS) {
        int64_t count = rows - at < BATCH_ROWS ? rows - at : BATCH_ROWS;
        struct gram_job job = {gram, x + at * stride, cols, count, stride};
        thread_pool_for(pool, (cols + TILE_ROWS - 1) / TILE_ROWS, 1, tile_rows, &job);
    }
}

void gram_mirror(double *gram, int64_t cols)
{
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j < i; j++)
            gram[i * cols + j] = gram[j * cols + i];
}
