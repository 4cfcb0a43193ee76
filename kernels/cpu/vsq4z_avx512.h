/* VSQ4z products with AVX-512 VNNI, included by kernels_avx512.c.
 *
 * Levels are made in registers: u8 = q * s + (128 - s * z), 8 to 248, never carries from a byte to
 * the next, and is multiplied as a W8 panel's bytes are; the 128 goes out with the activations'
 * sum. That costs about 20 instructions for 256 weights, whatever the rows. With few rows they hide
 * behind memory and, up to 8, beside the products; with more a panel is expanded once into a
 * member's scratch, for all tiles of rows. */

#define VSQ4Z_ROWS     8
#define VSQ4Z_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

/* Scales of two vectors (the bytes of one line of 16, shown to every 128 bits), one byte in each
 * dword's four. */
TILE __m512i scale_bytes(const unsigned char *two)
{
    const __m512i spread =
        _mm512_set_epi32(0x0f0f0f0f, 0x0e0e0e0e, 0x0d0d0d0d, 0x0c0c0c0c, 0x0b0b0b0b, 0x0a0a0a0a,
                         0x09090909, 0x08080808, 0x07070707, 0x06060606, 0x05050505, 0x04040404,
                         0x03030303, 0x02020202, 0x01010101, 0x00000000);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)two)), spread);
}

/* What makes levels of a vector's codes: s in every word, 128 - s * z in every byte. */
struct level_scale {
    __m512i word, bias;
};

/* `scale`: s in every byte's low nibble. */
TILE struct level_scale level_scale(__m512i scale, uint16_t zeros)
{
    /* 128 - 7 s for s in 0..15 */
    const __m512i bias_of = _mm512_broadcast_i32x4(
        _mm_setr_epi8(-128, 121, 114, 107, 100, 93, 86, 79, 72, 65, 58, 51, 44, 37, 30, 23));
    __m512i s = _mm512_and_si512(scale, _mm512_set1_epi8(15));
    __m512i bias = _mm512_shuffle_epi8(bias_of, s);
    bias = _mm512_mask_sub_epi32(bias, zeros, bias, s); /* no byte borrows: 8 or more is left */
    return (struct level_scale){_mm512_and_si512(s, _mm512_set1_epi16(15)), bias};
}

/* Two quads of a vector as u8. */
TILE void expand_half(const unsigned char *codes, struct level_scale scale, __m512i u[2])
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i two = _mm512_load_si512(codes);
    __m512i even = _mm512_and_si512(two, low);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi16(two, 4), low);
    u[0] = _mm512_add_epi8(_mm512_mullo_epi16(even, scale.word), scale.bias);
    u[1] = _mm512_add_epi8(_mm512_mullo_epi16(odd, scale.word), scale.bias);
}

/* The four quads of one vector as u8. */
TILE void expand_vector(const unsigned char *codes, __m512i scale, uint16_t zeros, __m512i u[4])
{
    struct level_scale both = level_scale(scale, zeros);
    expand_half(codes, both, u);
    expand_half(codes + 64, both, u + 2);
}

/* Zero points and row scales of a panel to come. */
TILE void fetch_ends(const struct vsq4z_panel *m, size_t ahead)
{
    FETCH((const char *)m->zeros + ahead);
    FETCH((const char *)m->row_scale + ahead);
}

static void expand_vsq4z(const struct weight *w, int64_t panel, unsigned char *out)
{
    const struct vsq4z_panel m = vsq4z_panel(w, panel);
    for (int64_t v = 0; v < vsq4z_blocks(w->cols) * BLOCK_VECTORS; v += 2) {
        __m512i scales = scale_bytes(m.scales + v / 2 * PANEL), u[4];
        UNROLL for (int j = 0; j < 2; j++)
        {
            expand_vector(m.codes + (v + j) * 128, scales, m.zeros[v + j], u);
            scales = _mm512_srli_epi16(scales, 4);
            UNROLL for (int quad = 0; quad < 4; quad++)
                _mm512_store_si512(out + ((v + j) * 4 + quad) * 64, u[quad]);
        }
    }
}

