/* Gram matrices of correlated inputs, as activations are, for the tests of what is computed from
 * them. */
#ifndef TESTS_QUANT_SUPPORT_GRAM_H
#define TESTS_QUANT_SUPPORT_GRAM_H

#include "base/rng.h"

#include <stdint.h>

/* x[rows][cols]: each input is mixed from its own noise, what all share, and its left neighbour;
 * every seventh is ten times as large. */
void fill_inputs(struct rng *rng, float *x, int64_t rows, int64_t cols);

/* X^T X, summed in double; the caller frees it. */
double *exact_gram(const float *x, int64_t rows, int64_t cols, int64_t stride);

/* exact_gram of `rows` such inputs. */
double *correlated_gram(struct rng *rng, int64_t rows, int64_t cols);

/* d' H d */
double quadratic(const double *h, const double *d, int64_t n);

#endif
