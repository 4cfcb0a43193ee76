/* A8: activations as int8, the reference of what a backend computes as a step runs.
 *
 *     x[k] ~ scale * q[k]                     q in -127..127, scale = max |x| / 127
 *
 * One scale a token, or one for every `group` inputs (VS-Quant's activation vectors, for products
 * whose inputs have outliers). Where it is one a token, the CPU backend first takes the token's
 * largest values out (kernels/cpu/cpu.h, OUTLIERS) and multiplies those in f32.
 */
#ifndef QUANT_A8_H
#define QUANT_A8_H

#include <stdint.h>

/* The `count` (at most cols) values of largest magnitude, the lower column among equals: larger
 * first into columns and values, and 0 in x. Fewer where x has fewer that are not 0: value 0. */
void a8_split_outliers(float *x, int64_t cols, int count, int32_t *columns, float *values);

/* x[cols] finite; q[cols], scales[ceil(cols / group)]. A group below 1e-30 is zeros. */
void a8_quantize_groups(const float *x, int64_t cols, int64_t group, int8_t *q, float *scales);

#endif
