/* Rotary embeddings of a configuration: the frequency of each pair of dimensions and the factor on
 * cos and sin. The formulas are those of transformers' modeling_rope_utils.py, in its order and
 * precision (powers and scaling in f32, the ends of YaRN's ramp in double); GGUF files mean the
 * same by other names. */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include "model/config.h"

/* Everything the scaling uses is there, and every frequency comes out finite and positive.
 * ST_BAD_FILE with the field, what was found and what is allowed. */
enum status rope_check(const struct model_config *config, struct error *err);

/* inv_freq[head_dim / 2]. */
void model_rope_frequencies(const struct model_config *config, float *inv_freq);

/* What cos and sin are multiplied by. */
float model_rope_scale(const struct model_config *config);

/* YaRN's attention factor where a file names none; mscale and mscale_all_dim are 0 where absent. */
double yarn_attention_factor(double factor, double mscale, double mscale_all_dim);

/* A model stretched by YaRN knows original_context * factor positions, whatever its file lists as
 * the context (people add YaRN to a configuration and leave that as it was). */
void yarn_extend_context(struct model_config *config);

#endif
