/* The matrices of a quantized directory: their parts, values and rows. */
#include "model/quantized_directory.h"
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- binding */

/* Part NAME.SUFFIX, of that type and shape (a second dimension of 0: a vector). */
static enum status find_part(const struct tensor_directory *tensors, const char *name,
                             const char *suffix, enum file_type type, const int64_t dims[2],
                             const void **data, size_t *bytes, struct error *err)
{
    char full[TENSOR_MAX_NAME + 32], found[96], wanted[96];
    int32_t dim_count = dims[1] ? 2 : 1;
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    struct file_tensor *part = tensor_directory_find(tensors, full);
    if (!part) return fail(err, ST_BAD_FILE, "tensor %s is missing", full);
    if (part->type != type)
        return fail(err, ST_BAD_FILE, "tensor %s (offset %llu) has dtype %s; allowed is %s", full,
                    (unsigned long long)part->offset, file_type_name(part->type),
                    file_type_name(type));
    if (part->dim_count != dim_count ||
        memcmp(part->dims, dims, (size_t)dim_count * sizeof *dims) != 0)
        return fail(
            err, ST_BAD_FILE, "tensor %s (offset %llu) has shape %s; config.json asks for %s", full,
            (unsigned long long)part->offset, shape_text(part->dims, part->dim_count, found),
            shape_text(dims, dim_count, wanted));
    part->used = true;
    *data = part->data;
    *bytes += part->bytes;
    return ST_OK;
}

/* Scales are read in place: a foreign writer might have put them at any byte. */
static enum status check_aligned(const char *name, const char *suffix, const void *data,
                                 size_t alignment, struct error *err)
{
    if ((uintptr_t)data % alignment == 0) return ST_OK;
    return fail(err, ST_BAD_FILE, "tensor %s.%s does not begin at a multiple of %zu bytes", name,
                suffix, alignment);
}

static enum status bind_vsq4z(const struct tensor_directory *tensors, const char *name,
                              struct checkpoint_tensor *out, struct error *err)
{
    struct vsq4z_matrix *m = &out->vsq4z;
    int64_t rows = out->rows, cols = out->cols;
    enum status status;
    if (cols > VSQ4Z_MAX_COLS)
        return fail(err, ST_UNSUPPORTED, "tensor %s has %lld inputs; VSQ4z allows %d", name,
                    (long long)cols, (int)VSQ4Z_MAX_COLS);
    const struct {
        const char *suffix;
        int64_t dims[2];
        const uint8_t **data;
    } parts[] = {{"codes", {rows, vsq4z_code_bytes(cols)}, &m->codes},
                 {"scales", {rows, vsq4z_scale_bytes(cols)}, &m->scales},
                 {"zeros", {rows, vsq4z_zero_bytes(cols)}, &m->zeros}};
    const void *data;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if ((status = find_part(tensors, name, parts[i].suffix, FILE_U8, parts[i].dims, &data,
                                &out->bytes, err)))
            return status;
        *parts[i].data = data;
    }
    status = find_part(tensors, name, "row_scale", FILE_F32, (int64_t[2]){rows, 0}, &data,
                       &out->bytes, err);
    if (!status) status = check_aligned(name, "row_scale", data, _Alignof(float), err);
    if (status) return status;
    m->row_scale = data;
    m->rows = rows;
    m->cols = cols;
    return ST_OK;
}

static enum status bind_w8(const struct tensor_directory *tensors, const char *name,
                           struct checkpoint_tensor *out, struct error *err)
{
    const int64_t values[2] = {out->rows, out->cols}, scales[2] = {out->rows, w8_groups(out->cols)};
    const void *codes, *data;
    enum status status =
        find_part(tensors, name, "int8", FILE_I8, values, &codes, &out->bytes, err);
    if (!status)
        status = find_part(tensors, name, "scale", FILE_BF16, scales, &data, &out->bytes, err);
    if (!status) status = check_aligned(name, "scale", data, _Alignof(uint16_t), err);
    if (status) return status;
    out->w8 = (struct w8_matrix){out->rows, out->cols, codes, data};
    return ST_OK;
}

static bool part_exists(const struct tensor_directory *tensors, const char *name,
                        const char *suffix)
{
    char full[TENSOR_MAX_NAME + 32];
    snprintf(full, sizeof full, "%s.%s", name, suffix);
    return tensor_directory_find(tensors, full) != NULL;
}

