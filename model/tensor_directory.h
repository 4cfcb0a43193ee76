/* The list of tensors in a model file, whatever its format: filled by gguf.c and safetensors.c,
 * then sorted by name, and looked up by checkpoint.c. */
#ifndef MODEL_TENSOR_DIRECTORY_H
#define MODEL_TENSOR_DIRECTORY_H

#include "model/checkpoint.h"

#define TENSOR_MAX_DIMS 4

/* More than any model has; a count above it in a header is an error, not a wish for memory. */
#define TENSOR_MAX_COUNT 65536
#define TENSOR_MAX_NAME  255

struct file_tensor {
    char *name; /* owned */
    enum file_type type;
    int32_t dim_count;
    int64_t dims[TENSOR_MAX_DIMS]; /* slowest first: [rows, cols] */
    size_t bytes;
    const void *data; /* inside the mapped file */
    uint64_t offset;  /* of the data in its file (safetensors only) */
    bool used;
};

struct tensor_directory {
    struct file_tensor *items; /* sorted by name */
    size_t count, capacity;
};

/* Appends; `name` is taken over. The product of dims and the bytes were checked by the caller. */
void tensor_directory_add(struct tensor_directory *directory, const struct file_tensor *tensor);

/* Sorts; ST_BAD_FILE for a name that comes twice. */
enum status tensor_directory_finish(struct tensor_directory *directory, struct error *err);
struct file_tensor *tensor_directory_find(const struct tensor_directory *directory,
                                          const char *name);
void tensor_directory_free(struct tensor_directory *directory);

/* Names are 1 to TENSOR_MAX_NAME printable ASCII characters, which also makes them safe to print.
 */
bool tensor_name_valid(const char *name, size_t length);

/* Weights (product of dims, each 1 or more) and bytes of a tensor of that type, overflow-checked.
 * ST_BAD_FILE when the last dimension is no whole number of blocks or the product does not fit. */
enum status file_tensor_size(struct file_tensor *tensor, struct error *err);

/* "[960, 576]" into text, which is returned. */
const char *shape_text(const int64_t *dims, int32_t count, char text[static 96]);

#endif
