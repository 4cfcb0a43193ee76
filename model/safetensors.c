#include "model/safetensors.h"
#include "base/base.h"
#include "model/json_reader.h"

#include <stdlib.h>
#include <string.h>

#define MAX_HEADER 100000000u /* the reference implementation's limit */
#define MAX_DEPTH  4

static enum status read_dtype(const json_t *entry, struct file_tensor *tensor, struct error *err)
{
    static const enum file_type readable[] = {FILE_F32, FILE_F16, FILE_BF16, FILE_U8, FILE_I8};
    const char *dtype = NULL;
    enum status status = json_get_string(entry, "dtype", &dtype, err);
    if (status) return status;
    if (!dtype) return fail(err, ST_BAD_FILE, "dtype is missing");
    for (size_t i = 0; i < COUNT_OF(readable); i++)
        if (!strcmp(dtype, file_type_name(readable[i]))) {
            tensor->type = readable[i];
            return ST_OK;
        }
    return fail(err, ST_UNSUPPORTED,
                "dtype is %.32s; supported are F32, F16 and BF16 (U8 and I8 in coded matrices)",
                dtype);
}

static enum status read_shape(const json_t *entry, struct file_tensor *tensor, struct error *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > TENSOR_MAX_DIMS)
        return fail(err, ST_BAD_FILE, "shape is no list of at most %d dimensions", TENSOR_MAX_DIMS);
    tensor->dim_count = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < tensor->dim_count; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 1)
            return fail(err, ST_BAD_FILE, "dimension %d of shape is no positive integer", i);
        tensor->dims[i] = json_integer_value(dim);
    }
    return ST_OK;
}

/* The range [begin, end) inside data[size]. */
static enum status read_place(const json_t *entry, const uint8_t *data, uint64_t size,
                              struct file_tensor *tensor, struct error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return fail(err, ST_BAD_FILE, "data_offsets is no list of two integers");
    int64_t begin = json_integer_value(from), end = json_integer_value(to);
    if (begin < 0 || end < begin || (uint64_t)end > size)
        return fail(err, ST_BAD_FILE,
                    "data_offsets [%lld, %lld] are outside the data of %llu bytes",
                    (long long)begin, (long long)end, (unsigned long long)size);
    if ((uint64_t)(end - begin) != tensor->bytes)
        return fail(err, ST_BAD_FILE,
                    "data_offsets [%lld, %lld] hold %lld bytes; the shape asks for %zu",
                    (long long)begin, (long long)end, (long long)(end - begin), tensor->bytes);
    tensor->data = data + begin;
    tensor->offset += (uint64_t)begin;
    return ST_OK;
}

static enum status read_tensor(const char *name, const json_t *entry, const uint8_t *data,
                               uint64_t size, struct file_tensor *tensor, struct error *err)
{
    enum status status;
    if (!tensor_name_valid(name, strlen(name)))
        return fail(err, ST_BAD_FILE,
                    "a name of %zu bytes; names are 1 to %d printable ASCII characters",
                    strlen(name), TENSOR_MAX_NAME);
    if (!json_is_object(entry)) return fail(err, ST_BAD_FILE, "the entry is no object");
    tensor->name = must_strdup(name);
    if ((status = read_dtype(entry, tensor, err)) || (status = read_shape(entry, tensor, err)) ||
        (status = file_tensor_size(tensor, err)))
        return status;
    return read_place(entry, data, size, tensor, err);
}

static enum status read_tensors(struct safetensors_file *file, json_t *header, const uint8_t *data,
                                uint64_t size, struct error *err)
{
    const char *name;
    json_t *entry;
    if (json_object_size(header) > TENSOR_MAX_COUNT)
        return fail(err, ST_BAD_FILE, "%zu tensors; allowed are %d", json_object_size(header),
                    TENSOR_MAX_COUNT);
    json_object_foreach(header, name, entry)
    {
        struct file_tensor tensor = {.offset = (uint64_t)(data - file->map.data)};
        if (!strcmp(name, "__metadata__")) continue;
        enum status status = read_tensor(name, entry, data, size, &tensor, err);
        if (status) {
            free(tensor.name);
            return fail_prefix(err, "tensor %.200s", name);
        }
        tensor_directory_add(&file->tensors, &tensor);
    }
    return tensor_directory_finish(&file->tensors, err);
}

static int compare_places(const void *a, const void *b)
{
    const uint8_t *first = (*(const struct file_tensor *const *)a)->data;
    const uint8_t *second = (*(const struct file_tensor *const *)b)->data;
    return (first > second) - (first < second);
}

/* No gap, no overlap, nothing behind: every byte of data[size] belongs to one tensor. */
static enum status check_cover(const struct tensor_directory *tensors, const uint8_t *data,
                               uint64_t size, struct error *err)
{
    const struct file_tensor **order = must_alloc((tensors->count + 1) * sizeof *order);
    enum status status = ST_OK;
    uint64_t at = 0;
    for (size_t i = 0; i < tensors->count; i++)
        order[i] = &tensors->items[i];
    qsort(order, tensors->count, sizeof *order, compare_places);
    for (size_t i = 0; !status && i < tensors->count; i++) {
        uint64_t begin = (uint64_t)((const uint8_t *)order[i]->data - data);
        if (begin != at)
            status = fail(err, ST_BAD_FILE,
                          "tensor %s begins at %llu of the data, the one before ends at %llu",
                          order[i]->name, (unsigned long long)begin, (unsigned long long)at);
        at = begin + order[i]->bytes;
    }
    if (!status && at != size)
        status = fail(err, ST_BAD_FILE, "the tensors end at %llu of the data, which has %llu bytes",
                      (unsigned long long)at, (unsigned long long)size);
    free(order);
    return status;
}

static enum status read_file(struct safetensors_file *file, struct error *err)
{
    uint64_t length, size = file->map.size;
    json_t *header;
    if (size < sizeof length)
        return fail(err, ST_BAD_FILE, "%llu bytes; the length of the header needs 8",
                    (unsigned long long)size);
    memcpy(&length, file->map.data, sizeof length);
    size -= sizeof length;
    if (length > size || length > MAX_HEADER)
        return fail(err, ST_BAD_FILE,
                    "offset 0: a header of %llu bytes; allowed here is at most %llu",
                    (unsigned long long)length,
                    (unsigned long long)(size < MAX_HEADER ? size : MAX_HEADER));
    const char *text = (const char *)file->map.data + sizeof length;
    enum status status = json_parse_object(text, length, MAX_DEPTH, &header, err);
    if (status) return fail_prefix(err, "the header");
    const uint8_t *data = file->map.data + sizeof length + length;
    status = read_tensors(file, header, data, size - length, err);
    if (!status) status = check_cover(&file->tensors, data, size - length, err);
    json_decref(header);
    return status;
}

enum status safetensors_open(const char *path, struct safetensors_file *out, struct error *err)
{
    struct safetensors_file file = {0};
    enum status status = mapped_file_open(path, &file.map, err);
    if (status) return status;
    if (read_file(&file, err)) {
        safetensors_close(&file);
        return fail_prefix(err, "%s", path);
    }
    *out = file;
    return ST_OK;
}

void safetensors_close(struct safetensors_file *file)
{
    tensor_directory_free(&file->tensors);
    mapped_file_close(&file->map);
}