/* Exact int32 sums of R rows, straight from 4 bits. Every quad of a vector has sums of its own
 * where there are few rows. */
TILE void packed_sums(const struct product *p, const struct vsq4z_panel *m, int64_t row,
                      const int R, __m512i sum[VSQ4Z_ROWS])
{
    const int A = CHAINS_OF(R);
    const int64_t stride = p->in.q8_stride;
    const size_t ahead = fetch_ahead(p->w);
    const int8_t *base[(VSQ4Z_ROWS + 2) / 3];
    const unsigned char *codes = m->codes, *two = m->scales;
    const uint16_t *zeros = m->zeros;
    __m512i sums[VSQ4Z_ROWS][4] = {};
    fetch_ends(m, ahead);
    UNROLL for (int r = 0; r < R; r += 3) base[r / 3] = p->in.q8 + (row + r) * stride;
    UNROLL for (int r = 0; r < R; r++) sums[r][0] = _mm512_set1_epi32(p->in.start[row + r]);
    for (const uint16_t *end = zeros + vsq4z_blocks(p->w->cols) * BLOCK_VECTORS; zeros < end;) {
        __m512i scales = scale_bytes(two), u[4];
        FETCH(two + ahead);
        UNROLL for (int j = 0; j < 2; j++)
        {
            FETCH(codes + ahead);
            FETCH(codes + ahead + 64);
            expand_vector(codes, scales, zeros[j], u);
            scales = _mm512_srli_epi16(scales, 4);
            UNROLL for (int quad = 0; quad < 4; quad++) UNROLL for (int r = 0; r < R; r++)
                DOT4_AT(sums[r][quad % A], u[quad], base[r / 3] + r % 3 * stride + quad * 4);
            codes += 128;
            UNROLL for (int r = 0; r < R; r += 3) base[r / 3] += VSQ4Z_VECTOR;
        }
        two += PANEL;
        zeros += 2;
    }
    UNROLL for (int r = 0; r < R; r++)
    {
        sum[r] = sums[r][0];
        UNROLL for (int i = 1; i < A; i++) sum[r] = _mm512_add_epi32(sum[r], sums[r][i]);
    }
}

/* One column straight from 4 bits, as f32 levels. A permutation of 16 floats looks at the low four
 * bits of its index alone, which makes a nibble at the bottom of a dword a number. */
TILE vf packed_column(const struct vsq4z_panel *m, uint32_t column)
{
    const __m512 number = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512 less_7 = _mm512_set_ps(8, 7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7);
    uint32_t vector = column / VSQ4Z_VECTOR;
    __m512i codes = _mm512_load_si512(m->codes + column / 8 * 64);
    __m512i two =
        _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(m->scales + vector / 2 * 16)));
    codes = _mm512_srl_epi32(codes, _mm_cvtsi32_si128((int)(column % 4 * 8 + column / 4 % 2 * 4)));
    two = _mm512_srl_epi32(two, _mm_cvtsi32_si128((int)(vector % 2 * 4)));
    __m512 q = _mm512_permutexvar_ps(codes, less_7);
    q = _mm512_mask_sub_ps(q, m->zeros[vector], q, _mm512_set1_ps(1));
    return (vf)_mm512_mul_ps(q, _mm512_permutexvar_ps(two, number));
}

