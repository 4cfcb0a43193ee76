/* The tile functions for AVX-512 with VNNI: 16 floats a register, 32 registers. */
#if defined(__x86_64__)
#include "kernels/cpu/vector.h"

#define ISA(name) name##_avx512

/* 12 rows by 2 panels: 24 accumulators, 2 weights, broadcasts; 24 products for each 2 loads of
 * weights. 7 to 9 tokens in flight are the usual decode batch, so every count up to 12 has its own
 * tile. */
#define NATIVE_ROWS     12
#define NATIVE_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define SCORE_QUERIES   12
#define SCORE_TILES(X)  X(12) X(6) X(4) X(3) X(2) X(1)
#define VALUE_QUERIES   6
#define VALUE_REGISTERS 4
#define VALUE_TILES(X)  X(6) X(3) X(2) X(1)

#include "kernels/cpu/row_tile.h"
#include "kernels/cpu/native_tile.h"
#include "kernels/cpu/attend_tile.h"

#define W8_ROWS     12
#define W8_TILES(X) NATIVE_TILES(X)

/* u8 weights in a register, four activations of a row broadcast from memory: exact int32 sums. */
INLINE void w8_sums(const struct product *p, int64_t panel, int64_t row, const int C, const int R,
                    __m512i sum[W8_ROWS][2])
{
    const unsigned char *w = weight_panel(p->w, panel), *next = weight_panel(p->w, panel + C - 1);
    const int8_t *a = p->in.q8 + row * p->in.q8_stride;
    const int64_t quads = (p->w->cols + 3) / 4, stride = p->in.q8_stride;
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < C; c++) sum[r][c] =
        _mm512_setzero_si512();
    for (int64_t k = 0; k < quads; k++) {
        __m512i w0 = _mm512_load_si512(w + k * 64), w1 = _mm512_load_si512(next + k * 64);
        UNROLL for (int r = 0; r < R; r++)
        {
            int32_t four;
            __builtin_memcpy(&four, a + r * stride + k * 4, sizeof four);
            __m512i value = _mm512_set1_epi32(four);
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], w0, value);
            if (C == 2) sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], w1, value);
        }
    }
}

INLINE void w8_tile(const struct product *p, int64_t panel, int64_t row, const int C, const int R)
{
    __m512i sum[W8_ROWS][2];
    w8_sums(p, panel, row, C, R, sum);
    UNROLL for (int r = 0; r < R; r++)
    {
        vf y[2][VN] = {};
        UNROLL for (int c = 0; c < C; c++) y[c][0] =
            ISA(w8_value)(p, panel + c, row + r, (vi)sum[r][c], 0);
        ISA(finish_tile)(p, panel, C, row + r, y);
    }
}

INLINE void w8_rows(const struct product *p, int64_t panel, int64_t row, const int C, int rows)
{
    switch (rows) {
#define CASE(R)                       \
    case R:                           \
        w8_tile(p, panel, row, C, R); \
        return;
        W8_TILES(CASE)
#undef CASE
    }
    die("an int8 tile of %d rows", rows);
}

static void product_w8(const struct product *p, int64_t panel, int panels, int64_t row, int rows)
{
    panels == 2 ? w8_rows(p, panel, row, 2, rows) : w8_rows(p, panel, row, 1, rows);
}

static void sums_w8(const struct product *p, int64_t panel, int64_t row, int32_t *sums)
{
    __m512i sum[W8_ROWS][2];
    w8_sums(p, panel, row, 1, 1, sum);
    __m512i unbiased = _mm512_sub_epi32(sum[0][0], _mm512_set1_epi32(128 * p->in.sum[row]));
    _mm512_storeu_si512(sums, unbiased);
}

const struct cpu_kernels cpu_kernels_avx512 = {
    .backend_name = "cpu-avx512",
    .w8_rows = W8_ROWS,
    .native_rows = NATIVE_ROWS,
    .rmsnorm = ISA(rmsnorm),
    .quantize = ISA(quantize),
    .product_w8 = product_w8,
    .product_native = ISA(product_native),
    .sums_w8 = sums_w8,
    .attend = ISA(attend),
    .attend_merge = ISA(attend_merge),
    .exp = ISA(exp),
};
#endif
