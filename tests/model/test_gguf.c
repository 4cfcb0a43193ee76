/* The GGUF container: what is right is read, whatever is wrong is refused with its place. */
#include "tests/model/support_files.h"

#include "model/dequantize.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens these bytes (given away) as a file; the words of a refusal always begin with the path. */
static enum status open_bytes(struct strbuf bytes, struct gguf_file *file, struct error *err)
{
    char *path = write_file(&bytes);
    *err = (struct error){0};
    enum status status = gguf_open(path, file, err);
    if (status) cr_expect(!strncmp(err->text, path, strlen(path)), "%s", err->text);
    remove_file(path);
    strbuf_free(&bytes);
    return status;
}

static void expect_refused_at(int line, struct strbuf bytes, enum status expected, const char *part)
{
    struct gguf_file file;
    struct error err;
    enum status status = open_bytes(bytes, &file, &err);
    if (!status) gguf_close(&file);
    expect_refusal_at(__FILE__, line, status, &err, expected, part);
}
#define expect_refused(...) expect_refused_at(__LINE__, __VA_ARGS__)

static struct strbuf tiny_model(void)
{
    struct gguf_writer w = {0};
    writer_tiny_model(&w);
    return writer_finish(&w);
}

/* --- right */

Test(gguf, reads_keys_and_tensors)
{
    struct gguf_file file;
    struct error err;
    cr_assert(open_bytes(tiny_model(), &file, &err) == ST_OK, "%s", err.text);
    int64_t layers = 0, absent = 42;
    double theta = 0;
    bool bos = false;
    struct gguf_string name = {0};
    const struct gguf_value *tokens = NULL;
    cr_expect(!gguf_get_int(&file, "llama.block_count", 1, 9, &layers, &err) && layers == 1);
    cr_expect(!gguf_get_int(&file, "no.such.key", 1, 9, &absent, &err) && absent == 42);
    cr_expect(!gguf_get_real(&file, "llama.rope.freq_base", &theta, &err) && theta == 5000);
    cr_expect(!gguf_get_bool(&file, "tokenizer.ggml.add_bos_token", &bos, &err) && bos);
    cr_expect(!gguf_get_string(&file, "general.name", &name, &err));
    cr_expect(name.length == 4 && !memcmp(name.text, "Tiny", 4));
    cr_expect(!gguf_get_array(&file, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, &err));
    cr_assert(tokens && tokens->count == 6);
    const uint8_t *at = tokens->data;
    gguf_next_string(&at);
    struct gguf_string second = gguf_next_string(&at);
    cr_expect(second.length == 1 && second.text[0] == 'a');

    struct file_tensor *gate = tensor_directory_find(&file.tensors, "blk.0.ffn_gate.weight");
    cr_assert(gate && gate->dim_count == 2);
    cr_expect(gate->dims[0] == 6 && gate->dims[1] == 8 && gate->bytes == 6 * 8 * 4);
    float last;
    memcpy(&last, (const uint8_t *)gate->data + 47 * sizeof last, sizeof last);
    cr_expect_eq(last, 47);
    cr_expect_null(tensor_directory_find(&file.tensors, "blk.1.ffn_gate.weight"));
    gguf_close(&file);
}

/* Version 2 has the layout of version 3. */
Test(gguf, reads_version_2)
{
    struct gguf_writer w = {.version = 2};
    struct gguf_file file;
    struct error err;
    writer_tiny_model(&w);
    cr_assert(open_bytes(writer_finish(&w), &file, &err) == ST_OK, "%s", err.text);
    cr_expect_not_null(tensor_directory_find(&file.tensors, "blk.0.ffn_gate.weight"));
    cr_expect_not_null(gguf_find(&file, "llama.block_count"));
    gguf_close(&file);
}

Test(gguf, honours_another_alignment)
{
    struct gguf_writer w = {.alignment = 256};
    struct gguf_file file;
    struct error err;
    writer_u32(&w, "general.alignment", 256);
    writer_tensor(&w, "a", 3, 1);
    writer_tensor(&w, "b", 5, 2);
    cr_assert(open_bytes(writer_finish(&w), &file, &err) == ST_OK, "%s", err.text);
    struct file_tensor *b = tensor_directory_find(&file.tensors, "b");
    cr_assert(b);
    cr_expect_eq(((const uint8_t *)b->data - file.map.data) % 256, 0);
    gguf_close(&file);
}