/* ISA(vsq4z_value) for C panels, which share a row's outliers; from 4 bits or expanded. */
TILE void vsq4z_finish(const struct product *p, int64_t panel, const int C, int64_t row, int rows,
                       const __m512i *sum, const int sum_stride, const bool expanded)
{
    const struct vsq4z_panel m[2] = {vsq4z_panel(p->w, panel), vsq4z_panel(p->w, panel + C - 1)};
    for (int r = 0; r < rows; r++) {
        const struct outliers *outliers = &p->in.outliers[row + r];
        vf y[2][VN] = {};
        UNROLL for (int c = 0; c < C; c++) y[c][0] =
            (vf)_mm512_cvtepi32_ps(sum[c * sum_stride + r]) * p->in.scale[row + r];
        UNROLL for (int o = 0; o < OUTLIERS; o++) UNROLL for (int c = 0; c < C; c++)
        {
            uint32_t column = (uint32_t)outliers->column[o];
            vf levels =
                expanded ? int8_column(p->expanded[c], column) : packed_column(&m[c], column);
            y[c][0] = vf_fma(vf_set(outliers->value[o]), levels, y[c][0]);
        }
        UNROLL for (int c = 0; c < C; c++) y[c][0] *= vf_load(m[c].row_scale);
        ISA(finish_tile)(p, panel, C, row + r, y);
    }
}

#define FINISH(name, C, stride, expanded)                                                 \
    static __attribute__((noinline)) void name(const struct product *p, int64_t panel,    \
                                               int64_t row, int rows, const __m512i *sum) \
    {                                                                                     \
        vsq4z_finish(p, panel, C, row, rows, sum, stride, expanded);                      \
    }
FINISH(packed_finish_one, 1, VSQ4Z_ROWS, false)
FINISH(packed_finish_two, 2, VSQ4Z_ROWS, false)
FINISH(expanded_finish_one, 1, W8_ROWS, true)
FINISH(expanded_finish_two, 2, W8_ROWS, true)
#undef FINISH

/* packed_sums for two panels, the second `next` bytes behind the first. They share the loads of
 * activations, which from PAIRED_ROWS rows on hold a single panel up; the sums of so many rows are
 * enough to wait for none. */
#define PAIRED_ROWS 7
TILE void packed_two_sums(const struct product *p, const struct vsq4z_panel *m, size_t next,
                          int64_t row, const int R, __m512i sum[2][VSQ4Z_ROWS])
{
    const int64_t stride = p->in.q8_stride;
    const size_t ahead = 2 * p->w->panel_bytes;
    const int8_t *base[(VSQ4Z_ROWS + 2) / 3];
    const unsigned char *codes = m->codes, *two = m->scales;
    const char *zeros = (const char *)m->zeros;
    __m512i sums[2][VSQ4Z_ROWS];
    fetch_ends(m, ahead);
    fetch_ends(m, ahead + p->w->panel_bytes);
    UNROLL for (int r = 0; r < R; r += 3) base[r / 3] = p->in.q8 + (row + r) * stride;
    UNROLL for (int r = 0; r < R; r++) sums[0][r] = sums[1][r] =
        _mm512_set1_epi32(p->in.start[row + r]);
    const char *end = zeros + vsq4z_blocks(p->w->cols) * BLOCK_VECTORS * 2;
    do {
        __m512i scales[2] = {scale_bytes(two), scale_bytes(two + next)};
        FETCH(two + ahead);
        FETCH(two + ahead + next);
        UNROLL for (int j = 0; j < 2; j++)
        {
            struct level_scale scale[2];
            UNROLL for (int c = 0; c < 2; c++)
            {
                scale[c] = level_scale(scales[c], *(const uint16_t *)(zeros + c * next + j * 2));
                scales[c] = _mm512_srli_epi16(scales[c], 4);
            }
            UNROLL for (int half = 0; half < 2; half++)
            {
                __m512i u[2][2];
                UNROLL for (int c = 0; c < 2; c++) expand_half(codes + c * next, scale[c], u[c]);
                FETCH(codes + ahead);
                FETCH(codes + ahead + next);
                UNROLL for (int q = 0; q < 2; q++) UNROLL for (int r = 0; r < R; r++)
                {
                    int32_t four;
                    __builtin_memcpy(&four, base[r / 3] + r % 3 * stride + half * 8 + q * 4, 4);
                    __m512i value = _mm512_set1_epi32(four);
                    DOT4(sums[0][r], u[0][q], value);
                    DOT4(sums[1][r], u[1][q], value);
                }
                codes += 64;
            }
            UNROLL for (int r = 0; r < R; r += 3) base[r / 3] += VSQ4Z_VECTOR;
        }
        two += PANEL;
        zeros += 4;
    } while (zeros < end);
    UNROLL for (int c = 0; c < 2; c++) UNROLL for (int r = 0; r < R; r++) sum[c][r] = sums[c][r];
}

