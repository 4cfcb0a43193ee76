/* A tokenizer_spec as tokenizer.json and tokenizer_config.json, for models that come without (GGUF,
 * synthetic). Read back it gives the same ids for every text, and Hugging Face's tokenizers give
 * them too.
 *
 * Special and added tokens are in the list of added tokens; in the vocabulary only where a merge
 * speaks of them, as otherwise no text gives them but their own. Ids without a token, unused ones
 * among them, are left out.
 */
#ifndef QUANT_CHECKPOINT_TOKENIZER_EXPORT_H
#define QUANT_CHECKPOINT_TOKENIZER_EXPORT_H

#include "model/tokenizer.h"

#include <jansson.h>

json_t *tokenizer_json(const struct tokenizer_spec *spec);
json_t *tokenizer_config_json(const struct tokenizer_spec *spec, int32_t max_context);

#endif
