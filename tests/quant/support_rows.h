/* Rows of weights for the tests of quant/: the distributions of quantization.md, section 2, and
 * rows that break careless code. */
#ifndef TESTS_QUANT_SUPPORT_ROWS_H
#define TESTS_QUANT_SUPPORT_ROWS_H

#include "base/rng.h"
#include "quant/vsq4z.h"

#include <stdbool.h>
#include <stdint.h>

enum distribution { GAUSS, LAPLACE, STUDENT_T5 };

void fill_row(struct rng *rng, enum distribution distribution, float *out, int64_t cols);

/* Zeros, one outlier, constants, denormals, huge and tiny ones, an outlier in the last column,
 * alternating signs, ...; returns false behind the last one. `name` for messages. */
bool adversarial_row(int index, float *out, int64_t cols, const char **name);

/* Lengths with every tail: 1 to 40, around 64, 256 and 576. Ends with 0. */
extern const int64_t row_lengths[];

/* A row with its arrays. */
struct vsq4z_row row_open(int64_t cols);
void row_close(struct vsq4z_row *row);

double sum_of_squares(const float *x, int64_t count);
double squared_distance(const float *a, const float *b, int64_t count);

#endif
