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

static void ISA(quantize)(const float *x, int64_t count, int8_t *out, float *scale, int32_t *sum)
{
    vf largest[VN] = {};
    for (int64_t i = 0; i < count; i += 16)
        for (int j = 0; j < VN; j++)
            largest[j] = vf_max(vf_abs(vf_load(x + i + j * VL)), largest[j]);
    float limit = lanes_max(largest);
    bool zero = limit < 1e-30f; /* 127 / limit would not be finite */
    vf inverse = vf_set(zero ? 0.0f : 127.0f / limit);
    vi sums = {};
    for (int64_t i = 0; i < count; i += VL) {
        vi q = vi_round(vf_load(x + i) * inverse);
        sums += q;
        vb bytes = __builtin_convertvector(q, vb);
        __builtin_memcpy(out + i, &bytes, sizeof bytes);
    }
    for (int64_t i = round_up(count, VL); i < round_up(count, 16); i++)
        out[i] = 0;
    int32_t total = 0;
    for (int i = 0; i < VL; i++)
        total += sums[i];
    *scale = zero ? 0.0f : limit / 127.0f;
    *sum = total;
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

/* The one definition of an int8 product's value: (sum of w * a) * (a's scale * w's scale). */
INLINE vf ISA(w8_value)(const struct product *p, int64_t panel, int64_t row, vi sums, int part)
{
    vi unbiased = sums - vi_set(128 * p->in.sum[row]);
    vf scale = p->in.scale[row] * vf_load(p->w->scales + panel * PANEL + part * VL);
    return __builtin_convertvector(unbiased, vf) * scale;
}
