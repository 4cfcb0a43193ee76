/* The tile functions for AVX-512 with VNNI: 16 floats a register, 32 registers. */
#if defined(__x86_64__)
#include "kernels/cpu/vector.h"
#include "kernels/cpu/vsq4z_panel.h"

#define ISA(name) name##_avx512

/* 12 rows by 2 panels: 24 accumulators, 2 weights, broadcasts; 24 products for each 2 loads of
 * weights. 7 to 9 tokens in flight are the usual decode batch, so every count up to 12 has its own
 * tile. */
#define NATIVE_ROWS      12
#define NATIVE_TILES(X)  X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define SCORE_QUERIES    12
#define SCORE_TILES(X)   X(12) X(6) X(4) X(3) X(2) X(1)
#define SCORE_ITEMS      2
#define SCORE_MOST_ITEMS 4
#define VALUE_QUERIES    6
#define VALUE_REGISTERS  4
#define VALUE_TILES(X)   X(6) X(3) X(2) X(1)

#include "kernels/cpu/row_tile.h"
#include "kernels/cpu/head_tile.h"
#include "kernels/cpu/native_tile.h"
#include "kernels/cpu/attend_tile.h"
#include "kernels/cpu/vsq4z_tile.h"

#include "kernels/cpu/int8_avx512.h"
#include "kernels/cpu/vsq4z_avx512.h"

const struct cpu_kernels cpu_kernels_avx512 = {
    .backend_name = "cpu-avx512",
    .w8_rows = W8_ROWS,
    .native_rows = NATIVE_ROWS,
    .vsq4z_rows = VSQ4Z_ROWS,
    .expanded_rows = W8_ROWS,
    .rmsnorm = ISA(rmsnorm),
    .rotate = ISA(rotate),
    .to_bf16 = ISA(to_bf16),
    .split_outliers = ISA(split_outliers),
    .largest = ISA(largest),
    .quantize = ISA(quantize),
    .product_w8 = product_w8,
    .product_native = ISA(product_native),
    .sums_w8 = sums_w8,
    .product_vsq4z = product_vsq4z,
    .expand_vsq4z = expand_vsq4z,
    .sums_vsq4z = sums_vsq4z,
    .attend = ISA(attend),
    .attend_merge = ISA(attend_merge),
    .exp = ISA(exp),
};
#endif
