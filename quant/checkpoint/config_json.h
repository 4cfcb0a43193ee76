/* A model_config as config.json, for models that come without one (GGUF, synthetic). Reading it
 * back gives the same configuration; transformers reads it as well. */
#ifndef QUANT_CHECKPOINT_CONFIG_JSON_H
#define QUANT_CHECKPOINT_CONFIG_JSON_H

#include "model/config.h"

#include <jansson.h>

json_t *config_json(const struct model_config *config);            /* config.json */
json_t *generation_config_json(const struct model_config *config); /* generation_config.json */

#endif