Test(gguf, values_of_another_type_or_range_are_refused)
{
    struct gguf_file file;
    struct error err;
    int64_t number;
    double real;
    bool flag;
    struct gguf_string text;
    const struct gguf_value *array;
    cr_assert(open_bytes(tiny_model(), &file, &err) == ST_OK, "%s", err.text);
    expect_refusal(gguf_get_int(&file, "general.name", 0, 9, &number, &err), &err, ST_BAD_FILE,
                   "general.name is string; expected an integer");
    expect_refusal(gguf_get_int(&file, "llama.block_count", 2, 9, &number, &err), &err, ST_BAD_FILE,
                   "llama.block_count: 1; allowed is 2 to 9");
    expect_refusal(gguf_get_real(&file, "llama.block_count", &real, &err), &err, ST_BAD_FILE,
                   "is u32; expected f32");
    expect_refusal(gguf_get_bool(&file, "llama.block_count", &flag, &err), &err, ST_BAD_FILE,
                   "expected bool");
    expect_refusal(gguf_get_string(&file, "tokenizer.ggml.tokens", &text, &err), &err, ST_BAD_FILE,
                   "is an array of string; expected string");
    expect_refusal(gguf_get_array(&file, "tokenizer.ggml.tokens", GGUF_I32, &array, &err), &err,
                   ST_BAD_FILE, "expected an array of i32");
    gguf_close(&file);
}

/* --- damaged: nothing may be read outside the file (the sanitizers watch) */

Test(gguf, every_truncation_is_refused)
{
    struct strbuf bytes = tiny_model();
    char *path = write_file(&bytes);
    for (size_t length = bytes.length; length-- > 0;) {
        struct gguf_file file;
        struct error err = {0};
        cr_assert(truncate(path, (off_t)length) == 0);
        enum status status = gguf_open(path, &file, &err);
        cr_assert(status == ST_BAD_FILE, "the first %zu of %zu bytes were taken", length,
                  bytes.length);
    }
    remove_file(path);
    strbuf_free(&bytes);
}

/* Each byte of the header once as 0x00, 0xff and with its lowest and highest bit turned: refused,
 * or read with every value inside the file. */
Test(gguf, no_damaged_byte_leads_outside)
{
    struct strbuf bytes = tiny_model();
    size_t header = 0;
    for (size_t i = 0; i + 14 < bytes.length; i++)
        if (!memcmp(bytes.data + i, "ffn_up.weight", 13)) header = i + 64;
    cr_assert(header > 1000 && header < bytes.length);
    for (size_t i = 0; i < header; i++)
        for (int way = 0; way < 4; way++) {
            unsigned char old = (unsigned char)bytes.data[i];
            unsigned char ways[] = {0, 0xff, old ^ 1, old ^ 0x80};
            bytes.data[i] = (char)ways[way];
            char *path = write_file(&bytes);
            struct checkpoint *checkpoint;
            struct error err = {0};
            bytes.data[i] = (char)old;
            if (checkpoint_open(path, &checkpoint, &err) == ST_OK) {
                const struct checkpoint_tensor *q = checkpoint_tensor(checkpoint, TENSOR_Q, 0);
                float row[8];
                for (int64_t r = 0; r < q->rows && q->cols <= 8; r++)
                    checkpoint_read_rows(q, r, 1, row);
                checkpoint_close(checkpoint);
            }
            remove_file(path);
        }
    strbuf_free(&bytes);
}

/* --- the header */

static struct strbuf header(const char *magic, uint32_t version, uint64_t tensors, uint64_t keys)
{
    struct strbuf out = {0};
    strbuf_append(&out, magic, 4);
    put_u32(&out, version);
    put_u64(&out, tensors);
    put_u64(&out, keys);
    return out;
}

