#include "model/tensor_directory.h"
#include "base/base.h"
#include "model/dequantize.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tensor_directory_add(struct tensor_directory *directory, const struct file_tensor *tensor)
{
    if (directory->count == directory->capacity) {
        directory->capacity = directory->capacity ? 2 * directory->capacity : 64;
        directory->items =
            must_realloc(directory->items, directory->capacity * sizeof *directory->items);
    }
    directory->items[directory->count++] = *tensor;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct file_tensor *)a)->name, ((const struct file_tensor *)b)->name);
}

enum status tensor_directory_finish(struct tensor_directory *directory, struct error *err)
{
    if (directory->count)
        qsort(directory->items, directory->count, sizeof *directory->items, compare_names);
    for (size_t i = 1; i < directory->count; i++)
        if (!compare_names(&directory->items[i - 1], &directory->items[i]))
            return fail(err, ST_BAD_FILE, "tensor %s is listed twice", directory->items[i].name);
    return ST_OK;
}

struct file_tensor *tensor_directory_find(const struct tensor_directory *directory,
                                          const char *name)
{
    struct file_tensor key = {.name = (char *)name};
    if (!directory->count) return NULL;
    return bsearch(&key, directory->items, directory->count, sizeof key, compare_names);
}

void tensor_directory_free(struct tensor_directory *directory)
{
    for (size_t i = 0; i < directory->count; i++)
        free(directory->items[i].name);
    free(directory->items);
    *directory = (struct tensor_directory){0};
}

bool tensor_name_valid(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~') return false;
    return length > 0 && length <= TENSOR_MAX_NAME;
}

enum status file_tensor_size(struct file_tensor *tensor, struct error *err)
{
    char shape[96];
    uint64_t weights = 1, bytes;
    for (int32_t i = 0; i < tensor->dim_count; i++)
        if (tensor->dims[i] < 1 || !checked_mul(weights, (uint64_t)tensor->dims[i], &weights))
            return fail(err, ST_BAD_FILE, "tensor %s: shape %s is empty or does not fit 64 bits",
                        tensor->name, shape_text(tensor->dims, tensor->dim_count, shape));
    uint64_t block = (uint64_t)file_type_block(tensor->type);
    int64_t cols = tensor->dim_count ? tensor->dims[tensor->dim_count - 1] : 1;
    if ((uint64_t)cols % block)
        return fail(err, ST_BAD_FILE, "tensor %s: rows of %lld weights, %s has blocks of %llu",
                    tensor->name, (long long)cols, file_type_name(tensor->type),
                    (unsigned long long)block);
    if (!checked_mul(weights / block, (uint64_t)file_type_block_bytes(tensor->type), &bytes) ||
        weights > INT64_MAX || bytes > INT64_MAX)
        return fail(err, ST_BAD_FILE, "tensor %s: the size of shape %s does not fit 64 bits",
                    tensor->name, shape_text(tensor->dims, tensor->dim_count, shape));
    tensor->bytes = (size_t)bytes;
    return ST_OK;
}

const char *shape_text(const int64_t *dims, int32_t count, char text[static 96])
{
    int at = snprintf(text, 96, "[");
    for (int32_t i = 0; i < count; i++)
        at += snprintf(text + at, 96 - (size_t)at, "%s%lld", i ? ", " : "", (long long)dims[i]);
    snprintf(text + at, 96 - (size_t)at, "]");
    return text;
}
