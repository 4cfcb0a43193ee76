/* Quantized directories: rows as the formats define them, and whatever is wrong refused, down to
 * any changed byte of any file. The directory is written here byte by byte, not by the program's
 * writer.
 */
#include "base/base.h"
#include "model/checkpoint.h"
#include "model/checksum.h"
#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* hidden 24 and intermediate 20: a padded vector, a padded nibble of scales and bits of zeros. */
#define CONFIG                                                                       \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":5,\"hidden_size\":24," \
    "\"intermediate_size\":36,\"num_hidden_layers\":1,\"num_attention_heads\":2,"    \
    "\"num_key_value_heads\":1,\"max_position_embeddings\":64,\"tie_word_embeddings\":true}"
#define TOKENIZER                                                                   \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":" \
    "[\"a b\"]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":true}}"
#define LAYER "model.layers.0."

struct part {
    char name[128];
    const char *dtype;
    int64_t dims[2]; /* a second of 0: a vector */
    struct strbuf bytes;
};

/* A directory in the making. What a test changes before it is written gets right checksums. */
struct maker {
    struct part parts[64];
    size_t count;
    json_t *record;
    const char *config;
};

static struct part *add_part(struct maker *m, const char *name, const char *dtype, int64_t rows,
                             int64_t cols)
{
    struct part *part = &m->parts[m->count++];
    *part = (struct part){.dtype = dtype, .dims = {rows, cols}};
    snprintf(part->name, sizeof part->name, "%s", name);
    return part;
}

static struct part *find_part(struct maker *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (!strcmp(m->parts[i].name, name)) return &m->parts[i];
    cr_assert_fail("no part %s", name);
    return NULL;
}

static void add_record(struct maker *m, const char *name, const char *format)
{
    json_object_set_new(json_object_get(m->record, "tensors"), name,
                        json_pack("{s:s}", "format", format));
}

static void add_vector(struct maker *m, const char *name, int64_t count)
{
    struct part *part = add_part(m, name, "F32", count, 0);
    for (int64_t i = 0; i < count; i++)
        put_f32(&part->bytes, 1 + (float)i / 64);
}

/* Numbers that differ from byte to byte. */
static uint8_t noise(size_t i)
{
    return (uint8_t)((i * 2654435761u) >> 13);
}

static void fill(struct part *part, size_t count)
{
    for (size_t i = 0; i < count; i++)
        strbuf_char(&part->bytes, (char)noise(i + part->name[7]));
}

static void add_w8(struct maker *m, const char *name, int64_t rows, int64_t cols)
{
    char full[128];
    snprintf(full, sizeof full, "%s.int8", name);
    struct part *part = add_part(m, full, "I8", rows, cols);
    fill(part, (size_t)(rows * cols));
    for (size_t i = 0; i < part->bytes.length; i++)
        if ((uint8_t)part->bytes.data[i] == 0x80) part->bytes.data[i] = 0x7f;
    snprintf(full, sizeof full, "%s.scale", name);
    part = add_part(m, full, "BF16", rows, w8_groups(cols));
    for (int64_t i = 0; i < rows * w8_groups(cols); i++) {
        uint16_t bits = (uint16_t)(0x3c00 + i);
        strbuf_append(&part->bytes, &bits, sizeof bits);
    }
    add_record(m, name, "W8");
}

static void clear_padding(struct part *codes, struct part *scales, struct part *zeros, int64_t rows,
                          int64_t cols)
{
    int64_t n = vsq4z_vectors(cols);
    for (int64_t row = 0; row < rows; row++) {
        uint8_t *last = (uint8_t *)scales->bytes.data + (row + 1) * vsq4z_scale_bytes(cols) - 1;
        if (n % 2) *last &= 15;
        last = (uint8_t *)zeros->bytes.data + (row + 1) * vsq4z_zero_bytes(cols) - 1;
        if (n % 8) *last &= (uint8_t)((1 << n % 8) - 1);
        int z = 7 + (*last >> (n - 1) % 8 & 1);
        for (int64_t k = cols; k < n * VSQ4Z_VECTOR; k++) {
            uint8_t *two = (uint8_t *)codes->bytes.data + row * vsq4z_code_bytes(cols) + k / 2;
            *two = (uint8_t)(k % 2 ? (*two & 15) | z << 4 : (*two & 0xf0) | z);
        }
    }
}

