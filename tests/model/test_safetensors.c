/* The safetensors container: what is right is read, whatever is wrong is refused. */
#include "model/safetensors.h"
#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct strbuf container(const char *header, size_t data_bytes)
{
    struct strbuf out = {0};
    put_string(&out, header); /* the length in 8 bytes, the text */
    for (size_t i = 0; i < data_bytes; i++)
        strbuf_char(&out, (char)i);
    return out;
}

static enum status open_bytes(const struct strbuf *bytes, struct safetensors_file *file,
                              struct error *err)
{
    char *path = write_file(bytes);
    *err = (struct error){0};
    enum status status = safetensors_open(path, file, err);
    if (status) cr_expect(!strncmp(err->text, path, strlen(path)), "%s", err->text);
    remove_file(path);
    return status;
}

static void expect_refused_at(int line, struct strbuf bytes, enum status expected, const char *part)
{
    struct safetensors_file file;
    struct error err;
    enum status status = open_bytes(&bytes, &file, &err);
    if (!status) safetensors_close(&file);
    expect_refusal_at(__FILE__, line, status, &err, expected, part);
    strbuf_free(&bytes);
}
#define expect_refused(...) expect_refused_at(__LINE__, __VA_ARGS__)

#define TWO_TENSORS                                                       \
    "{\"__metadata__\":{\"format\":\"pt\"},"                              \
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]}," \
    "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"

Test(safetensors, reads_tensors)
{
    struct strbuf bytes = container(TWO_TENSORS, 20);
    struct safetensors_file file;
    struct error err;
    cr_assert(open_bytes(&bytes, &file, &err) == ST_OK, "%s", err.text);
    cr_assert_eq(file.tensors.count, 2);
    struct file_tensor *b = tensor_directory_find(&file.tensors, "b");
    cr_assert(b && b->type == FILE_BF16 && b->dim_count == 2);
    cr_expect(b->dims[0] == 2 && b->dims[1] == 3 && b->bytes == 12);
    cr_expect_eq(*(const uint8_t *)b->data, 8);
    safetensors_close(&file);
    strbuf_free(&bytes);
}

Test(safetensors, every_truncation_is_refused)
{
    struct strbuf bytes = container(TWO_TENSORS, 20);
    char *path = write_file(&bytes);
    for (size_t length = bytes.length; length-- > 0;) {
        struct safetensors_file file;
        struct error err = {0};
        cr_assert(truncate(path, (off_t)length) == 0);
        cr_assert(safetensors_open(path, &file, &err) == ST_BAD_FILE,
                  "the first %zu of %zu bytes were taken", length, bytes.length);
    }
    remove_file(path);
    strbuf_free(&bytes);
}

/* Each byte of length and header damaged four ways: refused, or read with every tensor inside. */
Test(safetensors, no_damaged_byte_leads_outside)
{
    struct strbuf bytes = container(TWO_TENSORS, 20);
    for (size_t i = 0; i < bytes.length - 20; i++)
        for (int way = 0; way < 4; way++) {
            unsigned char old = (unsigned char)bytes.data[i];
            unsigned char ways[] = {0, 0xff, old ^ 1, old ^ 0x80};
            struct safetensors_file file;
            struct error err;
            bytes.data[i] = (char)ways[way];
            enum status status = open_bytes(&bytes, &file, &err);
            bytes.data[i] = (char)old;
            if (status) continue;
            for (size_t t = 0; t < file.tensors.count; t++) {
                const struct file_tensor *tensor = &file.tensors.items[t];
                size_t at = (size_t)((const uint8_t *)tensor->data - file.map.data);
                cr_expect(range_inside(at, tensor->bytes, file.map.size));
            }
            safetensors_close(&file);
        }
    strbuf_free(&bytes);
}

