/* config.json and generation_config.json of a Hugging Face directory as a model_config.
 *
 * Both spellings are read: rope_theta and rope_scaling (transformers up to 4) and rope_parameters
 * (transformers 5).
 */
#ifndef MODEL_HF_CONFIG_H
#define MODEL_HF_CONFIG_H

#include "model/config.h"

/* `dir` holds config.json, and generation_config.json if it likes. `err` starts with the file. */
enum status hf_config_read(const char *dir, struct model_config *config, struct error *err);

#endif