static void add_vsq4z(struct maker *m, const char *name, int64_t rows, int64_t cols)
{
    static const char *const suffixes[] = {"codes", "scales", "zeros"};
    int64_t bytes[] = {vsq4z_code_bytes(cols), vsq4z_scale_bytes(cols), vsq4z_zero_bytes(cols)};
    struct part *parts[3];
    char full[128];
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s.%s", name, suffixes[i]);
        parts[i] = add_part(m, full, "U8", rows, bytes[i]);
        fill(parts[i], (size_t)(rows * bytes[i]));
    }
    clear_padding(parts[0], parts[1], parts[2], rows, cols);
    snprintf(full, sizeof full, "%s.row_scale", name);
    struct part *scale = add_part(m, full, "F32", rows, 0);
    for (int64_t i = 0; i < rows; i++)
        put_f32(&scale->bytes, 0.001f * (float)(i + 1));
    add_record(m, name, "VSQ4z");
}

static struct maker make_model(void)
{
    struct maker m = {.config = CONFIG};
    m.record = json_pack("{s:s, s:i, s:{}, s:{}, s:{}}", "format", "espalier-quantized", "version",
                         1, "source", "options", "tensors");
    add_vector(&m, "model.norm.weight", 24);
    add_vector(&m, LAYER "input_layernorm.weight", 24);
    add_vector(&m, LAYER "post_attention_layernorm.weight", 24);
    add_w8(&m, "model.embed_tokens.weight", 5, 24);
    add_vsq4z(&m, LAYER "self_attn.q_proj.weight", 24, 24);
    add_vsq4z(&m, LAYER "self_attn.k_proj.weight", 12, 24);
    add_vsq4z(&m, LAYER "self_attn.v_proj.weight", 12, 24);
    add_w8(&m, LAYER "self_attn.o_proj.weight", 24, 24);
    add_vsq4z(&m, LAYER "mlp.gate_proj.weight", 36, 24);
    add_vsq4z(&m, LAYER "mlp.up_proj.weight", 36, 24);
    add_vsq4z(&m, LAYER "mlp.down_proj.weight", 24, 36);
    return m;
}

/* --- writing it */

/* F32, then BF16, then bytes, so that scales are aligned. */
static struct strbuf write_weights(struct maker *m, json_t *checksums)
{
    static const char *const order[] = {"F32", "BF16", "I8", "U8"};
    json_t *header = json_object();
    struct strbuf data = {0}, file = {0};
    for (size_t d = 0; d < COUNT_OF(order); d++)
        for (size_t i = 0; i < m->count; i++) {
            struct part *part = &m->parts[i];
            if (strcmp(part->dtype, order[d]) != 0) continue;
            size_t begin = data.length, size = part->bytes.length;
            strbuf_append(&data, part->bytes.data, size);
            json_t *shape = json_pack("[I]", (json_int_t)part->dims[0]);
            if (part->dims[1]) json_array_append_new(shape, json_integer(part->dims[1]));
            json_object_set_new(header, part->name,
                                json_pack("{s:s, s:o, s:[I, I]}", "dtype", part->dtype, "shape",
                                          shape, "data_offsets", (json_int_t)begin,
                                          (json_int_t)data.length));
            json_object_set_new(json_object_get(checksums, "tensors"), part->name,
                                json_string(checksum_of(part->bytes.data, size).digits));
            strbuf_free(&part->bytes);
        }
    char *text = json_dumps(header, JSON_COMPACT);
    struct strbuf padded = {0};
    strbuf_text(&padded, text);
    while (padded.length % 8)
        strbuf_char(&padded, ' ');
    put_u64(&file, padded.length);
    strbuf_append(&file, padded.data, padded.length);
    json_object_set_new(checksums, "header",
                        json_string(checksum_of(file.data, file.length).digits));
    strbuf_append(&file, data.data, data.length);
    strbuf_free(&data);
    strbuf_free(&padded);
    free(text);
    json_decref(header);
    return file;
}