Test(safetensors, length_and_json_of_the_header)
{
    struct strbuf huge = {0};
    put_u64(&huge, UINT64_MAX);
    strbuf_text(&huge, "{}");
    expect_refused(huge, ST_BAD_FILE, "a header of 18446744073709551615 bytes");
    expect_refused(container("", 0), ST_BAD_FILE, "the header: line 1");
    expect_refused(container("[]", 0), ST_BAD_FILE, "the JSON is no object");
    expect_refused(container("{\"a\":", 0), ST_BAD_FILE, "the header: line 1");
    expect_refused(container("{\"\xff\":{}}", 0), ST_BAD_FILE, "the header: line 1");
    expect_refused(container("{\"a\":[[[[[[]]]]]]}", 0), ST_BAD_FILE,
                   "nested 7 deep; allowed is 4");
    expect_refused(container("{\"a\":{},\"a\":{}}", 0), ST_BAD_FILE, "duplicate");
    expect_refused(container("{\"a b\":{}}", 0), ST_BAD_FILE, "printable ASCII");
    expect_refused(container("{\"a\":7}", 0), ST_BAD_FILE, "tensor a: the entry is no object");
}

/* One tensor "t" with these three members over 8 bytes of data. */
static void expect_entry_refused_at(int line, const char *dtype, const char *shape,
                                    const char *offsets, enum status expected, const char *part)
{
    struct strbuf header = {0};
    strbuf_format(&header, "{\"t\":{\"dtype\":%s,\"shape\":%s,\"data_offsets\":%s}}", dtype, shape,
                  offsets);
    expect_refused_at(line, container(strbuf_cstr(&header), 8), expected, part);
    strbuf_free(&header);
}
#define expect_entry_refused(...) expect_entry_refused_at(__LINE__, __VA_ARGS__)

Test(safetensors, types_and_shapes)
{
    expect_entry_refused("\"I64\"", "[1]", "[0,8]", ST_UNSUPPORTED,
                         "tensor t: dtype is I64; supported are F32, F16 and BF16");
    expect_entry_refused("7", "[1]", "[0,8]", ST_BAD_FILE, "dtype is an integer");
    expect_entry_refused("null", "[1]", "[0,8]", ST_BAD_FILE, "dtype is missing");
    expect_entry_refused("\"F32\"", "2", "[0,8]", ST_BAD_FILE, "shape is no list");
    expect_entry_refused("\"F32\"", "[1,1,1,1,2]", "[0,8]", ST_BAD_FILE, "shape is no list");
    expect_entry_refused("\"F32\"", "[-2]", "[0,8]", ST_BAD_FILE, "dimension 0 of shape");
    expect_entry_refused("\"F32\"", "[2.0]", "[0,8]", ST_BAD_FILE, "dimension 0 of shape");
    expect_entry_refused("\"F32\"", "[4294967296,4294967296]", "[0,8]", ST_BAD_FILE,
                         "does not fit 64 bits");
    expect_entry_refused("\"F32\"", "[99999999999999999999]", "[0,8]", ST_BAD_FILE, "too big");
}

Test(safetensors, tensors_cover_the_data)
{
    expect_entry_refused("\"F32\"", "[2]", "[0]", ST_BAD_FILE, "no list of two integers");
    expect_entry_refused("\"F32\"", "[2]", "[0,\"8\"]", ST_BAD_FILE, "no list of two integers");
    expect_entry_refused("\"F32\"", "[2]", "[8,16]", ST_BAD_FILE, "outside the data of 8 bytes");
    expect_entry_refused("\"F32\"", "[2]", "[-8,0]", ST_BAD_FILE, "outside the data");
    expect_entry_refused("\"F32\"", "[2]", "[8,0]", ST_BAD_FILE, "outside the data");
    expect_entry_refused("\"F32\"", "[1]", "[0,8]", ST_BAD_FILE,
                         "hold 8 bytes; the shape asks for 4");
    expect_entry_refused("\"F32\"", "[1]", "[0,4]", ST_BAD_FILE,
                         "the tensors end at 4 of the data");
    expect_entry_refused("\"F32\"", "[1]", "[4,8]", ST_BAD_FILE, "begins at 4 of the data");
    expect_refused(container("{\"a\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]},"
                             "\"b\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[2,8]}}",
                             8),
                   ST_BAD_FILE, "tensor b begins at 2 of the data, the one before ends at 6");
}
