/* GPTQ (arXiv 2210.17323) for VSQ4z: columns are quantized one after another, and what a column's
 * rounding does to the product is made up for by the columns that are still to come.
 *
 * The row scale is given. A vector's scale and zero point are chosen when its first column comes
 * up, on the weights as they have been corrected until then (the paper's group-wise parameters).
 * With U^T U = H^-1, H the damped X^T X (its equations 2 and 3):
 *
 *     e = (w_k - quantized w_k) / U_kk;   w_j -= e U_kj  for j > k
 */
#ifndef QUANT_GPTQ_H
#define QUANT_GPTQ_H

#include "base/thread_pool.h"
#include "quant/vsq4z.h"

#include <stdbool.h>

struct gptq_factor {
    int64_t cols;
    float *u;          /* [cols][cols] upper triangular */
    float *importance; /* [cols] 1 / U_kk^2: what an error in column k costs in the end */
};

/* Of the whole symmetric gram[cols][cols]; `damping` times the mean of its diagonal is added to the
 * diagonal (0.01 in the paper). A column that no activation reaches counts as independent. False
 * when it is not positive definite even so. Free with gptq_factor_free. */
bool gptq_factor_make(const double *gram, int64_t cols, double damping, struct thread_pool *pool,
                      struct gptq_factor *out);
void gptq_factor_free(struct gptq_factor *factor);

/* One row: weights[cols] are read, work[cols] is scratch, row->row_scale and row->cols are given.
 */
void vsq4z_gptq_row(const struct gptq_factor *factor, const float *weights, float *work,
                    struct vsq4z_row *row);

/* e[rows][cols] becomes e H^-1. */
void gptq_solve_rows(const struct gptq_factor *factor, double *e, int64_t rows,
                     struct thread_pool *pool);

#endif
