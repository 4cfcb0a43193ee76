/* The factor that GPTQ needs (arXiv 2210.17323, section 3.3, step 3): upper triangular U with
 * H^-1 = U^T U.
 *
 * H = R R^T with R upper triangular is a Cholesky factorization from the last index to the first;
 * then U = R^-1. Two thirds of n^3 multiply-adds, and H^-1 itself is never formed.
 */
#ifndef QUANT_CHOLESKY_H
#define QUANT_CHOLESKY_H

#include "base/thread_pool.h"

#include <stdbool.h>

/* h[n][n] symmetric (its upper half is read) becomes U (zeros below the diagonal). False when h is
 * not positive definite, its contents are lost then. The bits do not depend on the threads. */
bool inverse_factor(double *h, int64_t n, struct thread_pool *pool);

#endif
