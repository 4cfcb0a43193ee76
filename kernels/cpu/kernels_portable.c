/* The tile functions in plain C: four floats a register by GCC's vector types, no FMA. */
#include "kernels/cpu/vector.h"

#define ISA(name) name##_portable

#define W8_ROWS         4
#define NATIVE_ROWS     2
#define NATIVE_TILES(X) X(1) X(2)
#define SCORE_QUERIES   2
#define SCORE_TILES(X)  X(2) X(1)
#define SCORE_ITEMS     1
#define VALUE_QUERIES   2
#define VALUE_REGISTERS 4
#define VALUE_TILES(X)  X(2) X(1)

#include "kernels/cpu/row_tile.h"
#include "kernels/cpu/native_tile.h"
#include "kernels/cpu/attend_tile.h"

/* One row, panel and group: exact int32 sums. */
static void sums_w8(const struct product *p, int64_t panel, int64_t row, int64_t group,
                    int32_t *sums)
{
    const unsigned char *w = weight_panel(p->w, panel) + group * W8_GROUP * PANEL;
    const int8_t *a = p->in.q8 + row * p->in.q8_stride + group * W8_GROUP;
    const int64_t quads = ISA(w8_quads)(p, group);
    for (int o = 0; o < PANEL; o++)
        sums[o] = ISA(w8_bias)(p, row, group);
    for (int64_t k = 0; k < quads; k++, w += 4 * PANEL, a += 4)
        for (int o = 0; o < PANEL; o++)
            sums[o] +=
                w[4 * o] * a[0] + w[4 * o + 1] * a[1] + w[4 * o + 2] * a[2] + w[4 * o + 3] * a[3];
}

static void w8_panel(const struct product *p, int64_t panel, int64_t row, vf y[VN])
{
    const int64_t groups = w8_groups(p->w->cols);
    for (int64_t group = 0; group < groups; group++) {
        int32_t acc[PANEL];
        sums_w8(p, panel, row, group, acc);
        for (int j = 0; j < VN; j++) {
            vi sums;
            __builtin_memcpy(&sums, acc + j * VL, sizeof sums);
            y[j] = ISA(w8_add_group)(p, panel, group, j, sums, y[j]);
        }
    }
    for (int j = 0; j < VN; j++)
        y[j] = ISA(w8_value)(p, panel, row, y[j], j);
}

static void product_w8(const struct product *p, int64_t panel, int panels, int64_t row, int rows)
{
    for (int r = 0; r < rows; r++) {
        vf y[2][VN] = {};
        for (int c = 0; c < panels; c++)
            w8_panel(p, panel + c, row + r, y[c]);
        ISA(finish_tile)(p, panel, panels, row + r, y);
    }
}

const struct cpu_kernels cpu_kernels_portable = {
    .backend_name = "cpu-portable",
    .w8_rows = W8_ROWS,
    .native_rows = NATIVE_ROWS,
    .rmsnorm = ISA(rmsnorm),
    .split_outliers = ISA(split_outliers),
    .largest = ISA(largest),
    .quantize = ISA(quantize),
    .product_w8 = product_w8,
    .product_native = ISA(product_native),
    .sums_w8 = sums_w8,
    .attend = ISA(attend),
    .attend_merge = ISA(attend_merge),
    .exp = ISA(exp),
};
