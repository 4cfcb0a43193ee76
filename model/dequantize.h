/* The published layouts of weights in files, and their exact values.
 *
 *   F32, F16, BF16   plain, little-endian
 *
 * blocks of 32; byte i of q4 holds weight i in its low and weight i + 16 in its high half
 *   Q8_0     f16 d, int8 q[32]                 value = d * q
 *   Q4_0     f16 d, q4[16]                     value = d * (q - 8)
 *   Q4_1     f16 d, f16 m, q4[16]              value = d * q + m
 *   Q5_0     f16 d, u32 fifth bits, q4[16]     value = d * (q - 16)
 *   Q5_1     f16 d, f16 m, u32, q4[16]         value = d * q + m
 *   IQ4_NL   f16 d, q4[16]                     value = d * table[q]
 *
 * blocks of 256, whose groups of 16 or 32 weights have scales (and minimums) of 4, 6 or 8 bits
 *   Q2_K   u8 scale and minimum[16], q2[64], f16 d, f16 dmin    value = d scale * q - dmin minimum
 *   Q3_K   third bits[32], q2[64], 6-bit scales[12], f16 d      value = d (scale - 32) * (q - 4)
 *   Q4_K   f16 d, f16 dmin, 6-bit pairs[12], q4[128]            value = d scale * q - dmin minimum
 *   Q5_K   f16 d, f16 dmin, 6-bit pairs[12], fifth bits[32], q4[128]           the same
 *   Q6_K   q4[128], q2[64], int8 scale[16], f16 d               value = d scale * (q - 32)
 *
 * All arithmetic is f32, every product rounded before it is used, so that the results are bit for
 * bit those of the `gguf` package (tests/make_dequant_data.py).
 */
#ifndef MODEL_DEQUANTIZE_H
#define MODEL_DEQUANTIZE_H

#include "model/checkpoint.h"

/* For refusals: what can be read. */
#define FILE_TYPES_SUPPORTED "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to Q6_K and IQ4_NL"

/* Weights per block and bytes per block; a row is a whole number of blocks. */
int32_t file_type_block(enum file_type type);
int32_t file_type_block_bytes(enum file_type type);

/* Bytes of `count` weights of a row, which is a multiple of the block. */
static inline size_t file_type_bytes(enum file_type type, int64_t count)
{
    return (size_t)(count / file_type_block(type)) * (size_t)file_type_block_bytes(type);
}

/* count weights (a multiple of the block) of a type up to IQ4_NL from `data`, which may be
 * unaligned, to out[count]. */
void dequantize(enum file_type type, const void *data, int64_t count, float *out);

#endif
