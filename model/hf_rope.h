/* Rotary settings of a config.json: rope_theta and rope_scaling (transformers up to 4), or
 * rope_parameters with everything in it (transformers 5). */
#ifndef MODEL_HF_ROPE_H
#define MODEL_HF_ROPE_H

#include "model/config.h"

#include <jansson.h>

/* Fills config->rope, and max_context where the scaling says more than max_position_embeddings,
 * which must be there already. model_config_check looks at the numbers. */
enum status hf_rope_read(const json_t *json, struct model_config *config, struct error *err);

#endif
