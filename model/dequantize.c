#include "model/dequantize.h"
#include "base/status.h"

#include <string.h>

#define BLOCK 32  /* of the plain quantized types */
#define SUPER 256 /* of the K types */
#define GROUP 32  /* weights of a K block whose bits lie side by side in the bytes */
#define HALF  16  /* of a group: what a scale of Q2_K, Q3_K and Q6_K serves */

static const struct {
    const char *name;
    int32_t block, block_bytes;
} types[FILE_TYPES] = {
    [FILE_F32] = {"F32", 1, 4},
    [FILE_F16] = {"F16", 1, 2},
    [FILE_BF16] = {"BF16", 1, 2},
    [FILE_Q8_0] = {"Q8_0", BLOCK, 2 + BLOCK},
    [FILE_Q4_0] = {"Q4_0", BLOCK, 2 + BLOCK / 2},
    [FILE_Q4_1] = {"Q4_1", BLOCK, 4 + BLOCK / 2},
    [FILE_Q5_0] = {"Q5_0", BLOCK, 2 + 4 + BLOCK / 2},
    [FILE_Q5_1] = {"Q5_1", BLOCK, 4 + 4 + BLOCK / 2},
    [FILE_Q2_K] = {"Q2_K", SUPER, SUPER / 16 + SUPER / 4 + 4},
    [FILE_Q3_K] = {"Q3_K", SUPER, SUPER / 8 + SUPER / 4 + 12 + 2},
    [FILE_Q4_K] = {"Q4_K", SUPER, 4 + 12 + SUPER / 2},
    [FILE_Q5_K] = {"Q5_K", SUPER, 4 + 12 + SUPER / 8 + SUPER / 2},
    [FILE_Q6_K] = {"Q6_K", SUPER, SUPER / 2 + SUPER / 4 + SUPER / 16 + 2},
    [FILE_IQ4_NL] = {"IQ4_NL", BLOCK, 2 + BLOCK / 2},
    [FILE_W8] = {"W8", 0, 0}, /* no blocks: quant/w8.h, quant/vsq4z.h */
    [FILE_VSQ4Z] = {"VSQ4z", 0, 0},
    [FILE_U8] = {"U8", 1, 1},
    [FILE_I8] = {"I8", 1, 1},
};

const char *file_type_name(enum file_type type)
{
    return types[type].name;
}

int32_t file_type_block(enum file_type type)
{
    return types[type].block;
}

int32_t file_type_block_bytes(enum file_type type)
{
    return types[type].block_bytes;
}

static uint16_t load_u16(const uint8_t *at)
{
    uint16_t bits;
    memcpy(&bits, at, sizeof bits);
    return bits;
}

static uint32_t load_u32(const uint8_t *at)
{
    uint32_t bits;
    memcpy(&bits, at, sizeof bits);
    return bits;
}

static float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Exponent and mantissa move to their places in f32 and a multiplication by 2^112 corrects the
 * bias, exactly, subnormals included. Infinities and NaNs keep the largest exponent. */
static inline float float_from_f16(uint16_t half)
{
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13, bits;
    float scaled = float_from_bits(magnitude) * 0x1p112f;
    memcpy(&bits, &scaled, sizeof bits);
    if (magnitude >= (uint32_t)0x7c00 << 13) bits = magnitude | 0x7f800000;
    return float_from_bits(bits | (uint32_t)(half & 0x8000) << 16);
}

static void dequantize_f16(const uint8_t *data, int64_t count, float *restrict out)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = float_from_f16(load_u16(data + 2 * i));
}

static void dequantize_bf16(const uint8_t *data, int64_t count, float *restrict out)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = float_from_bits((uint32_t)load_u16(data + 2 * i) << 16);
}

static void dequantize_q8_0(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 2 + BLOCK, out += BLOCK) {
        float d = float_from_f16(load_u16(data));
        const int8_t *q = (const int8_t *)data + 2;
        for (int i = 0; i < BLOCK; i++)
            out[i] = d * (float)q[i];
    }
}

static void dequantize_q4_0(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 2 + BLOCK / 2, out += BLOCK) {
        float d = float_from_f16(load_u16(data));
        const uint8_t *q = data + 2;
        for (int i = 0; i < BLOCK / 2; i++) {
            out[i] = d * (float)((q[i] & 15) - 8);
            out[i + BLOCK / 2] = d * (float)((q[i] >> 4) - 8);
        }
    }
}

