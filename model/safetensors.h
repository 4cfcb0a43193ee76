/* One safetensors file, the container.
 *
 *     u64 length of the header | header, a JSON object | data
 *     {"name": {"dtype": "F16", "shape": [960, 576], "data_offsets": [begin, end]}, ...}
 *
 * Offsets count from the end of the header; together the tensors cover the data without gap or
 * overlap, as the format asks. F32, F16 and BF16 are supported, and as
 * parts of coded matrices (quantized_directory.h) U8 and I8.
 */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H

#include "model/mapped_file.h"
#include "model/tensor_directory.h"

struct safetensors_file {
    struct mapped_file map;
    struct tensor_directory tensors;
};

/* Maps and checks. On failure nothing is left open and `err` starts with the path. */
enum status safetensors_open(const char *path, struct safetensors_file *out, struct error *err);
void safetensors_close(struct safetensors_file *file);

#endif
