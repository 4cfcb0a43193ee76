/* What heads.c does to the values of one head. Included by kernels_*.c after vector.h. */

static void ISA(rotate)(float *x, const float *cosine, const float *sine, int32_t half)
{
    int32_t i = 0;
    for (; i + VL <= half; i += VL) {
        vf a = vf_load(x + i), b = vf_load(x + half + i);
        vf c = vf_load(cosine + i), s = vf_load(sine + i);
        vf_store(x + i, a * c - b * s);
        vf_store(x + half + i, b * c + a * s);
    }
    for (; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[half + i] = b * cosine[i] + a * sine[i];
    }
}

/* float_to_bf16 of each. */
static void ISA(to_bf16)(const float *x, int64_t count, uint16_t *out)
{
    for (int64_t i = 0; i < count; i += VL) {
        vu bits = (vu)vf_load(x + i), high = bits >> 16;
        vu nan = (vu)((bits & 0x7fffffffu) > 0x7f800000u);
        vu rounded = (bits + 0x7fff + (high & 1)) >> 16;
        vh halves = __builtin_convertvector((nan & (high | 0x40)) | (~nan & rounded), vh);
        __builtin_memcpy(out + i, &halves, sizeof halves);
    }
}
