/* Row operations: norm, quantisation, the epilogues of products, exp. Included by kernels_*.c,
 * which defines ISA(name) to give each instruction set its own symbols. vector.h comes before. */

static void ISA(rmsnorm)(const float *x, const float *norm, int64_t count, float eps, float *out)
{
    vf squares[VN] = {};
    for (int64_t i = 0; i < count; i += 16)
        for (int j = 0; j < VN; j++) {
            vf v = vf_load(x + i + j * VL);
            squares[j] = vf_fma(v, v, squares[j]);
        }
    float mean = lanes_sum(squares) / (float)count;
    vf scale = vf_set(1.0f / __builtin_sqrtf(mean + eps));
    for (int64_t i = 0; i < count; i += 16)
        for (int j = 0; j < VN; j++) {
            int64_t at = i + j * VL;
            vf_store(out + at, vf_load(x + at) * scale * vf_load(norm + at));
        }
}

/* A magnitude that at least OUTLIERS values of x reach, if it is not 0: the least of the largest
 * ones of as many disjoint sets of lanes. */
INLINE float ISA(outliers_reach)(const float *x, int64_t count)
{
    vf top[VN] = {};
    for (int64_t i = 0; i < count; i += 16)
        for (int j = 0; j < VN; j++)
            top[j] = vf_max(vf_abs(vf_load(x + i + j * VL)), top[j]);
    float lanes[16];
    for (int j = 0; j < VN; j++)
        vf_store(lanes + j * VL, top[j]);
    float reach = __builtin_inff();
    for (int set = 0; set < OUTLIERS; set++) {
        float largest = 0;
        for (int i = set; i < 16; i += OUTLIERS)
            largest = lanes[i] > largest ? lanes[i] : largest;
        reach = largest < reach ? largest : reach;
    }
    return reach;
}

/* x[k] to its place among the largest so far, if it has one; the first of equals stays in front. */
INLINE void ISA(keep_outlier)(struct outliers *outliers, const float *x, int64_t k)
{
    float size = __builtin_fabsf(x[k]);
    int at = OUTLIERS;
    for (; at > 0 && size > __builtin_fabsf(outliers->value[at - 1]); at--) {
        if (at == OUTLIERS) continue;
        outliers->value[at] = outliers->value[at - 1];
        outliers->column[at] = outliers->column[at - 1];
    }
    if (at == OUTLIERS) return;
    outliers->value[at] = x[k];
    outliers->column[at] = (int32_t)k;
}

/* Candidates that are ranked side by side. */
#define CANDIDATES 16

/* Columns of x that reach `reach`, ascending, the first CANDIDATES of them: without a branch on
 * where they are, which nothing could predict. Returns how many there are. */
INLINE int ISA(find_candidates)(const float *x, int64_t count, float reach, int32_t *columns)
{
    int found = 0;
    vi column = vi_lane();
    for (int64_t i = 0; i < count; i += VL, column += VL) {
        uint32_t lanes = vf_at_least(vf_abs(vf_load(x + i)), vf_set(reach));
        vi_compress(columns + (found < CANDIDATES ? found : CANDIDATES), column, lanes);
        found += __builtin_popcount(lanes);
    }
    return found;
}

/* rank[i] = how many of the candidates come before i: larger ones, and equal ones of a lower
 * column. Those from `count` on come last. */
INLINE void ISA(rank_candidates)(const float *values, int count, int32_t *rank)
{
    for (int j = 0; j < VN; j++) {
        vi lane = vi_lane() + j * VL;
        vf size = vf_select(lane < vi_set(count), vf_abs(vf_load(values + j * VL)), vf_set(-1));
        vi before = {};
        for (int i = 0; i < count; i++) {
            vf other = vf_set(__builtin_fabsf(values[i]));
            before -= (other > size) | ((other == size) & (lane > vi_set(i)));
        }
        __builtin_memcpy(rank + j * VL, &before, sizeof before);
    }
}

/* The OUTLIERS first of a few candidates. */
INLINE void ISA(keep_candidates)(const float *x, const int32_t *columns, int count,
                                 struct outliers *outliers)
{
    float values[CANDIDATES], value[OUTLIERS + 1]; /* one place more, for those that have none */
    int32_t rank[CANDIDATES], column[OUTLIERS + 1];
    for (int i = 0; i < count; i++)
        values[i] = x[columns[i]];
    ISA(rank_candidates)(values, count, rank);
    for (int i = 0; i < count; i++) {
        int place = rank[i] < OUTLIERS ? rank[i] : OUTLIERS;
        value[place] = values[i];
        column[place] = columns[i];
    }
    __builtin_memcpy(outliers->value, value, sizeof outliers->value);
    __builtin_memcpy(outliers->column, column, sizeof outliers->column);
}

