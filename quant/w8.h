/* W8: int8 weights with a bf16 scale for every 64 inputs of an output, 8.25 bits a weight.
 *
 *     w[k] = scale * q[k]                     q in -127..127
 *
 * The companion of VSQ4z where 4 bits cost too much (the embedding, a tied head, whatever is kept),
 * and the format that a model of any file is served in by default. One scale an output costs
 * SmolLM2-135M 0.6 % of perplexity, because the columns that meet a token's large values are
 * quantized no better than the rest; a scale for 64 inputs halves the error of every weight for
 * 0.25 bits. A kernel's int32 sums run over one group: they cannot overflow, whatever the number of
 * inputs.
 *
 * The bytes, row-major:
 *
 *     values  [rows][cols]                 int8
 *     scales  [rows][ceil(cols / 64)]      bf16, finite and >= 0
 */
#ifndef QUANT_W8_H
#define QUANT_W8_H

#include "quant/clip.h"

#include <stdint.h>
#include <string.h>

#define W8_GROUP 64 /* inputs that share a scale */

/* A view; whoever made it owns the bytes. */
struct w8_matrix {
    int64_t rows, cols;
    const int8_t *values;
    const uint16_t *scales; /* bf16 bits */
};

static inline int64_t w8_groups(int64_t cols)
{
    return (cols + W8_GROUP - 1) / W8_GROUP;
}

/* Bytes of both arrays. */
static inline int64_t w8_matrix_bytes(int64_t rows, int64_t cols)
{
    return rows * (cols + (int64_t)sizeof(uint16_t) * w8_groups(cols));
}

/* The scale of input k. */
static inline float w8_scale(const struct w8_matrix *m, int64_t row, int64_t k)
{
    uint32_t bits = (uint32_t)m->scales[row * w8_groups(m->cols) + k / W8_GROUP] << 16;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* One row: values[cols], scales[groups]. A group's scale is the smallest bf16 that keeps its
 * largest weight within 127. Weights have passed quant/check.h; a group below 1e-30 is zeros.
 * Returns the squared error. */
double w8_quantize_row(const float *weights, int64_t cols, int8_t *values, uint16_t *scales);

/* The same for groups of any size, `cols` for a scale a channel, and any clip; values beyond a clip
 * become +-127. scales[ceil(cols / group)]. */
double w8_quantize_groups(const float *weights, int64_t cols, int64_t group, enum clip clip,
                          int8_t *values, uint16_t *scales);

#endif