static void dequantize_q4_1(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 4 + BLOCK / 2, out += BLOCK) {
        float d = float_from_f16(load_u16(data)), m = float_from_f16(load_u16(data + 2));
        const uint8_t *q = data + 4;
        for (int i = 0; i < BLOCK / 2; i++) {
            out[i] = d * (float)(q[i] & 15) + m;
            out[i + BLOCK / 2] = d * (float)(q[i] >> 4) + m;
        }
    }
}

/* The fifth bit of weight i, in its place. */
static inline int fifth_bit(uint32_t bits, int i)
{
    return (int)(bits >> i & 1) << 4;
}

static void dequantize_q5_0(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 6 + BLOCK / 2, out += BLOCK) {
        float d = float_from_f16(load_u16(data));
        uint32_t high = load_u32(data + 2);
        const uint8_t *q = data + 6;
        for (int i = 0; i < BLOCK / 2; i++) {
            out[i] = d * (float)(((q[i] & 15) | fifth_bit(high, i)) - 16);
            out[i + BLOCK / 2] = d * (float)((q[i] >> 4 | fifth_bit(high, i + BLOCK / 2)) - 16);
        }
    }
}

static void dequantize_q5_1(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 8 + BLOCK / 2, out += BLOCK) {
        float d = float_from_f16(load_u16(data)), m = float_from_f16(load_u16(data + 2));
        uint32_t high = load_u32(data + 4);
        const uint8_t *q = data + 8;
        for (int i = 0; i < BLOCK / 2; i++) {
            out[i] = d * (float)((q[i] & 15) | fifth_bit(high, i)) + m;
            out[i + BLOCK / 2] = d * (float)(q[i] >> 4 | fifth_bit(high, i + BLOCK / 2)) + m;
        }
    }
}

static void dequantize_iq4_nl(const uint8_t *data, int64_t blocks, float *restrict out)
{
    static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    for (int64_t b = 0; b < blocks; b++, data += 2 + BLOCK / 2, out += BLOCK) {
        float d = float_from_f16(load_u16(data));
        const uint8_t *q = data + 2;
        for (int i = 0; i < BLOCK / 2; i++) {
            out[i] = d * (float)values[q[i] & 15];
            out[i + BLOCK / 2] = d * (float)values[q[i] >> 4];
        }
    }
}

/* --- K types. A block's weights come in eight groups of 32. The bits of group g of a 2-bit type
 * lie in 32 bytes shared by four groups, those of a 4-bit type in 32 bytes shared by two. */

static inline int two_bits(const uint8_t *bytes, int group, int i)
{
    return bytes[group / 4 * GROUP + i] >> 2 * (group % 4) & 3;
}

static inline int four_bits(const uint8_t *bytes, int group, int i)
{
    return bytes[group / 2 * GROUP + i] >> 4 * (group % 2) & 15;
}

static void dequantize_q2_k(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 84) {
        const uint8_t *scales = data, *q = data + 16;
        float d = float_from_f16(load_u16(data + 80)), dmin = float_from_f16(load_u16(data + 82));
        for (int half = 0; half < SUPER / HALF; half++, out += HALF) {
            int group = half / 2, start = half % 2 * HALF;
            float step = d * (float)(scales[half] & 15), below = dmin * (float)(scales[half] >> 4);
            for (int i = 0; i < HALF; i++)
                out[i] = step * (float)two_bits(q, group, start + i) - below;
        }
    }
}

/* Sixteen 6-bit scales: byte i % 8 has the low four bits, byte 8 + i % 4 the high two. */
static int q3_k_scale(const uint8_t *scales, int i)
{
    int low = scales[i % 8] >> 4 * (i / 8) & 15, high = scales[8 + i % 4] >> 2 * (i / 4) & 3;
    return (low | high << 4) - 32;
}

/* Weights are -4 to 3: the third bit is stored inverted. */
static void dequantize_q3_k(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 110) {
        const uint8_t *third = data, *q = data + 32, *scales = data + 96;
        float d = float_from_f16(load_u16(data + 108));
        for (int half = 0; half < SUPER / HALF; half++, out += HALF) {
            int group = half / 2, start = half % 2 * HALF;
            float step = d * (float)q3_k_scale(scales, half);
            for (int i = 0; i < HALF; i++) {
                int high = (third[start + i] >> group & 1) << 2;
                out[i] = step * (float)(two_bits(q, group, start + i) + high - 4);
            }
        }
    }
}

