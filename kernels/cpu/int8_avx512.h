/* Products of u8 panels with s8 rows by AVX-512 VNNI: W8, and VSQ4z panels expanded to int8.
 * Included by kernels_avx512.c.
 *
 * With few rows memory is the limit: one panel after the other, as they lie, and several sums for
 * each output so that a turn does not wait for the last one's (a vpdpbusd takes 4 cycles, two start
 * in each). With many rows the loads are the limit (Zen 5: two a cycle, as many as products): two
 * panels share the broadcast of an activation. */

#define W8_ROWS     12
#define W8_TILES(X) NATIVE_TILES(X)

/* sum += u8 weights times four s8 activations, in a register or broadcast from memory. Assembly
 * because GCC 12 copies every accumulator twice a turn around the intrinsic. */
#define DOT4(sum, w, a) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(a))
#define DOT4_AT(sum, w, a) \
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const int32_t *)(a)))

#define FETCH(from) _mm_prefetch((const char *)(from), _MM_HINT_T0)

/* How far ahead of a single panel weights are fetched: 8 KB, which is what memory has under way, or
 * more, in whole panels: what a later panel has at this place. Two panels at a time fetch the next
 * two. */
TILE size_t fetch_ahead(const struct weight *w)
{
    return w->panel_bytes < 8192 ? 2 * w->panel_bytes : w->panel_bytes;
}

/* Panels that R rows are multiplied with at a time, where they come from memory (W8) and where they
 * lie in cache (expanded); sums of an output. */
#define PANELS_OF(R)   ((R) < 9 ? 1 : 2)
#define EXPANDED_OF(R) ((R) < 4 ? 1 : 2)
#define CHAINS_OF(R)   ((R) == 1 ? 4 : (R) < 6 ? 2 : 1)

/* What the sums of R rows begin with. */
TILE void first_sums(const struct product *p, int64_t row, int64_t group, const int R,
                     __m512i sum[W8_ROWS])
{
    const int32_t *start = p->in.start + group * p->in.start_stride + row;
    UNROLL for (int r = 0; r < R; r++) sum[r] = _mm512_set1_epi32(start[r]);
}

/* sum[r] += `quads` quads of a panel times R rows. Three rows share a pointer. */
TILE void dot_panel(const unsigned char *w, size_t ahead, int64_t quads, const int8_t *a,
                    int64_t stride, const int R, __m512i sum[W8_ROWS])
{
    const int A = CHAINS_OF(R);
    const int8_t *base[(W8_ROWS + 2) / 3];
    __m512i more[W8_ROWS][3] = {};
    UNROLL for (int r = 0; r < R; r += 3) base[r / 3] = a + r * stride;
    int64_t k = 0;
    for (; k + A <= quads; k += A) {
        UNROLL for (int i = 0; i < A; i++)
        {
            __m512i column = _mm512_load_si512(w + i * 64);
            FETCH(w + ahead + i * 64);
            UNROLL for (int r = 0; r < R; r++) DOT4_AT(*(i ? &more[r][i - 1] : &sum[r]), column,
                                                       base[r / 3] + r % 3 * stride + i * 4);
        }
        UNROLL for (int r = 0; r < R; r += 3) base[r / 3] += 4 * A;
        w += 64 * A;
    }
    for (; A > 1 && k < quads; k++, w += 64) {
        __m512i column = _mm512_load_si512(w);
        UNROLL for (int r = 0; r < R; r++) DOT4_AT(sum[r], column, base[r / 3] + r % 3 * stride);
        UNROLL for (int r = 0; r < R; r += 3) base[r / 3] += 4;
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 1; i < A; i++) sum[r] =
        _mm512_add_epi32(sum[r], more[r][i - 1]);
}

/* What to fetch from memory meanwhile: `step` bytes a turn, from two places `gap` bytes apart. */
struct fetch {
    const unsigned char *from;
    size_t gap, step;
};

/* The same for two panels, `next` bytes apart. */
TILE void dot_two_panels(const unsigned char *w, size_t next, int64_t quads, const int8_t *a,
                         int64_t stride, struct fetch fetch, const int R, __m512i sum[2][W8_ROWS])
{
    const int8_t *base[(W8_ROWS + 2) / 3];
    UNROLL for (int r = 0; r < R; r += 3) base[r / 3] = a + r * stride;
    const unsigned char *end = w + quads * 64;
    do {
        __m512i first = _mm512_load_si512(w), second = _mm512_load_si512(w + next);
        FETCH(fetch.from);
        FETCH(fetch.from + fetch.gap);
        UNROLL for (int r = 0; r < R; r++)
        {
            int32_t four;
            __builtin_memcpy(&four, base[r / 3] + r % 3 * stride, sizeof four);
            __m512i value = _mm512_set1_epi32(four);
            DOT4(sum[0][r], first, value);
            DOT4(sum[1][r], second, value);
        }
        UNROLL for (int r = 0; r < R; r += 3) base[r / 3] += 4;
        w += 64;
        fetch.from += fetch.step;
    } while (w < end); /* one quad at least: with `while` GCC keeps the sums twice */
}

/* --- outliers: a column of a panel as f32 */

