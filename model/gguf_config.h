/* A GGUF file's keys as a model's shape and habits: what llama.cpp's converter writes for llama
 * (and Mistral, which is llama there), qwen2 and qwen3. The vocabulary, the head and the factors in
 * rope_freqs.weight are told by tensors: gguf_checkpoint.c. */
#ifndef MODEL_GGUF_CONFIG_H
#define MODEL_GGUF_CONFIG_H

#include "model/config.h"
#include "model/gguf.h"

/* `path` gives the name where the file has none. model_config_check looks at the numbers. */
enum status gguf_config_read(const struct gguf_file *file, const char *path,
                             struct model_config *config, struct error *err);

#endif