static bool any_part(const struct tensor_directory *tensors, const char *name,
                     const char *const *suffixes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (part_exists(tensors, name, suffixes[i])) return true;
    return false;
}

static const char *const vsq4z_suffixes[] = {"codes", "scales", "zeros", "row_scale"};
static const char *const w8_suffixes[] = {"int8", "scale"};

bool quantized_parts_exist(const struct tensor_directory *tensors, const char *name)
{
    return any_part(tensors, name, vsq4z_suffixes, COUNT_OF(vsq4z_suffixes)) ||
           any_part(tensors, name, w8_suffixes, COUNT_OF(w8_suffixes));
}

/* The name as quantization.json has it, which lives as long as the checkpoint, and the format that
 * its record says. */
static enum status find_record(const struct quantized_directory *quantized,
                               struct checkpoint_tensor *out, const char *name, struct error *err)
{
    json_t *records = json_object_get(quantized->json, "tensors");
    void *place = json_object_iter_at(records, name);
    if (!place)
        return fail(err, ST_BAD_FILE, "tensor %s has no record in " QUANTIZATION_FILE, name);
    const char *format =
        json_string_value(json_object_get(json_object_iter_value(place), "format"));
    out->name = json_object_iter_key(place);
    if (format && !strcmp(format, file_type_name(out->type))) return ST_OK;
    return fail(err, ST_BAD_FILE, "tensor %s is %s; " QUANTIZATION_FILE " says %.32s", name,
                file_type_name(out->type), format ? format : "nothing of its format");
}

/* The format is that of the parts which are there; what is missing of it, or left over of another,
 * is refused. */
enum status quantized_matrix_bind(const struct quantized_directory *quantized,
                                  const struct tensor_directory *tensors, const char *name,
                                  int64_t rows, int64_t cols, struct checkpoint_tensor *out,
                                  struct error *err)
{
    *out = (struct checkpoint_tensor){.rows = rows, .cols = cols};
    if (any_part(tensors, name, vsq4z_suffixes, COUNT_OF(vsq4z_suffixes)))
        out->type = FILE_VSQ4Z;
    else if (any_part(tensors, name, w8_suffixes, COUNT_OF(w8_suffixes)))
        out->type = FILE_W8;
    else
        return fail(err, ST_BAD_FILE,
                    "tensor %s: neither %s.codes (VSQ4z) nor %s.int8 (W8) is there", name, name,
                    name);
    enum status status = out->type == FILE_VSQ4Z ? bind_vsq4z(tensors, name, out, err)
                                                 : bind_w8(tensors, name, out, err);
    return status ? status : find_record(quantized, out, name, err);
}

/* --- values */

static float float_from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static long long offset_in(const void *file, const void *at)
{
    return (long long)((const uint8_t *)at - (const uint8_t *)file);
}

static enum status bad_scale(const char *name, const char *suffix, const void *file, const void *at,
                             int64_t row, float value, struct error *err)
{
    return fail(err, ST_BAD_FILE,
                "tensor %s.%s, row %lld (offset %lld): the scale is %g; allowed is finite and >= 0",
                name, suffix, (long long)row, offset_in(file, at), (double)value);
}

static enum status check_w8(const struct checkpoint_tensor *matrix, const void *file,
                            struct error *err)
{
    const struct w8_matrix *m = &matrix->w8;
    int64_t groups = w8_groups(m->cols);
    for (int64_t i = 0; i < m->rows * groups; i++) {
        float scale = float_from_bf16(m->scales[i]);
        if (!(isfinite(scale) && scale >= 0))
            return bad_scale(matrix->name, "scale", file, &m->scales[i], i / groups, scale, err);
    }
    const int8_t *lowest = memchr(m->values, 0x80, (size_t)(m->rows * m->cols));
    if (!lowest) return ST_OK;
    return fail(err, ST_BAD_FILE,
                "tensor %s.int8, row %lld (offset %lld): the value is -128; allowed is -127 to 127",
                matrix->name, (long long)((lowest - m->values) / m->cols), offset_in(file, lowest));
}