/* Two passes: how large they are at least, then the few values that are. */
static void ISA(split_outliers)(float *x, int64_t count, struct outliers *outliers)
{
    int32_t columns[CANDIDATES + VL];
    float reach = ISA(outliers_reach)(x, count);
    int found = reach > 0 ? ISA(find_candidates)(x, count, reach, columns) : 0;
    if (found >= OUTLIERS && found <= CANDIDATES) {
        ISA(keep_candidates)(x, columns, found, outliers);
    } else {
        *outliers = (struct outliers){{0}, {0}};
        for (int64_t k = 0; k < count; k++)
            ISA(keep_outlier)(outliers, x, k);
    }
    for (int o = 0; o < OUTLIERS; o++)
        if (outliers->value[o] != 0) x[outliers->column[o]] = 0;
}

static float ISA(largest)(const float *x, int64_t count)
{
    vf largest[VN] = {};
    for (int64_t i = 0; i < count; i += 16)
        for (int j = 0; j < VN; j++)
            largest[j] = vf_max(vf_abs(vf_load(x + i + j * VL)), largest[j]);
    return lanes_max(largest);
}

static int32_t ISA(quantize)(const float *x, int64_t count, float inverse, int8_t *out)
{
    vi sums = {};
    for (int64_t i = 0; i < round_up(count, 16); i += VL) {
        vi q = vi_round(vf_load(x + i) * vf_set(inverse));
        sums += q;
        vb bytes = vb_narrow(q);
        __builtin_memcpy(out + i, &bytes, sizeof bytes);
    }
    int32_t total = 0;
    for (int i = 0; i < VL; i++)
        total += sums[i];
    return total;
}

static void ISA(exp)(const float *x, int64_t count, float *out)
{
    for (int64_t i = 0; i < count; i += VL)
        vf_store(out + i, vf_exp(vf_load(x + i)));
}

/* y[0] is what a row has from `panel`, y[1] from the panel after it, VN registers each. */
INLINE void ISA(finish_tile)(const struct product *p, int64_t panel, int panels, int64_t row,
                             const vf y[2][VN])
{
    if (p->epilogue == EPILOGUE_SWIGLU) {
        float *out = p->out + row * p->out_stride + panel / 2 * PANEL;
        for (int j = 0; j < VN; j++)
            vf_store(out + j * VL, vf_silu(y[0][j]) * y[1][j]);
        return;
    }
    float *out = p->out + row * p->out_stride + panel * PANEL;
    for (int c = 0; c < panels; c++)
        for (int j = 0; j < VN; j++, out += VL)
            vf_store(out, p->epilogue == EPILOGUE_ADD ? vf_load(out) + y[c][j] : y[c][j]);
}

/* Scales of one group of a W8 panel, lanes [part * VL, part * VL + VL). */
INLINE vf ISA(w8_scales)(const struct product *p, int64_t panel, int64_t group, int part)
{
    int64_t at = (panel * w8_groups(p->w->cols) + group) * PANEL + part * VL;
    return vf_load_as(DT_BF16, p->w->scales, at);
}

/* Quads of four inputs in a group: 16, or what is left in the last one. */
INLINE int64_t ISA(w8_quads)(const struct product *p, int64_t group)
{
    int64_t left = (p->w->cols - group * W8_GROUP + 3) / 4;
    return left < W8_GROUP / 4 ? left : W8_GROUP / 4;
}

/* Column `column` of W8 panel `panel`, scaled, lanes [part * VL, part * VL + VL). */
INLINE vf ISA(w8_column)(const struct product *p, int64_t panel, uint32_t column, int part)
{
    const unsigned char *quad = weight_panel(p->w, panel) + column / 4 * 4 * PANEL;
    vi four;
    __builtin_memcpy(&four, quad + part * VL * 4, sizeof four);
    vf weights = __builtin_convertvector((four >> column % 4 * 8 & 255) - 128, vf);
    return weights * ISA(w8_scales)(p, panel, column / W8_GROUP, part);
}

/* The one definition of an int8 product's value, with S_g the exact int32 sum of w * a over group
 * g: (sum over g ascending of S_g * w's scale of g) * a's scale + each outlier times its column.
 * w8_add_group adds a term of the sum, w8_value finishes. */
INLINE vf ISA(w8_add_group)(const struct product *p, int64_t panel, int64_t group, int part,
                            vi sums, vf value)
{
    return vf_fma(__builtin_convertvector(sums, vf), ISA(w8_scales)(p, panel, group, part), value);
}

INLINE vf ISA(w8_value)(const struct product *p, int64_t panel, int64_t row, vf value, int part)
{
    const struct outliers *outliers = &p->in.outliers[row];
    value = value * p->in.scale[row];
    UNROLL for (int o = 0; o < OUTLIERS; o++) value =
        vf_fma(vf_set(outliers->value[o]),
               ISA(w8_column)(p, panel, (uint32_t)outliers->column[o], part), value);
    return value;
}
