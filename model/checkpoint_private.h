/* What the readers of the formats share. Internal to model/checkpoint.c and its readers.
 *
 *   checkpoint.c        opens by kind, binds the file's tensors to their roles, reads rows
 *   gguf_checkpoint.c   GGUF keys -> configuration and tokenizer
 *   hf_checkpoint.c     config.json + safetensors + tokenizer.json
 *   quantized_*.c       quantization.json and coded matrices
 *   synthetic.c         a known shape with weights from a seed
 */
#ifndef MODEL_CHECKPOINT_PRIVATE_H
#define MODEL_CHECKPOINT_PRIVATE_H

#include "model/checkpoint.h"
#include "model/gguf.h"
#include "model/quantized_directory.h"
#include "model/safetensors_set.h"

struct checkpoint {
    const char *format; /* "GGUF", "safetensors", "synthetic" */
    struct model_config config;
    struct checkpoint_tensor *tensors; /* [layers][TENSOR_ROLES]; name NULL where there is none */
    struct tokenizer_spec tokenizer;
    void (*tokenizer_release)(struct tokenizer_spec *spec); /* NULL: nothing to free */
    struct gguf_file gguf;                                  /* what the tensors and texts view */
    struct safetensors_set safetensors;
    struct quantized_directory quantized;
};

/* Each fills a zeroed checkpoint; whatever it acquired before failing, checkpoint_close frees. */
enum status checkpoint_open_gguf(struct checkpoint *checkpoint, const char *path,
                                 struct error *err);
enum status checkpoint_open_hf(struct checkpoint *checkpoint, const char *dir, struct error *err);
enum status checkpoint_open_synthetic(struct checkpoint *checkpoint, const char *shape,
                                      struct error *err);

/* The place of a tensor in `tensors`; layer 0 for the roles that come once. */
struct checkpoint_tensor *checkpoint_slot(const struct checkpoint *checkpoint,
                                          enum tensor_role role, int32_t layer);

/* Does a model of that configuration have the role, once or in every layer, and in which shape? */
bool role_in_model(const struct model_config *config, enum tensor_role role);
bool role_per_layer(enum tensor_role role);
void role_shape(const struct model_config *config, enum tensor_role role, int64_t *rows,
                int64_t *cols);

/* How a format names a role; %d is the layer. */
typedef const char *(*role_namer)(enum tensor_role role);

/* Gives every role of the configuration its tensor from the directory. What is missing, has another
 * shape, or is left over (unless `ignorable` says it carries no weights) is refused by name. */
enum status checkpoint_bind(struct checkpoint *checkpoint, struct tensor_directory *directory,
                            role_namer name_of, bool (*ignorable)(const char *name),
                            struct error *err);

#endif
