/* The published layouts of weights in files, and their exact values.
 *
 *   F32, F16, BF16   plain, little-endian
 *   Q8_0   blocks of 32: f16 d, int8 q[32]           value = d * q
 *   Q4_0   blocks of 32: f16 d, 16 bytes             value = d * (q - 8)
 *   Q4_1   blocks of 32: f16 d, f16 m, 16 bytes      value = d * q + m, the product rounded first
 *
 * In the 4-bit types byte i holds weight i in its low and weight i + 16 in its high half. All
 * arithmetic is f32 without contraction, so that the results are bit for bit those of the `gguf`
 * package (tests/make_dequant_data.py).
 */
#ifndef MODEL_DEQUANTIZE_H
#define MODEL_DEQUANTIZE_H

#include "model/checkpoint.h"

/* For refusals: what can be read. */
#define FILE_TYPES_SUPPORTED "F32, F16, BF16, Q8_0, Q4_0 and Q4_1"

/* Weights per block and bytes per block; a row is a whole number of blocks. */
int32_t file_type_block(enum file_type type);
int32_t file_type_block_bytes(enum file_type type);

/* Bytes of `count` weights of a row, which is a multiple of the block. */
static inline size_t file_type_bytes(enum file_type type, int64_t count)
{
    return (size_t)(count / file_type_block(type)) * (size_t)file_type_block_bytes(type);
}

/* count weights (a multiple of the block) from `data`, which may be unaligned, to out[count]. */
void dequantize(enum file_type type, const void *data, int64_t count, float *out);

#endif
