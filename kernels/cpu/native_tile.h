/* Products with native weights: one f32 accumulator per output, k ascending, weights widened
 * exactly.
 *
 * A tile is R rows by C panels; its R * C * VN accumulators stay in registers while k runs once
 * through the panels, so weights are read once for all R rows. Peak: one FMA register a cycle on
 * Zen 4 with AVX-512 (116 GFLOP/s measured); few rows are bound by the bytes of the weights. */

INLINE void ISA(native_tile)(const struct product *p, int64_t panel, int64_t row, enum dtype type,
                             const int C, const int R)
{
    const int64_t count = p->w->cols;
    const void *w[2] = {weight_panel(p->w, panel), weight_panel(p->w, panel + C - 1)};
    const float *a = p->in.f32 + row * p->in.f32_stride;
    vf sum[NATIVE_ROWS][2][VN] = {};
    for (int64_t k = 0; k < count; k++) {
        vf column[2][VN];
        UNROLL for (int c = 0; c < C; c++) UNROLL for (int j = 0; j < VN; j++) column[c][j] =
            vf_load_as(type, w[c], k * PANEL + j * VL);
        UNROLL for (int r = 0; r < R; r++)
        {
            vf value = vf_set(a[r * p->in.f32_stride + k]);
            UNROLL for (int c = 0; c < C; c++) UNROLL for (int j = 0; j < VN; j++) sum[r][c][j] =
                vf_fma(value, column[c][j], sum[r][c][j]);
        }
    }
    for (int r = 0; r < R; r++)
        ISA(finish_tile)(p, panel, C, row + r, sum[r]);
}

INLINE void ISA(native_rows)(const struct product *p, int64_t panel, int64_t row, enum dtype type,
                             const int C, int rows)
{
    switch (rows) {
#define CASE(R)                                      \
    case R:                                          \
        ISA(native_tile)(p, panel, row, type, C, R); \
        return;
        NATIVE_TILES(CASE)
#undef CASE
    }
    die("a native tile of %d rows", rows);
}

static void ISA(product_native)(const struct product *p, int64_t panel, int panels, int64_t row,
                                int rows)
{
    switch (p->w->native) {
    case DT_F32:
        panels == 2 ? ISA(native_rows)(p, panel, row, DT_F32, 2, rows)
                    : ISA(native_rows)(p, panel, row, DT_F32, 1, rows);
        return;
    case DT_F16:
        panels == 2 ? ISA(native_rows)(p, panel, row, DT_F16, 2, rows)
                    : ISA(native_rows)(p, panel, row, DT_F16, 1, rows);
        return;
    case DT_BF16:
        panels == 2 ? ISA(native_rows)(p, panel, row, DT_BF16, 2, rows)
                    : ISA(native_rows)(p, panel, row, DT_BF16, 1, rows);
        return;
    }
}
