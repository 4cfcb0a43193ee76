/* kernels/cuda: the first CUDA kernels, as plain C functions. They prove the seam (one format, one
 * int32 sum for every backend); a whole backend behind kernels.h is not here yet.
 *
 * Pointers named in a struct of this header are device memory unless a comment says otherwise.
 * `stream` is a cudaStream_t. A function returns ST_OK once its kernel is launched, ST_INVALID for
 * arguments it does not take, ST_NO_DEVICE where there is no GPU or driver, ST_INTERNAL for
 * anything else that CUDA reports. reference.c has a function of the same name with _reference
 * behind it for each kernel: plain C on host memory, written without a look at the kernel.
 *
 * A token's activations are made and multiplied exactly as kernels/cpu does it (cpu.h): same int8,
 * same scale, same outliers as its AVX2 and AVX-512 forms, bit for bit, and the same int32 sums.
 */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include "base/status.h"
#include "quant/vsq4z.h"

#include <stddef.h>
#include <stdint.h>

#define CUDA_OUTLIERS  4  /* columns of a token that are multiplied in f32 */
#define CUDA_GEMM_ROWS 64 /* of one cuda_vsq4z_gemm */

/* The CUDA_OUTLIERS values of largest magnitude of a token; larger first, the lower column among
 * equals. Where a token has fewer that are not 0: column 0, value 0. */
struct cuda_outliers {
    int32_t column[CUDA_OUTLIERS];
    float value[CUDA_OUTLIERS];
};

/* int8 activations of `rows` tokens. */
struct cuda_activations {
    int64_t rows, cols;
    int64_t q8_stride;              /* bytes from row to row, a multiple of 16, at least cols */
    int8_t *q8;                     /* aligned to 16; zero from cols to the next multiple of 16 */
    float *scale;                   /* [rows] value = q8 * scale */
    int32_t *sum;                   /* [rows] of q8 */
    struct cuda_outliers *outliers; /* [rows] */
};

/* Fills `out`, whose rows and cols say how much of x is read. x [rows][x_stride] f32, aligned to
 * 16, x_stride a multiple of 4. norm [cols] f32, aligned to 16: h = x / sqrt(mean of squares + eps)
 * * norm is what becomes int8; NULL: x itself. */
struct cuda_norm_args {
    const float *x;
    int64_t x_stride; /* floats */
    const float *norm;
    float eps;
    struct cuda_activations out;
};
enum status cuda_rmsnorm_quantize(const struct cuda_norm_args *args, void *stream);
enum status cuda_rmsnorm_quantize_reference(const struct cuda_norm_args *args);

/* A VSQ4z matrix as the GEMM reads it.
 *
 * A tile is 16 outputs by 128 inputs, what a warp multiplies between two looks at the pipeline; its
 * 1104 bytes lie as the warp's lanes want them, so that every access is 16 bytes a lane, coalesced
 * and without bank conflicts:
 *
 *     codes   [2][32 lanes][4 words]  half j is outputs 8 j .. 8 j + 7. Lane 4 g + t has of output
 *                                     8 j + g in byte i of word w: input 32 w + 4 t + i in the low
 *                                     nibble, 32 w + 16 + 4 t + i in the high one: the registers b0
 *                                     and b1 of mma.m16n8k32, each of one vector of the format.
 *     scales  [16 outputs] u32        vector v in bits 4 v .. 4 v + 3
 *     zeros   [16 outputs] u8         vector v in bit v: 1 means z = 8
 *
 * Tiles are [outputs / 16][inputs / 128], both rounded up. What is behind the matrix's end has
 * scale 0, so it weighs 0. 4.3125 bits a weight, as in the file.
 */
#define CUDA_TILE_OUTPUTS 16
#define CUDA_TILE_INPUTS  128
#define CUDA_TILE_SCALES  1024 /* where they begin */
#define CUDA_TILE_ZEROS   1088
#define CUDA_TILE_BYTES   1104

struct cuda_vsq4z {
    int64_t outputs, cols;
    const uint8_t *tiles;   /* cuda_vsq4z_tile_bytes of them, aligned to 16 */
    const float *row_scale; /* [outputs] */
};
size_t cuda_vsq4z_tile_bytes(int64_t outputs, int64_t cols);
/* From canonical rows to tiles, both in host memory. */
void cuda_vsq4z_pack(const struct vsq4z_matrix *matrix, uint8_t *tiles);

/* out[row][output] = (S * scale + the outliers times their levels, in their order) * row_scale,
 * where S is the exact int32 sum over all inputs of level * q8. */
struct cuda_gemm_args {
    struct cuda_vsq4z w;
    struct cuda_activations in; /* 1..CUDA_GEMM_ROWS rows of w.cols */
    float *out;                 /* [rows][out_stride]; NULL: only the sums are wanted */
    int64_t out_stride;
    int32_t *sums; /* [rows][out_stride] S, for tests; or NULL */
};
enum status cuda_vsq4z_gemm(const struct cuda_gemm_args *args, void *stream);
/* `matrix` stands for args->w, which is not looked at. */
enum status cuda_vsq4z_gemm_reference(const struct cuda_gemm_args *args,
                                      const struct vsq4z_matrix *matrix);

#endif