Test(gguf, magic_version_and_counts)
{
    expect_refused(header("GGML", 3, 0, 0), ST_BAD_FILE, "47 47 4d 4c, not \"GGUF\"");
    expect_refused(header("GGUF", 0, 0, 0), ST_UNSUPPORTED, "version 0; supported are 2 and 3");
    expect_refused(header("GGUF", 1, 0, 0), ST_UNSUPPORTED, "version 1; supported are 2 and 3");
    expect_refused(header("GGUF", 4, 0, 0), ST_UNSUPPORTED, "version 4; supported are 2 and 3");
    expect_refused(header("GGUF", 3u << 24, 0, 0), ST_UNSUPPORTED, "big-endian");
    expect_refused(header("GGUF", 3, (uint64_t)1 << 60, 0), ST_BAD_FILE,
                   "offset 8: 1152921504606846976 tensors");
    expect_refused(header("GGUF", 3, 0, (uint64_t)1 << 60), ST_BAD_FILE,
                   "offset 16: 1152921504606846976 keys");
    expect_refused(header("GGUF", 3, UINT64_MAX, UINT64_MAX), ST_BAD_FILE, "tensors");
    expect_refused(header("GGUF", 3, 1, 0), ST_BAD_FILE,
                   "1 tensors; a file of 24 bytes can have 0");
}

/* --- keys */

Test(gguf, keys_must_fit_and_be_named)
{
    struct gguf_writer w = {0};
    w.key_count = 1;
    put_u64(&w.keys, UINT64_MAX - 3); /* offset + length overflows */
    put_u64(&w.keys, 0);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "a key needs 18446744073709551612 bytes");

    writer_u32(&w, "", 1);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "a key of 0 bytes");
    writer_u32(&w, "bad\xff\xfekey", 1);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "printable ASCII");
    writer_u32(&w, "two words", 1);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "printable ASCII");

    writer_u32(&w, "twice", 1);
    writer_u32(&w, "once", 1);
    writer_u32(&w, "twice", 2);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "key twice comes twice");

    writer_key(&w, "odd", 13);
    put_u64(&w.keys, 0);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "key odd has type 13; types are 0 to 12");
}

Test(gguf, strings_and_arrays_must_fit)
{
    struct gguf_writer w = {0};
    writer_key(&w, "text", GGUF_STRING);
    put_u64(&w.keys, (uint64_t)1 << 40);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "a key's value needs 1099511627776 bytes");

    writer_key(&w, "list", GGUF_ARRAY);
    put_u32(&w.keys, GGUF_U64);
    put_u64(&w.keys, (uint64_t)1 << 61); /* 2^64 bytes */
    expect_refused(writer_finish(&w), ST_BAD_FILE, "key list has 2305843009213693952 elements");

    writer_key(&w, "list", GGUF_ARRAY);
    put_u32(&w.keys, GGUF_STRING);
    put_u64(&w.keys, UINT64_MAX);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "0 are left");

    writer_key(&w, "list", GGUF_ARRAY);
    put_u32(&w.keys, GGUF_ARRAY);
    put_u64(&w.keys, 1);
    expect_refused(writer_finish(&w), ST_UNSUPPORTED, "key list is an array of arrays");
}

Test(gguf, alignment_is_a_power_of_two)
{
    struct gguf_writer w = {0};
    writer_u32(&w, "general.alignment", 0);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "general.alignment: 0; allowed is 1 to");
    writer_u32(&w, "general.alignment", 3);
    expect_refused(writer_finish(&w), ST_BAD_FILE,
                   "general.alignment: 3; it must be a power of two");
    writer_u32(&w, "general.alignment", UINT32_MAX);
    expect_refused(writer_finish(&w), ST_BAD_FILE, "general.alignment: 4294967295");
    writer_string(&w, "general.alignment", "32");
    expect_refused(writer_finish(&w), ST_BAD_FILE, "general.alignment is string");
}

/* --- tensors */

static void expect_entry_refused_at(int line, const char *name, uint32_t dim_count,
                                    const uint64_t *dims, uint32_t type, uint64_t offset,
                                    enum status expected, const char *part)
{
    struct gguf_writer w = {0};
    writer_tensor(&w, "good", 32, 4);
    writer_entry(&w, name, dim_count, dims, type, offset);
    expect_refused_at(line, writer_finish(&w), expected, part);
}
#define expect_entry_refused(...) expect_entry_refused_at(__LINE__, __VA_ARGS__)
#define DIMS(...)      \
    (const uint64_t[]) \
    {                  \
        __VA_ARGS__    \
    }

