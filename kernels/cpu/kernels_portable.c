/* The tile functions in plain C: four floats a register by GCC's vector types, no FMA. */
#include "kernels/cpu/vector.h"

#define ISA(name) name##_portable

#define W8_ROWS         4
#define NATIVE_ROWS     2
#define NATIVE_TILES(X) X(1) X(2)
#define SCORE_QUERIES   2
#define SCORE_TILES(X)  X(2) X(1)
#define VALUE_QUERIES   2
#define VALUE_REGISTERS 4
#define VALUE_TILES(X)  X(2) X(1)

#include "kernels/cpu/row_tile.h"
#include "kernels/cpu/native_tile.h"
#include "kernels/cpu/attend_tile.h"

/* 16 sums of one row and panel: acc[o] = sum of u8 weight * s8 activation. */
static void panel_sums(const struct product *p, int64_t panel, int64_t row, int32_t acc[PANEL])
{
    const unsigned char *w = weight_panel(p->w, panel);
    const int8_t *a = p->in.q8 + row * p->in.q8_stride;
    int64_t quads = (p->w->cols + 3) / 4;
    for (int o = 0; o < PANEL; o++)
        acc[o] = 0;
    for (int64_t k = 0; k < quads; k++, w += 4 * PANEL, a += 4)
        for (int o = 0; o < PANEL; o++)
            acc[o] +=
                w[4 * o] * a[0] + w[4 * o + 1] * a[1] + w[4 * o + 2] * a[2] + w[4 * o + 3] * a[3];
}

static void product_w8(const struct product *p, int64_t panel, int panels, int64_t row, int rows)
{
    for (int r = 0; r < rows; r++) {
        vf y[2][VN] = {};
        for (int c = 0; c < panels; c++) {
            int32_t acc[PANEL];
            panel_sums(p, panel + c, row + r, acc);
            for (int j = 0; j < VN; j++) {
                vi sums;
                __builtin_memcpy(&sums, acc + j * VL, sizeof sums);
                y[c][j] = ISA(w8_value)(p, panel + c, row + r, sums, j);
            }
        }
        ISA(finish_tile)(p, panel, panels, row + r, y);
    }
}

static void sums_w8(const struct product *p, int64_t panel, int64_t row, int32_t *sums)
{
    panel_sums(p, panel, row, sums);
    for (int o = 0; o < PANEL; o++)
        sums[o] -= 128 * p->in.sum[row];
}

const struct cpu_kernels cpu_kernels_portable = {
    .backend_name = "cpu-portable",
    .w8_rows = W8_ROWS,
    .native_rows = NATIVE_ROWS,
    .rmsnorm = ISA(rmsnorm),
    .split_outliers = ISA(split_outliers),
    .quantize = ISA(quantize),
    .product_w8 = product_w8,
    .product_native = ISA(product_native),
    .sums_w8 = sums_w8,
    .attend = ISA(attend),
    .attend_merge = ISA(attend_merge),
    .exp = ISA(exp),
};
