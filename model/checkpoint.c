#include "model/checkpoint_private.h"
#include "base/base.h"
#include "model/dequantize.h"
#include "model/synthetic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SYNTHETIC   "synthetic:"
#define SAFETENSORS ".safetensors"

/* --- roles */

bool role_per_layer(enum tensor_role role)
{
    return role != TENSOR_EMBEDDING && role != TENSOR_HEAD && role != TENSOR_FINAL_NORM;
}

bool tensor_role_is_matrix(enum tensor_role role)
{
    switch (role) {
    case TENSOR_EMBEDDING:
    case TENSOR_HEAD:
    case TENSOR_Q:
    case TENSOR_K:
    case TENSOR_V:
    case TENSOR_O:
    case TENSOR_GATE:
    case TENSOR_UP:
    case TENSOR_DOWN:
        return true;
    default:
        return false;
    }
}

bool role_in_model(const struct model_config *config, enum tensor_role role)
{
    switch (role) {
    case TENSOR_HEAD:
        return !config->tied;
    case TENSOR_Q_BIAS:
    case TENSOR_K_BIAS:
    case TENSOR_V_BIAS:
        return config->qkv_bias;
    case TENSOR_Q_NORM:
    case TENSOR_K_NORM:
        return config->qk_norm;
    default:
        return true;
    }
}

void role_shape(const struct model_config *config, enum tensor_role role, int64_t *rows,
                int64_t *cols)
{
    int64_t queries = (int64_t)config->heads * config->head_dim;
    int64_t keys = (int64_t)config->kv_heads * config->head_dim;
    int64_t shapes[TENSOR_ROLES][2] = {
        [TENSOR_EMBEDDING] = {config->vocab, config->hidden},
        [TENSOR_HEAD] = {config->vocab, config->hidden},
        [TENSOR_FINAL_NORM] = {1, config->hidden},
        [TENSOR_ATTN_NORM] = {1, config->hidden},
        [TENSOR_Q] = {queries, config->hidden},
        [TENSOR_K] = {keys, config->hidden},
        [TENSOR_V] = {keys, config->hidden},
        [TENSOR_O] = {config->hidden, queries},
        [TENSOR_Q_BIAS] = {1, queries},
        [TENSOR_K_BIAS] = {1, keys},
        [TENSOR_V_BIAS] = {1, keys},
        [TENSOR_Q_NORM] = {1, config->head_dim},
        [TENSOR_K_NORM] = {1, config->head_dim},
        [TENSOR_FFN_NORM] = {1, config->hidden},
        [TENSOR_GATE] = {config->intermediate, config->hidden},
        [TENSOR_UP] = {config->intermediate, config->hidden},
        [TENSOR_DOWN] = {config->hidden, config->intermediate},
    };
    *rows = shapes[role][0];
    *cols = shapes[role][1];
}

struct checkpoint_tensor *checkpoint_slot(const struct checkpoint *checkpoint,
                                          enum tensor_role role, int32_t layer)
{
    return &checkpoint->tensors[(int64_t)layer * TENSOR_ROLES + role];
}

const struct checkpoint_tensor *checkpoint_tensor(const struct checkpoint *checkpoint,
                                                  enum tensor_role role, int32_t layer)
{
    if (!role_per_layer(role)) layer = 0;
    invariant(layer >= 0 && layer < checkpoint->config.layers, "layer %d of %d", layer,
              checkpoint->config.layers);
    const struct checkpoint_tensor *tensor = checkpoint_slot(checkpoint, role, layer);
    return tensor->name ? tensor : NULL;
}

bool checkpoint_has_type(const struct checkpoint *checkpoint, enum file_type type)
{
    for (int32_t layer = 0; layer < checkpoint->config.layers; layer++)
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++) {
            const struct checkpoint_tensor *tensor = checkpoint_tensor(checkpoint, role, layer);
            if (tensor && tensor->type == type) return true;
        }
    return false;
}

/* --- binding a file's tensors to their roles */

static enum status bind_tensor(struct checkpoint *checkpoint, struct tensor_directory *directory,
                               const char *name, enum tensor_role role, int32_t layer,
                               struct error *err)
{
    int64_t rows, cols;
    char found[96], expected[96];
    role_shape(&checkpoint->config, role, &rows, &cols);
    if (checkpoint->quantized.json && tensor_role_is_matrix(role))
        return quantized_matrix_bind(&checkpoint->quantized, directory, name, rows, cols,
                                     checkpoint_slot(checkpoint, role, layer), err);
    struct file_tensor *tensor = tensor_directory_find(directory, name);
    if (!tensor && quantized_parts_exist(directory, name))
        return fail(err, ST_BAD_FILE,
                    "tensor %s is coded, but there is no " QUANTIZATION_FILE
                    " beside it: the directory is not complete",
                    name);
    if (!tensor) return fail(err, ST_BAD_FILE, "tensor %s is missing", name);
    if (tensor->type == FILE_U8 || tensor->type == FILE_I8)
        return fail(err, ST_UNSUPPORTED, "tensor %s has dtype %s; supported are F32, F16 and BF16",
                    name, file_type_name(tensor->type));
    int64_t want[2] = {rows, cols};
    int32_t skip = rows == 1 && tensor->dim_count == 1; /* a vector may have one dimension */
    if (tensor->dim_count != 2 - skip ||
        memcmp(tensor->dims, want + skip, (size_t)(2 - skip) * sizeof *want) != 0)
        return fail(err, ST_BAD_FILE, "tensor %s has shape %s; the configuration asks for %s", name,
                    shape_text(tensor->dims, tensor->dim_count, found),
                    shape_text(want + (rows == 1), 2 - (rows == 1), expected));
    tensor->used = true;
    *checkpoint_slot(checkpoint, role, layer) = (struct checkpoint_tensor){
        .name = tensor->name,
        .type = tensor->type,
        .rows = rows,
        .cols = cols,
        .bytes = tensor->bytes,
        .data = tensor->data,
    };
    return ST_OK;
}

