/* VSQ4z products with AVX2, included by kernels_avx2.c: always straight from 4 bits, because codes
 * (u8) times activations (s8) need no signs, unlike int8 weights.
 *
 * vpmaddubsw makes pairs of products of at most 3810, four of them fit int16 (15240), and vpmaddwd
 * by the vector's scale adds them to int32: all exact. The zero points come off as one more
 * vpmaddwd for two vectors, of s * z against the activations' sums. A tile is half a panel, so that
 * the sums of four rows stay in registers. */

#define VSQ4Z_ROWS     4
#define VSQ4Z_TILES(X) X(1) X(2) X(3) X(4)

struct two_scales {
    __m256i even, odd; /* s in both words of each output's dword */
    __m256i zeros;     /* s * z of the even vector in the low word, of the odd one in the high */
};

/* Scales and zero points of two vectors, outputs [half * 8, half * 8 + 8). */
TILE struct two_scales two_scales(const unsigned char *scales, const uint16_t *zeros, int half)
{
    const __m256i spread = _mm256_setr_epi8(0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3, -1,
                                            4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7, -1);
    const __m256i bit = _mm256_setr_epi32(0x10001, 0x20002, 0x40004, 0x80008, 0x100010, 0x200020,
                                          0x400040, 0x800080);
    int64_t eight;
    __builtin_memcpy(&eight, scales + half * 8, sizeof eight);
    __m256i both = _mm256_shuffle_epi8(_mm256_set1_epi64x(eight), spread);
    struct two_scales s;
    s.even = _mm256_and_si256(both, _mm256_set1_epi16(15));
    s.odd = _mm256_srli_epi16(both, 4);
    __m256i pair = _mm256_blend_epi16(s.even, s.odd, 0xaa);
    int32_t bits = (zeros[0] >> half * 8 & 255) | (zeros[1] >> half * 8 & 255) << 16;
    __m256i eights =
        _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi32(bits), bit), bit); /* z = 8 */
    s.zeros = _mm256_add_epi16(_mm256_mullo_epi16(pair, _mm256_set1_epi16(7)),
                               _mm256_and_si256(pair, eights));
    return s;
}

/* pairs[r] (+)= codes of one quad of inputs and half a panel times R rows. */
TILE void add_quad(__m256i q, const int8_t *a, int64_t stride, const bool first, const int R,
                   __m256i pairs[VSQ4Z_ROWS])
{
    UNROLL for (int r = 0; r < R; r++)
    {
        int32_t four;
        __builtin_memcpy(&four, a + r * stride, sizeof four);
        __m256i products = _mm256_maddubs_epi16(q, _mm256_set1_epi32(four));
        pairs[r] = first ? products : _mm256_add_epi16(pairs[r], products);
        if (R == VSQ4Z_ROWS) /* or GCC puts all products first and spills them */
            __asm__ volatile("" : "+x"(pairs[r]));
    }
}

/* sum[r] += s * (codes of one vector and half a panel times R rows). */
TILE void add_vector(const unsigned char *codes, __m256i scale, const int8_t *a, int64_t stride,
                     const int R, __m256i sum[VSQ4Z_ROWS])
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i pairs[VSQ4Z_ROWS];
    UNROLL for (int i = 0; i < 2; i++)
    {
        __m256i two = _mm256_load_si256((const void *)(codes + i * 64));
        add_quad(_mm256_and_si256(two, low), a + i * 8, stride, i == 0, R, pairs);
        add_quad(_mm256_and_si256(_mm256_srli_epi16(two, 4), low), a + i * 8 + 4, stride, false, R,
                 pairs);
    }
    UNROLL for (int r = 0; r < R; r++) sum[r] =
        _mm256_add_epi32(sum[r], _mm256_madd_epi16(pairs[r], scale));
}

/* Exact int32 sums of R rows by half a panel. */
TILE void packed_sums(const struct product *p, const struct vsq4z_panel *m, int64_t row, int half,
                      const int R, __m256i sum[VSQ4Z_ROWS])
{
    const int64_t stride = p->in.q8_stride, sums_stride = p->in.vector_stride;
    const int8_t *a = p->in.q8 + row * stride;
    const int16_t *vector_sum = p->in.vector_sum + row * sums_stride;
    const unsigned char *codes = m->codes + half * 32;
    UNROLL for (int r = 0; r < R; r++) sum[r] = _mm256_setzero_si256();
    for (int64_t v = 0; v < sums_stride; v += 2, codes += 256, a += 2 * VSQ4Z_VECTOR) {
        struct two_scales s = two_scales(m->scales + v / 2 * PANEL, m->zeros + v, half);
        UNROLL for (int line = 0; line < 4; line++)
            _mm_prefetch((const char *)codes + line * 64 + 2048, _MM_HINT_T0);
        add_vector(codes, s.even, a, stride, R, sum);
        add_vector(codes + 128, s.odd, a + VSQ4Z_VECTOR, stride, R, sum);
        UNROLL for (int r = 0; r < R; r++)
        {
            int32_t two;
            __builtin_memcpy(&two, vector_sum + r * sums_stride + v, sizeof two);
            sum[r] = _mm256_sub_epi32(sum[r], _mm256_madd_epi16(s.zeros, _mm256_set1_epi32(two)));
        }
    }
}

TILE void packed_tile(const struct product *p, int64_t panel, int panels, int64_t row, const int R)
{
    vf y[VSQ4Z_ROWS][2][VN] = {};
    __m256i sum[VSQ4Z_ROWS];
    for (int c = 0; c < panels; c++) {
        const struct vsq4z_panel m = vsq4z_panel(p->w, panel + c);
        for (int half = 0; half < VN; half++) {
            packed_sums(p, &m, row, half, R, sum);
            for (int r = 0; r < R; r++)
                y[r][c][half] = ISA(vsq4z_value)(p, &m, NULL, row + r, (vi)sum[r], half);
        }
    }
    for (int r = 0; r < R; r++)
        ISA(finish_tile)(p, panel, panels, row + r, y[r]);
}

static void product_vsq4z(const struct product *p, int64_t panel, int panels, int64_t row, int rows)
{
    switch (rows) {
#define CASE(R)                                \
    case R:                                    \
        packed_tile(p, panel, panels, row, R); \
        return;
        VSQ4Z_TILES(CASE)
#undef CASE
    }
    die("a VSQ4z tile of %d rows", rows);
}

static void sums_vsq4z(const struct product *p, int64_t panel, int64_t row, int32_t *sums)
{
    const struct vsq4z_panel m = vsq4z_panel(p->w, panel);
    __m256i sum[VSQ4Z_ROWS];
    for (int half = 0; half < VN; half++) {
        packed_sums(p, &m, row, half, 1, sum);
        _mm256_storeu_si256((void *)(sums + half * VL), sum[0]);
    }
}

/* Two vectors at a time: int16 pairs, int32 quads, then across. */
static void vector_sums(const int8_t *q8, int64_t vectors, int16_t *sums)
{
    for (int64_t v = 0; v < vectors; v += 2) {
        __m256i two = _mm256_loadu_si256((const void *)(q8 + v * VSQ4Z_VECTOR));
        __m256i quads =
            _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), two), _mm256_set1_epi16(1));
        __m256i eights = _mm256_hadd_epi32(quads, quads), all = _mm256_hadd_epi32(eights, eights);
        sums[v] = (int16_t)_mm256_extract_epi32(all, 0);
        sums[v + 1] = (int16_t)_mm256_extract_epi32(all, 4);
    }
}