/* The record with its own checksum behind it. */
static struct strbuf seal(const json_t *record)
{
    struct strbuf out = {0};
    char *text = json_dumps(record, JSON_INDENT(1));
    strbuf_append(&out, text, strlen(text) - 2); /* without "\n}" */
    strbuf_text(&out, ",\n\"checksum\": \"");
    struct checksum sum = checksum_of(out.data, out.length);
    strbuf_format(&out, "%s\"\n}\n", sum.digits);
    free(text);
    return out;
}

static char *finish(struct maker *m)
{
    char *dir = make_directory();
    json_t *checksums = json_pack("{s:{}, s:{}}", "tensors", "files");
    json_t *files = json_object_get(checksums, "files");
    struct strbuf weights = write_weights(m, checksums);
    write_in(dir, "model.safetensors", weights.data, weights.length);
    write_in(dir, "config.json", m->config, strlen(m->config));
    write_in(dir, "tokenizer.json", TOKENIZER, strlen(TOKENIZER));
    json_object_set_new(files, "config.json",
                        json_string(checksum_of(m->config, strlen(m->config)).digits));
    json_object_set_new(files, "tokenizer.json",
                        json_string(checksum_of(TOKENIZER, strlen(TOKENIZER)).digits));
    json_object_set_new(m->record, "checksums", checksums);
    struct strbuf record = seal(m->record);
    write_in(dir, "quantization.json", record.data, record.length);
    strbuf_free(&weights);
    strbuf_free(&record);
    json_decref(m->record);
    return dir;
}

static enum status open_and_close(const char *dir, struct error *err)
{
    struct checkpoint *checkpoint;
    *err = (struct error){0};
    enum status status = checkpoint_open(dir, &checkpoint, err);
    if (!status) checkpoint_close(checkpoint);
    return status;
}

static void expect_refused_at(int line, struct maker *m, enum status expected, const char *part)
{
    struct error err;
    char *dir = finish(m);
    enum status status = open_and_close(dir, &err);
    expect_refusal_at(__FILE__, line, status, &err, expected, part);
    cr_expect(!strncmp(err.text, dir, strlen(dir)), "%s", err.text);
    remove_directory(dir);
}
#define expect_refused(...) expect_refused_at(__LINE__, __VA_ARGS__)

/* --- what it holds */

Test(quantized_directory, rows_are_what_the_formats_define)
{
    struct maker m = make_model();
    struct checkpoint *checkpoint;
    struct error err = {0};
    float row[36];
    char *dir = finish(&m);
    cr_assert(checkpoint_open(dir, &checkpoint, &err) == ST_OK, "%s", err.text);
    const struct checkpoint_tensor *down = checkpoint_tensor(checkpoint, TENSOR_DOWN, 0);
    cr_assert(down->type == FILE_VSQ4Z && down->vsq4z.rows == 24 && down->vsq4z.cols == 36);
    cr_expect_eq(down->bytes, 24 * (24 + 2 + 1 + 4));
    for (int64_t r = 0; r < down->rows; r++) {
        checkpoint_read_rows(down, r, 1, row);
        for (int64_t k = 0; k < 36; k++)
            cr_assert_eq(row[k], (float)vsq4z_level(&down->vsq4z, r, k) * down->vsq4z.row_scale[r]);
    }
    const struct checkpoint_tensor *table = checkpoint_tensor(checkpoint, TENSOR_EMBEDDING, 0);
    cr_assert(table->type == FILE_W8 && table->w8.rows == 5 && table->w8.cols == 24);
    checkpoint_read_rows(table, 4, 1, row);
    uint32_t bits = (uint32_t)(0x3c00 + 4) << 16;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    for (int64_t k = 0; k < 24; k++)
        cr_assert_eq(row[k], scale * (float)table->w8.values[4 * 24 + k]);
    cr_expect_str_eq(table->name, "model.embed_tokens.weight");
    cr_expect(checkpoint_quantization(checkpoint) != NULL);
    checkpoint_close(checkpoint);
    remove_directory(dir);
}

/* --- changed bytes */

static struct strbuf read_whole(const char *dir, const char *name)
{
    char path[512], bytes[4096];
    struct strbuf out = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    for (size_t got; (got = fread(bytes, 1, sizeof bytes, file)) > 0;)
        strbuf_append(&out, bytes, got);
    fclose(file);
    return out;
}

