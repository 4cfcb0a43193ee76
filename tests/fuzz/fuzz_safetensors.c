/* One safetensors file: refused with words, or every tensor lies inside it.
 *
 * Input: the file. */
#include "tests/fuzz/support_checkpoint.h"
#include "tests/fuzz/support_input.h"
#include "model/dequantize.h"
#include "model/safetensors.h"

#include <stdlib.h>

/* All values, as one row. */
static void read_tensor(const struct file_tensor *tensor)
{
    int64_t count = 1;
    for (int32_t i = 0; i < tensor->dim_count; i++)
        count *= tensor->dims[i];
    invariant(file_type_bytes(tensor->type, count) == tensor->bytes, "%zu bytes", tensor->bytes);
    if (tensor->type >= FILE_BLOCK_TYPES) return; /* a part of a coded matrix */
    float *values = must_alloc((size_t)count * sizeof *values);
    dequantize(tensor->type, tensor->data, count, values);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors_file file;
    struct error err = {0};
    enum status status = safetensors_open(file_in_memory(data, size), &file, &err);
    check_words(status, &err);
    if (status) return 0;
    for (size_t i = 0; i < file.tensors.count; i++)
        read_tensor(&file.tensors.items[i]);
    safetensors_close(&file);
    return 0;
}