TILE void packed_tile(const struct product *p, int64_t panel, int panels, int64_t row, const int R)
{
    __m512i sum[2][VSQ4Z_ROWS];
    if (R >= PAIRED_ROWS) { /* a last panel without a second one counts itself twice */
        const struct vsq4z_panel m = vsq4z_panel(p->w, panel);
        packed_two_sums(p, &m, panels == 2 ? p->w->panel_bytes : 0, row, R, sum);
        (panels == 2 ? packed_finish_two : packed_finish_one)(p, panel, row, R, sum[0]);
        return;
    }
    for (int c = 0; c < panels; c++) {
        const struct vsq4z_panel m = vsq4z_panel(p->w, panel + c);
        packed_sums(p, &m, row, R, sum[c]);
    }
    (panels == 2 ? packed_finish_two : packed_finish_one)(p, panel, row, R, sum[0]);
}

/* Over expanded panels, which lie behind each other; what is fetched meanwhile are the next two, in
 * 4 bits. */
TILE void expanded_sums(const struct product *p, int64_t panel, const unsigned char *w, int64_t row,
                        const int C, const int R, __m512i sum[2][W8_ROWS])
{
    const int64_t quads = (p->w->cols + 3) / 4, stride = p->in.q8_stride;
    const int8_t *a = p->in.q8 + row * stride;
    const size_t bytes = p->w->panel_bytes;
    const struct fetch fetch = {weight_panel(p->w, panel + 2), bytes, bytes / (size_t)quads + 1};
    __m512i sums[2][W8_ROWS];
    UNROLL for (int c = 0; c < C; c++) first_sums(p, row, 0, R, sums[c]);
    if (C == 1)
        dot_panel(w, 0, quads, a, stride, R, sums[0]);
    else
        dot_two_panels(w, vsq4z_expanded_bytes(p->w->cols), quads, a, stride, fetch, R, sums);
    UNROLL for (int c = 0; c < C; c++) UNROLL for (int r = 0; r < R; r++) sum[c][r] = sums[c][r];
}

TILE void expanded_tile(const struct product *p, int64_t panel, int panels, int64_t row,
                        const int R)
{
    __m512i sum[2][W8_ROWS];
    if (EXPANDED_OF(R) == 2 && panels == 2) {
        expanded_sums(p, panel, p->expanded[0], row, 2, R, sum);
    } else {
        for (int c = 0; c < panels; c++)
            expanded_sums(p, panel + c, p->expanded[c], row, 1, R, sum + c);
    }
    (panels == 2 ? expanded_finish_two : expanded_finish_one)(p, panel, row, R, sum[0]);
}

static void product_vsq4z(const struct product *p, int64_t panel, int panels, int64_t row, int rows)
{
#define CASE(tile, R)                   \
    case R:                             \
        tile(p, panel, panels, row, R); \
        return;
#define PACKED(R)   CASE(packed_tile, R)
#define EXPANDED(R) CASE(expanded_tile, R)
    if (p->expanded[0]) switch (rows) {
            W8_TILES(EXPANDED)
        }
    else
        switch (rows) {
            VSQ4Z_TILES(PACKED)
        }
#undef EXPANDED
#undef PACKED
#undef CASE
    die("a VSQ4z tile of %d rows", rows);
}

static void sums_vsq4z(const struct product *p, int64_t panel, int64_t row, int32_t *sums)
{
    __m512i sum[2][W8_ROWS];
    if (p->expanded[0]) {
        expanded_sums(p, panel, p->expanded[0], row, 1, 1, sum);
    } else {
        const struct vsq4z_panel m = vsq4z_panel(p->w, panel);
        packed_sums(p, &m, row, 1, sum[0]);
    }
    _mm512_storeu_si512(sums, sum[0][0]);
}
