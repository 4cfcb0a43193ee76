/* Every type's values, bit for bit those of the `gguf` package (make_dequant_data.py). */
#include "model/dequantize.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLES 8   /* of a type */
#define WEIGHTS 256 /* of a line at most */
#define BYTES   256

struct sample {
    enum file_type type;
    uint8_t bytes[BYTES + 1]; /* from [1] on: unaligned */
    size_t length;
    int weights;
    uint32_t bits[WEIGHTS];
};

static enum file_type type_by_name(const char *name)
{
    enum file_type type = 0;
    while (type < FILE_BLOCK_TYPES && strcmp(file_type_name(type), name) != 0)
        type++;
    cr_assert(type < FILE_BLOCK_TYPES, "type %s", name);
    return type;
}

static bool next_sample(FILE *file, struct sample *s)
{
    char name[8], hex[2 * BYTES + 1];
    if (fscanf(file, "%7s %512s", name, hex) != 2) return false;
    s->type = type_by_name(name);
    s->weights = file_type_block(s->type) == WEIGHTS ? WEIGHTS : 32;
    s->length = strlen(hex) / 2;
    for (size_t i = 0; i < s->length; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};
        s->bytes[1 + i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    for (int i = 0; i < s->weights; i++)
        cr_assert(fscanf(file, "%8x", &s->bits[i]) == 1);
    return true;
}

static FILE *open_samples(void)
{
    FILE *file = fopen(TEST_DATA "/dequant.txt", "r");
    cr_assert(file, TEST_DATA "/dequant.txt: %m");
    return file;
}

Test(dequantize, equals_the_gguf_package)
{
    FILE *file = open_samples();
    struct sample s;
    int seen[FILE_BLOCK_TYPES] = {0};
    while (next_sample(file, &s)) {
        float out[WEIGHTS];
        cr_assert_eq(s.length, file_type_bytes(s.type, s.weights), "%s", file_type_name(s.type));
        dequantize(s.type, s.bytes + 1, s.weights, out);
        for (int i = 0; i < s.weights; i++) {
            uint32_t bits;
            memcpy(&bits, &out[i], sizeof bits);
            cr_expect(bits == s.bits[i], "%s block %d weight %d: %08x, expected %08x",
                      file_type_name(s.type), seen[s.type], i, bits, s.bits[i]);
        }
        seen[s.type]++;
    }
    fclose(file);
    for (enum file_type type = 0; type < FILE_BLOCK_TYPES; type++)
        cr_expect(seen[type] == SAMPLES, "%d blocks of %s", seen[type], file_type_name(type));
}

/* A row is its blocks one after the other: all samples of a type at once, as one row. */
Test(dequantize, a_row_is_its_blocks)
{
    static uint8_t row[SAMPLES * BYTES];
    static uint32_t expected[SAMPLES * WEIGHTS], found[SAMPLES * WEIGHTS];
    for (enum file_type type = 0; type < FILE_BLOCK_TYPES; type++) {
        FILE *file = open_samples();
        struct sample s;
        size_t length = 0, count = 0;
        while (next_sample(file, &s)) {
            if (s.type != type) continue;
            memcpy(row + length, s.bytes + 1, s.length);
            memcpy(expected + count, s.bits, (size_t)s.weights * sizeof *s.bits);
            length += s.length;
            count += (size_t)s.weights;
        }
        fclose(file);
        dequantize(type, row, (int64_t)count, (float *)found);
        cr_expect_arr_eq(found, expected, count * sizeof *found, "%s", file_type_name(type));
    }
}
