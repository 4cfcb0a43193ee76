/* VSQ4z-16: 4-bit weights with a 4-bit scale and a zero point for every 16, after VS-Quant
 * (arXiv 2102.04503, section 4: two-level scales along the reduction dimension).
 *
 *     w[k] = row_scale * s * (q[k] - z)       s in 0..15, q in 0..15, z in {7, 8}
 *
 * s and z belong to a vector of 16 consecutive inputs, row_scale to an output. |s * (q - z)| <=
 * 120, so a matrix of this format *is* an int8 matrix with one f32 scale an output: every backend,
 * and every path of one (straight from 4 bits, or expanded to int8), has the same int32 sums, bit
 * for bit, and floating point begins in the epilogue. 4 + 5 / 16 = 4.31 bits a weight.
 *
 * The bytes, row-major, the same in a checkpoint and in memory before a backend packs them; n is
 * the number of vectors of a row, ceil(cols / 16):
 *
 *     codes      [rows][8 n]              two a byte, the even input in the low nibble
 *     scales     [rows][ceil(n / 2)]      two a byte, the even vector in the low nibble
 *     zeros      [rows][ceil(n / 8)]      one bit a vector, the lowest first: 1 means z = 8
 *     row_scale  [rows]                   f32, finite and >= 0
 *
 * Inputs behind the last column have q = z, so they weigh 0. Bits behind the last vector are 0.
 */
#ifndef QUANT_VSQ4Z_H
#define QUANT_VSQ4Z_H

#include <stddef.h>
#include <stdint.h>

#define VSQ4Z_VECTOR    16 /* inputs that share a scale and a zero point */
#define VSQ4Z_MAX_SCALE 15
#define VSQ4Z_MAX_CODE  15
#define VSQ4Z_MAX_LEVEL 120 /* of |s * (q - z)| */

/* Inputs of a row at most: 120 * 127 for each still fits an int32 sum. */
#define VSQ4Z_MAX_COLS (INT32_MAX / (VSQ4Z_MAX_LEVEL * 127) / VSQ4Z_VECTOR * VSQ4Z_VECTOR)

/* A view; whoever made it owns the bytes. */
struct vsq4z_matrix {
    int64_t rows, cols;
    const uint8_t *codes, *scales, *zeros;
    const float *row_scale;
};

static inline int64_t vsq4z_vectors(int64_t cols)
{
    return (cols + VSQ4Z_VECTOR - 1) / VSQ4Z_VECTOR;
}

/* Bytes of one row of each array. */
static inline int64_t vsq4z_code_bytes(int64_t cols)
{
    return vsq4z_vectors(cols) * VSQ4Z_VECTOR / 2;
}

static inline int64_t vsq4z_scale_bytes(int64_t cols)
{
    return (vsq4z_vectors(cols) + 1) / 2;
}

static inline int64_t vsq4z_zero_bytes(int64_t cols)
{
    return (vsq4z_vectors(cols) + 7) / 8;
}

/* The arrays while they are written; caller owns them. */
struct vsq4z_arrays {
    uint8_t *codes, *scales, *zeros;
    float *row_scale;
};

/* One row while it is made, a byte an element: codes[16 vectors], scales[vectors], zeros[vectors]
 * (7 or 8). Caller owns the arrays. */
struct vsq4z_row {
    int64_t cols;
    float row_scale;
    uint8_t *codes, *scales, *zeros;
};

/* Bytes of the four arrays together. */
size_t vsq4z_matrix_bytes(int64_t rows, int64_t cols);

/* A row to the bytes of row `index`; its f32 weights into out[cols]. */
void vsq4z_store_row(const struct vsq4z_row *row, int64_t index, const struct vsq4z_arrays *to);
void vsq4z_row_values(const struct vsq4z_row *row, float *out);

/* q, s and z of one input. */
static inline int32_t vsq4z_code(const struct vsq4z_matrix *m, int64_t row, int64_t k)
{
    uint8_t two = m->codes[row * vsq4z_code_bytes(m->cols) + k / 2];
    return k % 2 ? two >> 4 : two & 15;
}

static inline int32_t vsq4z_scale(const struct vsq4z_matrix *m, int64_t row, int64_t vector)
{
    uint8_t two = m->scales[row * vsq4z_scale_bytes(m->cols) + vector / 2];
    return vector % 2 ? two >> 4 : two & 15;
}

static inline int32_t vsq4z_zero(const struct vsq4z_matrix *m, int64_t row, int64_t vector)
{
    uint8_t eight = m->zeros[row * vsq4z_zero_bytes(m->cols) + vector / 8];
    return 7 + (eight >> vector % 8 & 1);
}

/* The int8 weight s * (q - z). */
static inline int32_t vsq4z_level(const struct vsq4z_matrix *m, int64_t row, int64_t k)
{
    int64_t vector = k / VSQ4Z_VECTOR;
    return vsq4z_scale(m, row, vector) * (vsq4z_code(m, row, k) - vsq4z_zero(m, row, vector));
}

#endif
