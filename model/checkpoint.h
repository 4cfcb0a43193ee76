/* Weights on disk: a GGUF file, a Hugging Face directory (as published, or quantized by `espalier
 * quantize`), or synthetic:SHAPE from a seed.
 *
 * Opening maps the file and checks everything that will be trusted later: magic, version, counts,
 * names, types, shapes against the configuration, and that every tensor lies inside its file.
 * Whatever is wrong is refused with the file, the offset or field, what was found and what is
 * supported. Values are read row by row as f32, exactly as the published layout of the type defines
 * them; GGUF's reordered attn_q and attn_k rows are put back to the order of two rotated halves.
 */
#ifndef MODEL_CHECKPOINT_H
#define MODEL_CHECKPOINT_H

#include "base/status.h"
#include "quant/vsq4z.h"
#include "quant/w8.h"
#include "model/config.h"
#include "model/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checkpoint;
struct json_t; /* jansson.h */

enum tensor_role {
    TENSOR_EMBEDDING,  /* [vocab, hidden] */
    TENSOR_HEAD,       /* [vocab, hidden]; absent when tied */
    TENSOR_FINAL_NORM, /* [hidden] as one row */
    TENSOR_ATTN_NORM,
    TENSOR_Q,
    TENSOR_K,
    TENSOR_V,
    TENSOR_O,
    TENSOR_Q_BIAS,
    TENSOR_K_BIAS,
    TENSOR_V_BIAS,
    TENSOR_Q_NORM,
    TENSOR_K_NORM,
    TENSOR_FFN_NORM,
    TENSOR_GATE,
    TENSOR_UP,
    TENSOR_DOWN,
    TENSOR_ROLES,
};

/* Types as files name them (those that can be read). */
enum file_type {
    FILE_F32,
    FILE_F16,
    FILE_BF16,
    FILE_Q8_0,
    FILE_Q4_0,
    FILE_Q4_1,
    FILE_Q5_0,
    FILE_Q5_1,
    FILE_Q2_K,
    FILE_Q3_K,
    FILE_Q4_K,
    FILE_Q5_K,
    FILE_Q6_K,
    FILE_IQ4_NL,
    FILE_BLOCK_TYPES,           /* those above are made of blocks (dequantize.h) */
    FILE_W8 = FILE_BLOCK_TYPES, /* of a directory that `espalier quantize` wrote: several arrays */
    FILE_VSQ4Z,
    FILE_U8, /* such an array, never a tensor of a checkpoint */
    FILE_I8,
    FILE_TYPES,
};
const char *file_type_name(enum file_type type); /* "F32", ... "VSQ4z" */

struct checkpoint_tensor {
    const char *name; /* as in the file; view of the checkpoint */
    enum file_type type;
    int64_t rows, cols;
    size_t bytes;
    const void *data;          /* mapped; NULL for synthetic, FILE_W8 and FILE_VSQ4Z */
    struct w8_matrix w8;       /* FILE_W8: views of the mapped file */
    struct vsq4z_matrix vsq4z; /* FILE_VSQ4Z */
    int32_t permute_heads;     /* 0, or undo GGUF's order of that many heads' rows */
    uint64_t seed;             /* synthetic only */
    float gain;                /* synthetic only: values are N(mean, gain^2 / cols) */
    float mean;                /* synthetic only */
};

/* Does it come quantized, as codes that a backend packs as they are? */
static inline bool checkpoint_tensor_coded(const struct checkpoint_tensor *tensor)
{
    return tensor->type == FILE_W8 || tensor->type == FILE_VSQ4Z;
}

/* `path`: FILE.gguf, a directory, or synthetic:SHAPE (synthetic.h). */
enum status checkpoint_open(const char *path, struct checkpoint **out, struct error *err);
void checkpoint_close(struct checkpoint *checkpoint);

const struct model_config *checkpoint_config(const struct checkpoint *checkpoint);
const char *checkpoint_format(const struct checkpoint *checkpoint); /* "GGUF", "safetensors", ... */
int32_t checkpoint_file_count(const struct checkpoint *checkpoint); /* with weights; 0: synthetic */

/* What quantization.json says (docs/formats.md); NULL where the checkpoint is not quantized. A
 * view.
 */
const struct json_t *checkpoint_quantization(const struct checkpoint *checkpoint);

/* NULL where the model has none (layer is ignored for the first three roles). */
const struct checkpoint_tensor *checkpoint_tensor(const struct checkpoint *checkpoint,
                                                  enum tensor_role role, int32_t layer);

/* Whether any of its tensors has that type. */
bool checkpoint_has_type(const struct checkpoint *checkpoint, enum file_type type);

/* Rows [first, first + count) as f32 into out[count][cols]. Thread-safe, cannot fail after open. */
void checkpoint_read_rows(const struct checkpoint_tensor *tensor, int64_t first, int64_t count,
                          float *out);

/* Matrices are what may be coded; the others are vectors of a few values. */
bool tensor_role_is_matrix(enum tensor_role role);

/* How Hugging Face names the role; %d is the layer, where there are several. */
const char *tensor_role_hf_name(enum tensor_role role);

/* What the file says about its tokenizer; view of the checkpoint. */
const struct tokenizer_spec *checkpoint_tokenizer(const struct checkpoint *checkpoint);

/* Gives the mapped pages back to the system (they come again when touched): call after packing. */
void checkpoint_release_pages(const struct checkpoint *checkpoint);

#endif