Test(quantized_directory, any_changed_byte_is_refused)
{
    static const char *const names[] = {"model.safetensors", "quantization.json", "config.json",
                                        "tokenizer.json"};
    struct maker m = make_model();
    struct error err;
    char *dir = finish(&m);
    for (size_t f = 0; f < COUNT_OF(names); f++) {
        struct strbuf bytes = read_whole(dir, names[f]);
        for (size_t i = 0; i < bytes.length; i++) {
            char changed = (char)(bytes.data[i] ^ (1 << noise(i) % 8));
            char kept = bytes.data[i];
            bytes.data[i] = changed;
            write_in(dir, names[f], bytes.data, bytes.length);
            cr_assert(open_and_close(dir, &err), "%s, byte %zu", names[f], i);
            cr_assert(strstr(err.text, dir), "%s", err.text);
            bytes.data[i] = kept;
        }
        write_in(dir, names[f], bytes.data, bytes.length);
        strbuf_free(&bytes);
    }
    cr_expect_eq(open_and_close(dir, &err), ST_OK, "%s", err.text);
    remove_directory(dir);
}

Test(quantized_directory, a_file_cut_anywhere_is_refused)
{
    static const char *const names[] = {"model.safetensors", "quantization.json", "tokenizer.json"};
    struct maker m = make_model();
    struct error err;
    char *dir = finish(&m);
    for (size_t f = 0; f < COUNT_OF(names); f++) {
        struct strbuf bytes = read_whole(dir, names[f]);
        for (size_t length = 0; length < bytes.length; length++) {
            write_in(dir, names[f], bytes.data, length);
            cr_assert(open_and_close(dir, &err), "%s, %zu bytes", names[f], length);
        }
        strbuf_char(&bytes, ' ');
        write_in(dir, names[f], bytes.data, bytes.length);
        cr_assert(open_and_close(dir, &err), "%s, one byte more", names[f]);
        write_in(dir, names[f], bytes.data, bytes.length - 1);
        strbuf_free(&bytes);
    }
    cr_expect_eq(open_and_close(dir, &err), ST_OK, "%s", err.text);
    remove_directory(dir);
}

Test(quantized_directory, a_changed_byte_is_named_with_its_tensor_and_offset)
{
    struct maker m = make_model();
    struct error err;
    char *dir = finish(&m);
    struct strbuf bytes = read_whole(dir, "model.safetensors");
    bytes.data[bytes.length - 24 * 1 - 1] ^= 2; /* down's zeros are the last part */
    write_in(dir, "model.safetensors", bytes.data, bytes.length);
    expect_refusal(open_and_close(dir, &err), &err, ST_BAD_FILE,
                   "/model.safetensors: tensor " LAYER "mlp.down_proj.weight.scales, offsets ");
    strbuf_free(&bytes);
    remove_directory(dir);
}

/* --- files that say something illegal, with right checksums */

Test(quantized_directory, scales_must_be_finite_and_not_negative)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY, -1e-3f};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct maker m = make_model();
        struct part *part = find_part(&m, LAYER "mlp.up_proj.weight.row_scale");
        memcpy(part->bytes.data + 3 * sizeof(float), &bad[i], sizeof bad[i]);
        expect_refused(&m, ST_BAD_FILE, "tensor " LAYER "mlp.up_proj.weight.row_scale, row 3 (off");
        m = make_model();
        uint32_t bits;
        memcpy(&bits, &bad[i], sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        memcpy(find_part(&m, "model.embed_tokens.weight.scale")->bytes.data + 2 * 2, &half, 2);
        expect_refused(&m, ST_BAD_FILE, "tensor model.embed_tokens.weight.scale, row 2 (offset");
    }
}

Test(quantized_directory, int8_of_minus_128_is_refused)
{
    struct maker m = make_model();
    find_part(&m, LAYER "self_attn.o_proj.weight.int8")->bytes.data[25] = (char)0x80;
    expect_refused(&m, ST_BAD_FILE, "the value is -128; allowed is -127 to 127");
}

