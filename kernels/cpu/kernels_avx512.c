/* The tile functions for AVX-512 with VNNI: 16 floats a register, 32 registers. */
#if defined(__x86_64__)
#include "kernels/cpu/vector.h"
#include "kernels/cpu/vsq4z_panel.h"

#define ISA(name) name##_avx512

/* 12 rows by 2 panels: 24 accumulators, 2 weights, broadcasts; 24 products for each 2 loads of
 * weights. 7 to 9 tokens in flight are the usual decode batch, so every count up to 12 has its own
 * tile. */
#define NATIVE_ROWS     12
#define NATIVE_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define SCORE_QUERIES   12
#define SCORE_TILES(X)  X(12) X(6) X(4) X(3) X(2) X(1)
#define SCORE_ITEMS     2
#define VALUE_QUERIES   6
#define VALUE_REGISTERS 4
#define VALUE_TILES(X)  X(6) X(3) X(2) X(1)

#include "kernels/cpu/row_tile.h"
#include "kernels/cpu/native_tile.h"
#include "kernels/cpu/attend_tile.h"
#include "kernels/cpu/vsq4z_tile.h"

#define W8_ROWS     12
#define W8_TILES(X) NATIVE_TILES(X)

/* sum += u8 weights times four s8 activations broadcast from memory. Assembly because GCC 12 copies
 * every accumulator twice a turn around the intrinsic: 195 GOP/s instead of 450. */
#define DOT4(sum, w, a) \
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const int32_t *)(a)))

/* How far ahead of the products weights are fetched: panels follow each other in memory, so this
 * runs on into the next tile's. */
#define PREFETCH_BYTES 2048

/* sum[r] += `quads` quads of a panel of u8 times R rows of s8. Three rows share a pointer, so that
 * the addresses of 12 rows take four registers and no arithmetic. */
INLINE void dot_quads(const unsigned char *w, int64_t quads, const int8_t *a, int64_t stride,
                      const int R, __m512i sum[W8_ROWS])
{
    const int8_t *base[(W8_ROWS + 2) / 3];
    UNROLL for (int r = 0; r < R; r += 3) base[r / 3] = a + r * stride;
    for (const unsigned char *end = w + quads * 64; w < end; w += 64) {
        __m512i column = _mm512_load_si512(w);
        _mm_prefetch((const char *)w + PREFETCH_BYTES, _MM_HINT_T0);
        UNROLL for (int r = 0; r < R; r++) DOT4(sum[r], column, base[r / 3] + r % 3 * stride);
        UNROLL for (int r = 0; r < R; r += 3) base[r / 3] += 4;
    }
}

/* One panel and group, R rows: exact int32 sums. */
INLINE void w8_sums(const struct product *p, int64_t panel, int64_t group, int64_t row, const int R,
                    __m512i sum[W8_ROWS])
{
    UNROLL for (int r = 0; r < R; r++) sum[r] = _mm512_set1_epi32(ISA(w8_bias)(p, row + r, group));
    dot_quads(weight_panel(p->w, panel) + group * W8_GROUP * PANEL, ISA(w8_quads)(p, group),
              p->in.q8 + row * p->in.q8_stride + group * W8_GROUP, p->in.q8_stride, R, sum);
}

INLINE void w8_panel(const struct product *p, int64_t panel, int64_t row, const int R,
                     vf value[W8_ROWS])
{
    const int64_t groups = w8_groups(p->w->cols);
    __m512i sum[W8_ROWS];
    UNROLL for (int r = 0; r < R; r++) value[r] = vf_set(0);
    for (int64_t group = 0; group < groups; group++) {
        w8_sums(p, panel, group, row, R, sum);
        UNROLL for (int r = 0; r < R; r++) value[r] =
            ISA(w8_add_group)(p, panel, group, 0, (vi)sum[r], value[r]);
    }
    UNROLL for (int r = 0; r < R; r++) value[r] = ISA(w8_value)(p, panel, row + r, value[r], 0);
}

INLINE void w8_tile(const struct product *p, int64_t panel, int panels, int64_t row, const int R)
{
    vf y[2][W8_ROWS] = {};
    for (int c = 0; c < panels; c++)
        w8_panel(p, panel + c, row, R, y[c]);
    UNROLL for (int r = 0; r < R; r++)
        ISA(finish_tile)(p, panel, panels, row + r, (vf[2][VN]){{y[0][r]}, {y[1][r]}});
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
    __m512i sum[W8_ROWS];
    w8_sums(p, panel, group, row, 1, sum);
    _mm512_storeu_si512(sums, sum[0]);
}

#include "kernels/cpu/vsq4z_avx512.h"

const struct cpu_kernels cpu_kernels_avx512 = {
    .backend_name = "cpu-avx512",
    .w8_rows = W8_ROWS,
    .native_rows = NATIVE_ROWS,
    .vsq4z_rows = VSQ4Z_ROWS,
    .expanded_rows = W8_ROWS,
    .rmsnorm = ISA(rmsnorm),
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
