/* The tile functions for AVX2 with FMA and F16C: 8 floats a register, 16 registers. */
#if defined(__x86_64__)
#include "kernels/cpu/vector.h"
#include "kernels/cpu/vsq4z_panel.h"

#define ISA(name) name##_avx2

#define NATIVE_ROWS \
    3 /* by 2 panels of 2 registers: 12 accumulators, 4 weights in memory operands */
#define NATIVE_TILES(X)  X(1) X(2) X(3)
#define SCORE_QUERIES    6
#define SCORE_TILES(X)   X(6) X(4) X(3) X(2) X(1)
#define SCORE_ITEMS      1
#define SCORE_MOST_ITEMS 1
#define VALUE_QUERIES    3
#define VALUE_REGISTERS  4
#define VALUE_TILES(X)   X(3) X(2) X(1)

#include "kernels/cpu/row_tile.h"
#include "kernels/cpu/head_tile.h"
#include "kernels/cpu/native_tile.h"
#include "kernels/cpu/attend_tile.h"
#include "kernels/cpu/vsq4z_tile.h"
#include "kernels/cpu/vsq4z_avx2.h"

#define W8_ROWS     4
#define W8_TILES(X) X(1) X(2) X(3) X(4)

/* w * a for s8 by s8: |a| as u8 times w with a's sign. Pairs stay within 2 * 127 * 127 = 32258, so
 * the saturating vpmaddubsw is exact; vpmaddwd adds the pairs to int32. */
TILE __m256i dot4(__m256i sum, __m256i w, __m256i a, __m256i magnitude)
{
    __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(w, a));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* One panel and group, R rows: exact int32 sums. */
TILE void w8_sums(const struct product *p, int64_t panel, int64_t group, int64_t row, const int R,
                  __m256i sum[W8_ROWS][2])
{
    const unsigned char *w = weight_panel(p->w, panel) + group * W8_GROUP * PANEL;
    const int8_t *a = p->in.q8 + row * p->in.q8_stride + group * W8_GROUP;
    const int64_t quads = ISA(w8_quads)(p, group), stride = p->in.q8_stride;
    const __m256i bias = _mm256_set1_epi8((char)0x80);
    UNROLL for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (int64_t k = 0; k < quads; k++) {
        __m256i w0 = _mm256_load_si256((const void *)(w + k * 64));
        __m256i w1 = _mm256_load_si256((const void *)(w + k * 64 + 32));
        w0 = _mm256_xor_si256(w0, bias);
        w1 = _mm256_xor_si256(w1, bias);
        UNROLL for (int r = 0; r < R; r++)
        {
            int32_t four;
            __builtin_memcpy(&four, a + r * stride + k * 4, sizeof four);
            __m256i value = _mm256_set1_epi32(four), magnitude = _mm256_abs_epi8(value);
            sum[r][0] = dot4(sum[r][0], w0, value, magnitude);
            sum[r][1] = dot4(sum[r][1], w1, value, magnitude);
        }
    }
}

TILE void w8_tile(const struct product *p, int64_t panel, int panels, int64_t row, const int R)
{
    const int64_t groups = w8_groups(p->w->cols);
    vf y[W8_ROWS][2][VN] = {};
    __m256i sum[W8_ROWS][2];
    for (int c = 0; c < panels; c++) {
        for (int64_t group = 0; group < groups; group++) {
            w8_sums(p, panel + c, group, row, R, sum);
            for (int r = 0; r < R; r++)
                for (int j = 0; j < VN; j++)
                    y[r][c][j] =
                        ISA(w8_add_group)(p, panel + c, group, j, (vi)sum[r][j], y[r][c][j]);
        }
        for (int r = 0; r < R; r++)
            for (int j = 0; j < VN; j++)
                y[r][c][j] = ISA(w8_value)(p, panel + c, row + r, y[r][c][j], j);
    }
    for (int r = 0; r < R; r++)
        ISA(finish_tile)(p, panel, panels, row + r, y[r]);
}

static void product_w8(const struct product *p, int64_t panel, int panels, int64_t row, int rows)
{
    switch (rows) {
#define CASE(R)                            \
    case R:                                \
        w8_tile(p, panel, panels, row, R); \
        return;
        W8_TILES(CASE)
#undef CASE
    }
    die("an int8 tile of %d rows", rows);
}

static void sums_w8(const struct product *p, int64_t panel, int64_t row, int64_t group,
                    int32_t *sums)
{
    __m256i sum[W8_ROWS][2];
    w8_sums(p, panel, group, row, 1, sum);
    _mm256_storeu_si256((void *)sums, sum[0][0]);
    _mm256_storeu_si256((void *)(sums + 8), sum[0][1]);
}

const struct cpu_kernels cpu_kernels_avx2 = {
    .backend_name = "cpu-avx2",
    .w8_rows = W8_ROWS,
    .native_rows = NATIVE_ROWS,
    .vsq4z_rows = VSQ4Z_ROWS,
    .rmsnorm = ISA(rmsnorm),
    .rotate = ISA(rotate),
    .to_bf16 = ISA(to_bf16),
    .split_outliers = ISA(split_outliers),
    .largest = ISA(largest),
    .quantize = ISA(quantize),
    .vector_sums = vector_sums,
    .product_w8 = product_w8,
    .product_native = ISA(product_native),
    .sums_w8 = sums_w8,
    .product_vsq4z = product_vsq4z,
    .sums_vsq4z = sums_vsq4z,
    .attend = ISA(attend),
    .attend_merge = ISA(attend_merge),
    .exp = ISA(exp),
};
#endif
