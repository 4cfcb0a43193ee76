/* The directory that `espalier quantize` writes: a Hugging Face directory whose matrices are coded,
 * and quantization.json, which says how they were made and holds a checksum of every other byte.
 * docs/formats.md has the format; here is its reader.
 *
 *     X.weight.codes U8, .scales U8, .zeros U8, .row_scale F32     VSQ4z (quant/vsq4z.h)
 *     X.weight.int8 I8, .scale BF16                                W8 (quant/w8.h)
 *
 * Nothing of it is trusted. After quantized_directory_verify every value is legal (scales finite
 * and >= 0, padding 0, no int8 of -128), the parts of a fused product have one format, and no byte
 * of any file differs from what was written. Refusals name the file, the tensor, the offset in the
 * file, what was found and what is allowed.
 */
#ifndef MODEL_QUANTIZED_DIRECTORY_H
#define MODEL_QUANTIZED_DIRECTORY_H

#include "model/checkpoint.h"
#include "model/safetensors_set.h"

#include <jansson.h>

#define QUANTIZATION_FILE    "quantization.json"
#define QUANTIZATION_FORMAT  "espalier-quantized"
#define QUANTIZATION_VERSION 1

/* quantization.json ends with its own checksum, over every byte before the digits:
 *     ..."checksum": "DIGITS"\n}\n */
#define QUANTIZATION_SEAL     "\"checksum\": \""
#define QUANTIZATION_SEAL_END "\"\n}\n"

struct quantized_directory {
    json_t *json; /* NULL: the directory is not quantized */
};

/* ST_OK and no json where `dir` has no quantization.json. */
enum status quantized_directory_open(const char *dir, struct quantized_directory *out,
                                     struct error *err);
void quantized_directory_close(struct quantized_directory *quantized);

/* Whether a tensor of the list is a part of matrix `name`. */
bool quantized_parts_exist(const struct tensor_directory *tensors, const char *name);

/* Matrix `name` [rows, cols] from its parts: name (a view of `quantized`), type, size and views of
 * *out. */
enum status quantized_matrix_bind(const struct quantized_directory *quantized,
                                  const struct tensor_directory *tensors, const char *name,
                                  int64_t rows, int64_t cols, struct checkpoint_tensor *out,
                                  struct error *err);

/* The values of a bound matrix; `file` is where its offsets count from. Thread-safe. */
enum status quantized_matrix_check(const struct checkpoint_tensor *matrix, const void *file,
                                   struct error *err);

/* Rows of a bound matrix as f32. */
void quantized_matrix_rows(const struct checkpoint_tensor *matrix, int64_t first, int64_t count,
                           float *out);

/* Values and checksums of everything, on all cores. */
enum status quantized_directory_verify(const struct quantized_directory *quantized, const char *dir,
                                       const struct checkpoint *checkpoint, struct error *err);

#endif