enum status checkpoint_bind(struct checkpoint *checkpoint, struct tensor_directory *directory,
                            role_namer name_of, bool (*ignorable)(const char *name),
                            struct error *err)
{
    const struct model_config *config = &checkpoint->config;
    if ((size_t)config->layers > directory->count)
        return fail(err, ST_BAD_FILE, "%d layers in the configuration, %zu tensors in the file",
                    config->layers, directory->count);
    checkpoint->tensors =
        must_alloc((size_t)config->layers * TENSOR_ROLES * sizeof *checkpoint->tensors);
    for (int32_t layer = 0; layer < config->layers; layer++)
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++) {
            char name[128];
            if (!role_in_model(config, role) || (layer && !role_per_layer(role))) continue;
            snprintf(name, sizeof name, name_of(role), layer);
            enum status status = bind_tensor(checkpoint, directory, name, role, layer, err);
            if (status) return status;
        }
    for (size_t i = 0; i < directory->count; i++)
        if (!directory->items[i].used && !ignorable(directory->items[i].name))
            return fail(err, ST_UNSUPPORTED, "tensor %s has no place in a %s model of %d layers",
                        directory->items[i].name, config->architecture, config->layers);
    return ST_OK;
}

/* --- opening and closing */

static enum status open_by_kind(struct checkpoint *checkpoint, const char *path, struct error *err)
{
    struct stat info;
    if (!strncmp(path, SYNTHETIC, strlen(SYNTHETIC)))
        return checkpoint_open_synthetic(checkpoint, path + strlen(SYNTHETIC), err);
    size_t length = strlen(path), tail = strlen(SAFETENSORS);
    if (length > tail && !strcmp(path + length - tail, SAFETENSORS))
        return fail(err, ST_INVALID,
                    "%s: weights alone; give their directory, which also has config.json and "
                    "tokenizer.json",
                    path);
    bool found = stat(path, &info) == 0;
    if (!found && errno == ENOENT)
        return fail(err, ST_NOT_FOUND,
                    "%s: No such file or directory; nothing is downloaded: give a GGUF file or a "
                    "Hugging Face directory on this machine (bash quickstart.sh --no-serve brings "
                    "the default model)",
                    path);
    if (found && S_ISDIR(info.st_mode)) return checkpoint_open_hf(checkpoint, path, err);
    return checkpoint_open_gguf(checkpoint, path, err);
}

enum status checkpoint_open(const char *path, struct checkpoint **out, struct error *err)
{
    struct checkpoint *checkpoint = must_alloc(sizeof *checkpoint);
    enum status status = open_by_kind(checkpoint, path, err);
    if (status) {
        checkpoint_close(checkpoint);
        return status;
    }
    *out = checkpoint;
    return ST_OK;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (!checkpoint) return;
    if (checkpoint->tokenizer_release) checkpoint->tokenizer_release(&checkpoint->tokenizer);
    gguf_close(&checkpoint->gguf);
    quantized_directory_close(&checkpoint->quantized);
    safetensors_set_close(&checkpoint->safetensors);
    free(checkpoint->tensors);
    free(checkpoint);
}

void checkpoint_release_pages(const struct checkpoint *checkpoint)
{
    mapped_file_release_pages(&checkpoint->gguf.map);
    safetensors_set_release_pages(&checkpoint->safetensors);
}

const struct model_config *checkpoint_config(const struct checkpoint *checkpoint)
{
    return &checkpoint->config;
}

const struct tokenizer_spec *checkpoint_tokenizer(const struct checkpoint *checkpoint)
{
    return &checkpoint->tokenizer;
}

int32_t checkpoint_file_count(const struct checkpoint *checkpoint)
{
    size_t count = checkpoint->safetensors.file_count + (checkpoint->gguf.map.data != NULL);
    return (int32_t)count;
}

const json_t *checkpoint_quantization(const struct checkpoint *checkpoint)
{
    return checkpoint->quantized.json;
}

const char *checkpoint_format(const struct checkpoint *checkpoint)
{
    return checkpoint->format;
}

/* --- reading */

/* Where the file has the row that belongs at `row`. GGUF writes the rows of a head, whose halves
 * rotate together, as pairs: 0, h/2, 1, h/2 + 1, ... */
static int64_t file_row(const struct checkpoint_tensor *tensor, int64_t row)
{
    if (!tensor->permute_heads) return row;
    int64_t head_dim = tensor->rows / tensor->permute_heads, half = head_dim / 2;
    int64_t start = row - row % head_dim, i = row % head_dim;
    return start + (i < half ? 2 * i : 2 * (i - half) + 1);
}

void checkpoint_read_rows(const struct checkpoint_tensor *tensor, int64_t first, int64_t count,
                          float *out)
{
    invariant(first >= 0 && count >= 0 && first + count <= tensor->rows,
              "rows %lld + %lld of %lld in tensor %s", (long long)first, (long long)count,
              (long long)tensor->rows, tensor->name);
    if (checkpoint_tensor_coded(tensor)) {
        quantized_matrix_rows(tensor, first, count, out);
        return;
    }
    size_t stride = file_type_bytes(tensor->type, tensor->cols);
    for (int64_t row = first; row < first + count; row++, out += tensor->cols) {
        if (!tensor->data)
            synthetic_row(tensor, row, out);
        else
            dequantize(tensor->type,
                       (const uint8_t *)tensor->data + (size_t)file_row(tensor, row) * stride,
                       tensor->cols, out);
    }
}