/* `at` has a value in bits `mask`; only `wanted` may stand there. */
static enum status bad_padding(const struct checkpoint_tensor *matrix, const char *suffix,
                               const void *file, const uint8_t *at, int64_t row, int mask,
                               int wanted, struct error *err)
{
    return fail(err, ST_BAD_FILE,
                "tensor %s.%s, row %lld (offset %lld): 0x%02x behind the last input; allowed is "
                "0x%02x in the bits 0x%02x",
                matrix->name, suffix, (long long)row, offset_in(file, at), *at & mask, wanted,
                mask);
}

/* Codes behind the last input are q = z, so that they weigh 0. */
static enum status check_code_padding(const struct checkpoint_tensor *matrix, int64_t row,
                                      const void *file, struct error *err)
{
    const struct vsq4z_matrix *m = &matrix->vsq4z;
    int64_t vectors = vsq4z_vectors(m->cols);
    int32_t zero = vsq4z_zero(m, row, vectors - 1);
    for (int64_t k = m->cols; k < vectors * VSQ4Z_VECTOR; k++)
        if (vsq4z_code(m, row, k) != zero)
            return bad_padding(matrix, "codes", file,
                               m->codes + row * vsq4z_code_bytes(m->cols) + k / 2, row,
                               k % 2 ? 0xf0 : 0x0f, k % 2 ? zero << 4 : zero, err);
    return ST_OK;
}

static enum status check_vsq4z_row(const struct checkpoint_tensor *matrix, int64_t row,
                                   const void *file, struct error *err)
{
    const struct vsq4z_matrix *m = &matrix->vsq4z;
    int64_t vectors = vsq4z_vectors(m->cols);
    float scale = m->row_scale[row];
    if (!(isfinite(scale) && scale >= 0))
        return bad_scale(matrix->name, "row_scale", file, &m->row_scale[row], row, scale, err);
    const uint8_t *last_scale = m->scales + (row + 1) * vsq4z_scale_bytes(m->cols) - 1;
    if (vectors % 2 && *last_scale >> 4)
        return bad_padding(matrix, "scales", file, last_scale, row, 0xf0, 0, err);
    const uint8_t *last_zero = m->zeros + (row + 1) * vsq4z_zero_bytes(m->cols) - 1;
    int unused = vectors % 8 ? 0xff << vectors % 8 & 0xff : 0;
    if (*last_zero & unused)
        return bad_padding(matrix, "zeros", file, last_zero, row, unused, 0, err);
    return check_code_padding(matrix, row, file, err);
}

enum status quantized_matrix_check(const struct checkpoint_tensor *matrix, const void *file,
                                   struct error *err)
{
    if (matrix->type == FILE_W8) return check_w8(matrix, file, err);
    enum status status = ST_OK;
    for (int64_t row = 0; !status && row < matrix->rows; row++)
        status = check_vsq4z_row(matrix, row, file, err);
    return status;
}

/* --- rows */

static void vsq4z_row(const struct vsq4z_matrix *m, int64_t row, float *out)
{
    const uint8_t *codes = m->codes + row * vsq4z_code_bytes(m->cols);
    float row_scale = m->row_scale[row];
    for (int64_t start = 0; start < m->cols; start += VSQ4Z_VECTOR) {
        int32_t s = vsq4z_scale(m, row, start / VSQ4Z_VECTOR);
        int32_t z = vsq4z_zero(m, row, start / VSQ4Z_VECTOR);
        int64_t end = start + VSQ4Z_VECTOR < m->cols ? start + VSQ4Z_VECTOR : m->cols;
        for (int64_t k = start; k < end; k++) {
            int32_t q = k % 2 ? codes[k / 2] >> 4 : codes[k / 2] & 15;
            out[k] = (float)(s * (q - z)) * row_scale;
        }
    }
}

static void w8_row(const struct w8_matrix *m, int64_t row, float *out)
{
    const int8_t *values = m->values + row * m->cols;
    const uint16_t *scales = m->scales + row * w8_groups(m->cols);
    for (int64_t k = 0; k < m->cols; k++)
        out[k] = (float)values[k] * float_from_bf16(scales[k / W8_GROUP]);
}

void quantized_matrix_rows(const struct checkpoint_tensor *matrix, int64_t first, int64_t count,
                           float *out)
{
    for (int64_t row = first; row < first + count; row++, out += matrix->cols)
        if (matrix->type == FILE_VSQ4Z)
            vsq4z_row(&matrix->vsq4z, row, out);
        else
            w8_row(&matrix->w8, row, out);
}