Test(quantized_directory, padding_must_be_what_weighs_nothing)
{
    struct maker m = make_model(); /* 36 inputs: 3 vectors, 12 inputs of the last are padding */
    find_part(&m, LAYER "mlp.down_proj.weight.codes")->bytes.data[24 + 18] ^= 1;
    expect_refused(&m, ST_BAD_FILE, "mlp.down_proj.weight.codes, row 1 (offset");
    m = make_model();
    find_part(&m, LAYER "mlp.down_proj.weight.scales")->bytes.data[1] |= 0x10;
    expect_refused(&m, ST_BAD_FILE, "mlp.down_proj.weight.scales, row 0 (offset");
    m = make_model();
    find_part(&m, LAYER "mlp.down_proj.weight.zeros")->bytes.data[2] |= 0x08;
    expect_refused(&m, ST_BAD_FILE, "mlp.down_proj.weight.zeros, row 2 (offset");
}

Test(quantized_directory, shapes_and_types_must_fit_the_configuration)
{
    struct maker m = make_model();
    struct part *part = find_part(&m, LAYER "mlp.down_proj.weight.codes");
    part->dims[0] = 12;
    part->dims[1] = 48;
    expect_refused(&m, ST_BAD_FILE, "has shape [12, 48]; config.json asks for [24, 24]");
    m = make_model();
    find_part(&m, LAYER "mlp.down_proj.weight.codes")->dtype = "I8";
    expect_refused(&m, ST_BAD_FILE, "has dtype I8; allowed is U8");
    m = make_model();
    find_part(&m, LAYER "mlp.down_proj.weight.zeros")->name[1] = 'x';
    expect_refused(&m, ST_BAD_FILE, "tensor " LAYER "mlp.down_proj.weight.zeros is missing");
    m = make_model();
    m.config = "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":5,\"hidden_size\":24,"
               "\"intermediate_size\":40,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
               "\"num_key_value_heads\":1,\"max_position_embeddings\":64,"
               "\"tie_word_embeddings\":true}";
    expect_refused(&m, ST_BAD_FILE, "config.json asks for [40, 16]");
}

Test(quantized_directory, formats_must_fit_each_other)
{
    struct maker m = make_model();
    struct part *codes = find_part(&m, LAYER "self_attn.k_proj.weight.codes");
    m.count -= 4; /* the parts of k go, and it comes again as W8 */
    for (int i = 0; i < 4; i++)
        strbuf_free(&codes[i].bytes);
    memmove(codes, codes + 4, (size_t)(&m.parts[m.count] - codes) * sizeof *codes);
    add_w8(&m, LAYER "self_attn.k_proj.weight", 12, 24);
    expect_refused(&m, ST_BAD_FILE, "k_proj.weight is W8; allowed is one format");
    m = make_model();
    json_object_set_new(json_object_get(m.record, "tensors"), LAYER "self_attn.k_proj.weight",
                        json_pack("{s:s}", "format", "W8"));
    expect_refused(&m, ST_BAD_FILE, "is VSQ4z; quantization.json says W8");
    m = make_model();
    add_vector(&m, "model.extra", 6);
    expect_refused(&m, ST_UNSUPPORTED, "tensor model.extra has no place");
}

Test(quantized_directory, versions_and_formats_of_the_record)
{
    struct maker m = make_model();
    json_object_set_new(m.record, "version", json_integer(2));
    expect_refused(&m, ST_UNSUPPORTED, "quantization.json: version is 2; supported is 1");
    m = make_model();
    json_object_set_new(m.record, "format", json_string("awq"));
    expect_refused(&m, ST_UNSUPPORTED, "quantization.json: format is awq");
    m = make_model();
    json_object_del(m.record, "tensors");
    json_object_set_new(m.record, "tensors", json_array());
    expect_refused(&m, ST_BAD_FILE, "quantization.json: tensors is missing or no object");
}

Test(quantized_directory, without_its_record_it_is_not_complete)
{
    struct maker m = make_model();
    struct error err;
    char path[512], *dir = finish(&m);
    snprintf(path, sizeof path, "%s/quantization.json", dir);
    unlink(path);
    expect_refusal(open_and_close(dir, &err), &err, ST_BAD_FILE, "the directory is not complete");
    remove_directory(dir);
}
