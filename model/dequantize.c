#include "model/dequantize.h"
#include "base/status.h"

#include <string.h>

#define BLOCK 32

static const struct {
    const char *name;
    int32_t block, block_bytes;
} types[FILE_TYPES] = {
    [FILE_F32] = {"F32", 1, 4},        [FILE_F16] = {"F16", 1, 2},
    [FILE_BF16] = {"BF16", 1, 2},      [FILE_Q8_0] = {"Q8_0", BLOCK, 2 + BLOCK},
    [FILE_Q4_0] = {"Q4_0", BLOCK, 18}, [FILE_Q4_1] = {"Q4_1", BLOCK, 20},
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

void dequantize(enum file_type type, const void *data, int64_t count, float *out)
{
    invariant(count % types[type].block == 0, "%lld weights in blocks of %d", (long long)count,
              types[type].block);
    switch (type) {
    case FILE_F32:
        memcpy(out, data, (size_t)count * sizeof *out);
        return;
    case FILE_F16:
        dequantize_f16(data, count, out);
        return;
    case FILE_BF16:
        dequantize_bf16(data, count, out);
        return;
    case FILE_Q8_0:
        dequantize_q8_0(data, count / BLOCK, out);
        return;
    case FILE_Q4_0:
        dequantize_q4_0(data, count / BLOCK, out);
        return;
    case FILE_Q4_1:
        dequantize_q4_1(data, count / BLOCK, out);
        return;
    case FILE_TYPES:
        break;
    }
    die("file type %d", (int)type);
}
