/* The tile functions in plain C: four floats a register by GCC's vector types, no FMA. */
#include "kernels/cpu/vector.h"
#include "kernels/cpu/vsq4z_panel.h"

#define ISA(name) name##_portable

#define W8_ROWS          4
#define NATIVE_ROWS      2
#define NATIVE_TILES(X)  X(1) X(2)
#define SCORE_QUERIES    2
#define SCORE_TILES(X)   X(2) X(1)
#define SCORE_ITEMS      1
#define SCORE_MOST_ITEMS 1
#define VALUE_QUERIES    2
#define VALUE_REGISTERS  4
#define VALUE_TILES(X)   X(2) X(1)

#include "kernels/cpu/row_tile.h"
#include "kernels/cpu/head_tile.h"
#include "kernels/cpu/native_tile.h"
#include "kernels/cpu/attend_tile.h"
#include "kernels/cpu/vsq4z_tile.h"

/* One row, panel and group: exact int32 sums. */
static void sums_w8(const struct product *p, int64_t panel, int64_t row, int64_t group,
                    int32_t *sums)
{
    const unsigned char *w = weight_panel(p->w, panel) + group * W8_GROUP * PANEL;
    const int8_t *a = p->in.q8 + row * p->in.q8_stride + group * W8_GROUP;
    const int64_t quads = ISA(w8_quads)(p, group);
    for (int o = 0; o < PANEL; o++)
        sums[o] = p->in.start[group * p->in.start_stride + row];
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

/* --- VSQ4z: always over expanded panels */

static void expand_vsq4z(const struct weight *w, int64_t panel, unsigned char *out)
{
    const struct vsq4z_panel m = vsq4z_panel(w, panel);
    for (int64_t v = 0; v < vsq4z_blocks(w->cols) * BLOCK_VECTORS; v++)
        for (int o = 0; o < PANEL; o++) {
            int32_t s = m.scales[v / 2 * PANEL + o] >> v % 2 * 4 & 15;
            int32_t bias = 128 - s * (7 + (m.zeros[v] >> o & 1));
            for (int quad = 0; quad < 4; quad++) {
                const unsigned char *codes = m.codes + ((v * 2 + quad / 2) * PANEL + o) * 4;
                unsigned char *to = out + ((v * 4 + quad) * PANEL + o) * 4;
                for (int i = 0; i < 4; i++)
                    to[i] = (unsigned char)((codes[i] >> quad % 2 * 4 & 15) * s + bias);
            }
        }
}

static void expanded_sums(const struct product *p, const unsigned char *w, int64_t row,
                          int32_t *sums)
{
    const int8_t *a = p->in.q8 + row * p->in.q8_stride;
    uint32_t wrapping[PANEL];
    for (int o = 0; o < PANEL; o++)
        wrapping[o] = (uint32_t)p->in.start[row];
    for (int64_t k = 0; k < (p->w->cols + 3) / 4; k++, w += 4 * PANEL, a += 4)
        for (int o = 0; o < PANEL; o++)
            wrapping[o] += (uint32_t)(w[4 * o] * a[0] + w[4 * o + 1] * a[1] + w[4 * o + 2] * a[2] +
                                      w[4 * o + 3] * a[3]);
    __builtin_memcpy(sums, wrapping, sizeof wrapping);
}

static void product_vsq4z(const struct product *p, int64_t panel, int panels, int64_t row, int rows)
{
    for (int r = 0; r < rows; r++) {
        vf y[2][VN] = {};
        for (int c = 0; c < panels; c++) {
            const struct vsq4z_panel m = vsq4z_panel(p->w, panel + c);
            vi sums[VN];
            expanded_sums(p, p->expanded[c], row + r, (int32_t *)sums);
            for (int j = 0; j < VN; j++)
                y[c][j] = ISA(vsq4z_value)(p, &m, p->expanded[c], row + r, sums[j], j);
        }
        ISA(finish_tile)(p, panel, panels, row + r, y);
    }
}

static void sums_vsq4z(const struct product *p, int64_t panel, int64_t row, int32_t *sums)
{
    (void)panel;
    expanded_sums(p, p->expanded[0], row, sums);
}

const struct cpu_kernels cpu_kernels_portable = {
    .backend_name = "cpu-portable",
    .w8_rows = W8_ROWS,
    .native_rows = NATIVE_ROWS,
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