Test(gguf, names_and_types_of_tensors)
{
    expect_entry_refused("good", 1, DIMS(32), GGML_F32, 0, ST_BAD_FILE, "good is listed twice");
    expect_entry_refused("", 1, DIMS(32), GGML_F32, 0, ST_BAD_FILE, "a tensor's name of 0 bytes");
    expect_entry_refused("\xc3", 1, DIMS(32), GGML_F32, 0, ST_BAD_FILE, "printable ASCII");
    expect_entry_refused("t", 1, DIMS(256), GGML_IQ2_XS, 0, ST_UNSUPPORTED,
                         "tensor t has type 17 (IQ2_XS); supported are F32, F16, BF16, Q8_0");
    expect_entry_refused("t", 1, DIMS(32), 4000, 0, ST_UNSUPPORTED, "type 4000 (no known type)");
}

Test(gguf, shapes_are_checked_without_overflow)
{
    uint64_t big = (uint64_t)1 << 32;
    expect_entry_refused("t", 0, NULL, GGML_F32, 0, ST_BAD_FILE, "has 0 dimensions");
    expect_entry_refused("t", 5, DIMS(1, 1, 1, 1, 1), GGML_F32, 0, ST_BAD_FILE, "has 5 dimensions");
    expect_entry_refused("t", UINT32_MAX, NULL, GGML_F32, 0, ST_BAD_FILE, "4294967295 dimensions");
    expect_entry_refused("t", 2, DIMS(32, 0), GGML_F32, 0, ST_BAD_FILE, "a dimension of 0");
    expect_entry_refused("t", 1, DIMS(UINT64_MAX), GGML_F32, 0, ST_BAD_FILE, "a dimension of");
    expect_entry_refused("t", 2, DIMS(big, big), GGML_F32, 0, ST_BAD_FILE, "does not fit 64 bits");
    expect_entry_refused("t", 4, DIMS(big, big, big, big), GGML_F32, 0, ST_BAD_FILE,
                         "does not fit");
    expect_entry_refused("t", 2, DIMS(big, big / 4), GGML_F32, 0, ST_BAD_FILE, "does not fit");
    expect_entry_refused("t", 1, DIMS(33), GGML_Q8_0, 0, ST_BAD_FILE,
                         "rows of 33 weights, Q8_0 has blocks of 32");
    expect_entry_refused("t", 2, DIMS(128, 2), GGML_Q6_K, 0, ST_BAD_FILE,
                         "rows of 128 weights, Q6_K has blocks of 256");
}

Test(gguf, tensors_lie_inside_the_file)
{
    expect_entry_refused("t", 2, DIMS(32, 5), GGML_F32, 0, ST_BAD_FILE, "end beyond the file's");
    expect_entry_refused("t", 2, DIMS(32, 4), GGML_F32, 32, ST_BAD_FILE, "end beyond the file's");
    expect_entry_refused("t", 1, DIMS(8), GGML_F32, 1 << 20, ST_BAD_FILE, "at offset 1048576");
    expect_entry_refused("t", 1, DIMS(8), GGML_F32, 0 - (uint64_t)32, ST_BAD_FILE, "end beyond");
    expect_entry_refused("t", 1, DIMS(8), GGML_F32, 4, ST_BAD_FILE,
                         "offset 4 is no multiple of the alignment 32");
}

/* --- the file itself */

Test(gguf, files_that_are_none)
{
    struct gguf_file file;
    struct error err = {0};
    struct strbuf nothing = {0};
    expect_refused(nothing, ST_BAD_FILE, "the file is empty");
    expect_refusal(gguf_open("/no/such/file.gguf", &file, &err), &err, ST_NOT_FOUND,
                   "/no/such/file.gguf: No such file");
    expect_refusal(gguf_open("/dev/zero", &file, &err), &err, ST_BAD_FILE, "not a regular file");
    char *pipe = write_file(&(struct strbuf){0});
    unlink(pipe);
    cr_assert(mkfifo(pipe, 0600) == 0);
    expect_refusal(gguf_open(pipe, &file, &err), &err, ST_BAD_FILE, "not a regular file");
    remove_file(pipe);
}
