/* VSQ4z products with AVX-512 VNNI, included by kernels_avx512.c.
 *
 * Levels are made in registers: u8 = q * s + (128 - s * z), 8 to 248, never carries from a byte to
 * the next, and is multiplied as a W8 panel's bytes are; the 128 goes out with the activations'
 * sum. That costs about 20 instructions for 256 weights, whatever the rows. With few rows they hide
 * behind memory; with many a panel is expanded once into a member's scratch, for all tiles of rows.
 */

#define VSQ4Z_ROWS     4
#define VSQ4Z_TILES(X) X(1) X(2) X(3) X(4)

/* Scales of two vectors (the bytes of one line of 16, shown to every 128 bits), one byte in each
 * dword's four. */
INLINE __m512i scale_bytes(const unsigned char *two)
{
    const __m512i spread =
        _mm512_set_epi32(0x0f0f0f0f, 0x0e0e0e0e, 0x0d0d0d0d, 0x0c0c0c0c, 0x0b0b0b0b, 0x0a0a0a0a,
                         0x09090909, 0x08080808, 0x07070707, 0x06060606, 0x05050505, 0x04040404,
                         0x03030303, 0x02020202, 0x01010101, 0x00000000);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)two)), spread);
}

/* The four quads of one vector as u8. `scale`: s in every byte's low nibble. */
INLINE void expand_vector(const unsigned char *codes, __m512i scale, uint16_t zeros, __m512i u[4])
{
    const __m512i low = _mm512_set1_epi8(15);
    /* 128 - 7 s for s in 0..15 */
    const __m512i bias_of = _mm512_broadcast_i32x4(
        _mm_setr_epi8(-128, 121, 114, 107, 100, 93, 86, 79, 72, 65, 58, 51, 44, 37, 30, 23));
    __m512i s = _mm512_and_si512(scale, low);
    __m512i bias = _mm512_shuffle_epi8(bias_of, s);
    bias = _mm512_mask_sub_epi32(bias, zeros, bias, s); /* no byte borrows: 8 or more is left */
    __m512i word = _mm512_and_si512(s, _mm512_set1_epi16(15));
    UNROLL for (int half = 0; half < 2; half++)
    {
        __m512i two = _mm512_load_si512(codes + half * 64);
        __m512i even = _mm512_and_si512(two, low);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi16(two, 4), low);
        u[2 * half] = _mm512_add_epi8(_mm512_mullo_epi16(even, word), bias);
        u[2 * half + 1] = _mm512_add_epi8(_mm512_mullo_epi16(odd, word), bias);
    }
}

static void expand_vsq4z(const struct weight *w, int64_t panel, unsigned char *out)
{
    const struct vsq4z_panel m = vsq4z_panel(w, panel);
    for (int64_t v = 0; v < vsq4z_blocks(w->cols) * BLOCK_VECTORS; v += 2) {
        __m512i scales = scale_bytes(m.scales + v / 2 * PANEL), u[4];
        UNROLL for (int j = 0; j < 2; j++)
        {
            const unsigned char *codes = m.codes + (v + j) * 128;
            _mm_prefetch((const char *)codes + PREFETCH_BYTES, _MM_HINT_T0);
            _mm_prefetch((const char *)codes + PREFETCH_BYTES + 64, _MM_HINT_T0);
            expand_vector(codes, scales, m.zeros[v + j], u);
            scales = _mm512_srli_epi16(scales, 4);
            UNROLL for (int quad = 0; quad < 4; quad++)
                _mm512_store_si512(out + ((v + j) * 4 + quad) * 64, u[quad]);
        }
    }
}

/* Exact int32 sums of R rows, straight from 4 bits. */
INLINE void packed_sums(const struct product *p, const struct vsq4z_panel *m, int64_t row,
                        const int R, __m512i sum[VSQ4Z_ROWS])
{
    const int64_t stride = p->in.q8_stride;
    const int8_t *a = p->in.q8 + row * stride;
    const unsigned char *codes = m->codes, *two = m->scales;
    const uint16_t *zeros = m->zeros;
    UNROLL for (int r = 0; r < R; r++) sum[r] = _mm512_set1_epi32(ISA(vsq4z_bias)(p, row + r));
    for (int64_t v = 0; v < vsq4z_blocks(p->w->cols) * BLOCK_VECTORS; v += 2) {
        __m512i scales = scale_bytes(two), u[4];
        UNROLL for (int j = 0; j < 2; j++)
        {
            _mm_prefetch((const char *)codes + PREFETCH_BYTES, _MM_HINT_T0);
            _mm_prefetch((const char *)codes + PREFETCH_BYTES + 64, _MM_HINT_T0);
            expand_vector(codes, scales, zeros[j], u);
            scales = _mm512_srli_epi16(scales, 4);
            UNROLL for (int quad = 0; quad < 4; quad++) UNROLL for (int r = 0; r < R; r++)
                DOT4(sum[r], u[quad], a + r * stride + quad * 4);
            codes += 128;
            a += VSQ4Z_VECTOR;
        }
        two += PANEL;
        zeros += 2;
    }
}

INLINE void packed_tile(const struct product *p, int64_t panel, int panels, int64_t row,
                        const int R)
{
    vf y[2][VSQ4Z_ROWS] = {};
    for (int c = 0; c < panels; c++) {
        const struct vsq4z_panel m = vsq4z_panel(p->w, panel + c);
        __m512i sum[VSQ4Z_ROWS];
        packed_sums(p, &m, row, R, sum);
        UNROLL for (int r = 0; r < R; r++) y[c][r] =
            ISA(vsq4z_value)(p, &m, NULL, row + r, (vi)sum[r], 0);
    }
    UNROLL for (int r = 0; r < R; r++)
        ISA(finish_tile)(p, panel, panels, row + r, (vf[2][VN]){{y[0][r]}, {y[1][r]}});
}

INLINE void expanded_sums(const struct product *p, const unsigned char *w, int64_t row, const int R,
                          __m512i sum[W8_ROWS])
{
    UNROLL for (int r = 0; r < R; r++) sum[r] = _mm512_set1_epi32(ISA(vsq4z_bias)(p, row + r));
    dot_quads(w, (p->w->cols + 3) / 4, p->in.q8 + row * p->in.q8_stride, p->in.q8_stride, R, sum);
}

INLINE void expanded_tile(const struct product *p, int64_t panel, int panels, int64_t row,
                          const int R)
{
    vf y[2][W8_ROWS] = {};
    for (int c = 0; c < panels; c++) {
        const struct vsq4z_panel m = vsq4z_panel(p->w, panel + c);
        __m512i sum[W8_ROWS];
        expanded_sums(p, p->expanded[c], row, R, sum);
        UNROLL for (int r = 0; r < R; r++) y[c][r] =
            ISA(vsq4z_value)(p, &m, p->expanded[c], row + r, (vi)sum[r], 0);
    }
    UNROLL for (int r = 0; r < R; r++)
        ISA(finish_tile)(p, panel, panels, row + r, (vf[2][VN]){{y[0][r]}, {y[1][r]}});
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
    __m512i sum[W8_ROWS];
    if (p->expanded[0]) {
        expanded_sums(p, p->expanded[0], row, 1, sum);
    } else {
        const struct vsq4z_panel m = vsq4z_panel(p->w, panel);
        packed_sums(p, &m, row, 1, sum);
    }
    _mm512_storeu_si512(sums, sum[0]);
}
