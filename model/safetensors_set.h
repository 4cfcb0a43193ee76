/* The weights of a Hugging Face directory: one model.safetensors, or the files among which
 * model.safetensors.index.json divides them.
 *
 *     {"metadata": {...}, "weight_map": {"model.norm.weight": "model-00003-of-00003.safetensors",
 * ...}}
 *
 * The index and the files must agree: each tensor is in the file that the index names, once, and no
 * file has another. Names of files are plain: nothing outside the directory is ever opened.
 */
#ifndef MODEL_SAFETENSORS_SET_H
#define MODEL_SAFETENSORS_SET_H

#include "model/safetensors.h"

struct safetensors_set {
    struct safetensors_file *files;
    size_t file_count;
    struct tensor_directory tensors; /* of all files */
};

/* model.safetensors is taken where both are there, as transformers does. On failure *out is left
 * for safetensors_set_close, and `err` starts with the file at fault. */
enum status safetensors_set_open(const char *dir, struct safetensors_set *out, struct error *err);
void safetensors_set_close(struct safetensors_set *set);
void safetensors_set_release_pages(const struct safetensors_set *set);

#endif