/* Group g's 6-bit scale and minimum: whole in bytes g and 4 + g for the first four; the others have
 * four bits in byte 4 + g and two at the top of bytes g - 4 and g. */
static void q4_k_scale(const uint8_t *scales, int g, int *scale, int *minimum)
{
    if (g < 4) {
        *scale = scales[g] & 63;
        *minimum = scales[4 + g] & 63;
        return;
    }
    *scale = (scales[4 + g] & 15) | (scales[g - 4] >> 6) << 4;
    *minimum = scales[4 + g] >> 4 | (scales[g] >> 6) << 4;
}

static void dequantize_q4_k(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 144) {
        const uint8_t *q = data + 16;
        float d = float_from_f16(load_u16(data)), dmin = float_from_f16(load_u16(data + 2));
        for (int g = 0; g < SUPER / GROUP; g++) {
            int scale, minimum;
            q4_k_scale(data + 4, g, &scale, &minimum);
            float step = d * (float)scale, below = dmin * (float)minimum;
            for (int i = 0; i < GROUP; i++)
                *out++ = step * (float)four_bits(q, g, i) - below;
        }
    }
}

static void dequantize_q5_k(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 176) {
        const uint8_t *fifth = data + 16, *q = data + 48;
        float d = float_from_f16(load_u16(data)), dmin = float_from_f16(load_u16(data + 2));
        for (int g = 0; g < SUPER / GROUP; g++) {
            int scale, minimum;
            q4_k_scale(data + 4, g, &scale, &minimum);
            float step = d * (float)scale, below = dmin * (float)minimum;
            for (int i = 0; i < GROUP; i++)
                *out++ = step * (float)(four_bits(q, g, i) | (fifth[i] >> g & 1) << 4) - below;
        }
    }
}

/* The low four bits lie in 64 bytes shared by groups 0 and 2, 1 and 3 of each half. */
static void dequantize_q6_k(const uint8_t *data, int64_t blocks, float *restrict out)
{
    for (int64_t b = 0; b < blocks; b++, data += 210) {
        const uint8_t *low = data, *high = data + 128;
        const int8_t *scales = (const int8_t *)data + 192;
        float d = float_from_f16(load_u16(data + 208));
        for (int half = 0; half < SUPER / HALF; half++, out += HALF) {
            int group = half / 2, start = half % 2 * HALF;
            const uint8_t *four = low + group / 4 * 64 + group % 2 * GROUP + start;
            int shift = group % 4 / 2 * 4;
            float step = d * (float)scales[half];
            for (int i = 0; i < HALF; i++) {
                int high_bits = two_bits(high, group, start + i) << 4;
                out[i] = step * (float)((four[i] >> shift & 15) + high_bits - 32);
            }
        }
    }
}

void dequantize(enum file_type type, const void *data, int64_t count, float *out)
{
    static void (*const readers[FILE_TYPES])(const uint8_t *, int64_t, float *restrict) = {
        [FILE_F16] = dequantize_f16,       [FILE_BF16] = dequantize_bf16,
        [FILE_Q8_0] = dequantize_q8_0,     [FILE_Q4_0] = dequantize_q4_0,
        [FILE_Q4_1] = dequantize_q4_1,     [FILE_Q5_0] = dequantize_q5_0,
        [FILE_Q5_1] = dequantize_q5_1,     [FILE_Q2_K] = dequantize_q2_k,
        [FILE_Q3_K] = dequantize_q3_k,     [FILE_Q4_K] = dequantize_q4_k,
        [FILE_Q5_K] = dequantize_q5_k,     [FILE_Q6_K] = dequantize_q6_k,
        [FILE_IQ4_NL] = dequantize_iq4_nl,
    };
    invariant(type < FILE_BLOCK_TYPES, "%s has no blocks", types[type].name);
    invariant(count % types[type].block == 0, "%lld weights in blocks of %d", (long long)count,
              types[type].block);
    if (type == FILE_F32)
        memcpy(out, data, (size_t)count * sizeof *out);
    else
        readers[type](data, count / types[type].block, out);
}