/* Byte `i` of every dword, zero-extended, by a shuffle within 128 bits. */
TILE __m512i pick_byte(__m512i line, uint32_t i)
{
    static const int8_t of[4][16] __attribute__((aligned(64))) = {
        {0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1, -1},
        {1, -1, -1, -1, 5, -1, -1, -1, 9, -1, -1, -1, 13, -1, -1, -1},
        {2, -1, -1, -1, 6, -1, -1, -1, 10, -1, -1, -1, 14, -1, -1, -1},
        {3, -1, -1, -1, 7, -1, -1, -1, 11, -1, -1, -1, 15, -1, -1, -1},
    };
    __m128i pick = _mm_load_si128((const void *)of[i]);
    return _mm512_shuffle_epi8(line, _mm512_broadcast_i32x4(pick));
}

TILE vf int8_column(const unsigned char *panel, uint32_t column)
{
    __m512i byte = pick_byte(_mm512_load_si512(panel + column / 4 * 64), column % 4);
    return (vf)_mm512_cvtepi32_ps(_mm512_sub_epi32(byte, _mm512_set1_epi32(128)));
}

/* --- W8 */

/* value[c][r] = the sum over groups of exact int32 sums times scales. Two panels' values stay in
 * memory, or GCC moves the sums there, and those are touched in every turn. */
TILE void w8_values(const struct product *p, int64_t panel, int64_t row, const int C, const int R,
                    vf value[2][W8_ROWS])
{
    const int64_t groups = w8_groups(p->w->cols), stride = p->in.q8_stride;
    const size_t bytes = p->w->panel_bytes;
    const unsigned char *w = weight_panel(p->w, panel);
    const int8_t *a = p->in.q8 + row * stride;
    UNROLL for (int c = 0; c < C; c++) UNROLL for (int r = 0; r < R; r++) value[c][r] = vf_set(0);
    for (int64_t group = 0; group < groups; group++) {
        __m512i sum[2][W8_ROWS];
        UNROLL for (int c = 0; c < C; c++) first_sums(p, row, group, R, sum[c]);
        const int64_t quads = ISA(w8_quads)(p, group);
        if (C == 1)
            dot_panel(w, fetch_ahead(p->w), quads, a, stride, R, sum[0]);
        else
            dot_two_panels(w, bytes, quads, a, stride, (struct fetch){w + 2 * bytes, bytes, 64}, R,
                           sum);
        UNROLL for (int c = 0; c < C; c++)
        {
            vf scales = ISA(w8_scales)(p, panel + c, group, 0);
            UNROLL for (int r = 0; r < R; r++)
            {
                value[c][r] =
                    vf_fma(__builtin_convertvector((vi)sum[c][r], vf), scales, value[c][r]);
                __asm__("" : "+m"(value[c][r]));
            }
        }
        w += W8_GROUP * PANEL;
        a += W8_GROUP;
    }
}

/* ISA(w8_value) for C panels, which share a row's outliers. */
TILE void w8_finish(const struct product *p, int64_t panel, const int C, int64_t row, int rows,
                    vf value[2][W8_ROWS])
{
    const unsigned char *w[2] = {weight_panel(p->w, panel), weight_panel(p->w, panel + C - 1)};
    for (int r = 0; r < rows; r++) {
        const struct outliers *outliers = &p->in.outliers[row + r];
        vf y[2][VN] = {};
        UNROLL for (int c = 0; c < C; c++) y[c][0] = value[c][r] * p->in.scale[row + r];
        UNROLL for (int o = 0; o < OUTLIERS; o++) UNROLL for (int c = 0; c < C; c++)
        {
            uint32_t column = (uint32_t)outliers->column[o];
            vf weights =
                int8_column(w[c], column) * ISA(w8_scales)(p, panel + c, column / W8_GROUP, 0);
            y[c][0] = vf_fma(vf_set(outliers->value[o]), weights, y[c][0]);
        }
        ISA(finish_tile)(p, panel, C, row + r, y);
    }
}

static __attribute__((noinline)) void w8_finish_one(const struct product *p, int64_t panel,
                                                    int64_t row, int rows, vf value[2][W8_ROWS])
{
    w8_finish(p, panel, 1, row, rows, value);
}

static __attribute__((noinline)) void w8_finish_two(const struct product *p, int64_t panel,
                                                    int64_t row, int rows, vf value[2][W8_ROWS])
{
    w8_finish(p, panel, 2, row, rows, value);
}

TILE void w8_tile(const struct product *p, int64_t panel, int panels, int64_t row, const int R)
{
    vf value[2][W8_ROWS];
    if (PANELS_OF(R) == 2 && panels == 2) {
        w8_values(p, panel, row, 2, R, value);
    } else {
        for (int c = 0; c < panels; c++)
            w8_values(p, panel + c, row, 1, R, value + c);
    }
    (panels == 2 ? w8_finish_two : w8_finish_one)(p, panel, row, R, value);
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
    first_sums(p, row, group, 1, sum);
    dot_panel(weight_panel(p->w, panel) + group * W8_GROUP * PANEL, 0, ISA(w8_quads)(p, group),
              p->in.q8 + row * p->in.q8_stride + group * W8_GROUP, p->in.q8_stride, 1, sum);
    _mm512_storeu_si512(sums, sum[0]);
}
