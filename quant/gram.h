/* X^T X of the activations that a product sees: what decides which errors of its weights matter.
 *
 * gram[cols][cols] is symmetric, in double; only the tiles on and above the diagonal are summed,
 * gram_mirror fills the rest. An element's sum runs over the rows in order, 512 at a time in f32,
 * so the bits do not depend on the number of threads. Cost: rows * cols^2 / 2 multiply-adds.
 */
#ifndef QUANT_GRAM_H
#define QUANT_GRAM_H

#include "base/thread_pool.h"

/* gram += x^T x, x[rows][stride]. */
void gram_add(double *gram, int64_t cols, const float *x, int64_t rows, int64_t stride,
              struct thread_pool *pool);
void gram_mirror(double *gram, int64_t cols);

/* The diagonal alone, in the same order. */
void gram_add_diagonal(double *gram, int64_t cols, const float *x, int64_t rows, int64_t stride);

/* gram[left_cols][right_cols] += left^T right, of `rows` rows each, all of it. */
void cross_gram_add(double *gram, const float *left, int64_t left_cols, const float *right,
                    int64_t right_cols, int64_t rows, struct thread_pool *pool);

#endif
