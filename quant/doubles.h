/* Rows of doubles, the same bits on every instruction set (lanes.h). Internal to quant/. */
#ifndef QUANT_DOUBLES_H
#define QUANT_DOUBLES_H

#include <stdint.h>

/* Sum of a[i] * b[i]: eight sums, element i to sum i mod 8, added in order at the end. */
double doubles_dot(const double *a, const double *b, int64_t count);

/* y += factor * x */
void doubles_add_scaled(double *y, double factor, const double *x, int64_t count);

#endif
