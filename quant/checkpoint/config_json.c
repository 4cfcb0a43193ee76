#include "quant/checkpoint/config_json.h"
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest decimal that is this f32: 1e-05, not 9.9999997e-06. */
static json_t *decimal_json(float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return json_real(strtod(text, NULL));
}

/* --- rotary positions */

/* A divisor for each frequency, and a factor on cos and sin. Hugging Face's name for it is
 * longrope; with two equal lists it does not depend on the length. */
static json_t *factors_json(const struct model_config *c)
{
    json_t *factors = json_array();
    for (int32_t i = 0; i < c->head_dim / 2; i++) {
        float factor = c->rope.scaling == ROPE_FACTORS  ? c->rope.factors[i]
                       : c->rope.scaling == ROPE_LINEAR ? (float)c->rope.factor
                                                        : 1.0f;
        json_array_append_new(factors, decimal_json(factor));
    }
    double attention = c->rope.attention_factor == 0 ? 1 : c->rope.attention_factor;
    return json_pack("{s:s, s:f, s:f, s:i, s:O, s:o}", "rope_type", "longrope", "factor", 1.0,
                     "attention_factor", attention, "original_max_position_embeddings",
                     c->max_context, "short_factor", factors, "long_factor", factors);
}

static json_t *yarn_json(const struct model_config *c)
{
    double attention = c->rope.attention_factor == 0 ? 1 : c->rope.attention_factor;
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:b}", "rope_type", "yarn", "factor",
                     c->rope.factor, "original_max_position_embeddings", c->rope.original_context,
                     "beta_fast", c->rope.beta_fast, "beta_slow", c->rope.beta_slow,
                     "attention_factor", attention, "truncate", c->rope.truncate);
}

static json_t *scaling_json(const struct model_config *c)
{
    bool plain = c->rope.attention_factor == 0 || c->rope.attention_factor == 1;
    switch (c->rope.scaling) {
    case ROPE_NONE:
        return plain ? json_null() : factors_json(c);
    case ROPE_LINEAR:
        return plain ? json_pack("{s:s, s:f}", "rope_type", "linear", "factor", c->rope.factor)
                     : factors_json(c);
    case ROPE_LLAMA3:
        return json_pack("{s:s, s:f, s:f, s:f, s:f}", "rope_type", "llama3", "factor",
                         c->rope.factor, "low_freq_factor", c->rope.low_freq_factor,
                         "high_freq_factor", c->rope.high_freq_factor,
                         "original_max_position_embeddings", c->rope.original_context);
    case ROPE_YARN:
        return yarn_json(c);
    case ROPE_FACTORS:
        return factors_json(c);
    }
    return json_null();
}

/* --- the rest */

static const char *class_of(const char *architecture)
{
    static const char *const classes[][2] = {{"llama", "LlamaForCausalLM"},
                                             {"mistral", "MistralForCausalLM"},
                                             {"qwen2", "Qwen2ForCausalLM"},
                                             {"qwen3", "Qwen3ForCausalLM"}};
    for (size_t i = 0; i < COUNT_OF(classes); i++)
        if (!strcmp(architecture, classes[i][0])) return classes[i][1];
    die("no class of architecture %s", architecture);
}

/* Qwen's window needs two more members, and a model without one needs the null: readers have
 * defaults of their own. */
static void set_window(json_t *json, const struct model_config *c)
{
    bool qwen = c->qkv_bias || c->qk_norm;
    json_object_set_new(json, "sliding_window", c->window ? json_integer(c->window) : json_null());
    if (!qwen) return;
    json_object_set_new(json, "use_sliding_window", json_boolean(c->window != 0));
    if (c->window) json_object_set_new(json, "max_window_layers", json_integer(0));
}

static void set_tokens(json_t *json, const struct model_config *c)
{
    json_t *ends = json_array();
    for (int32_t i = 0; i < c->eos_count; i++)
        json_array_append_new(ends, json_integer(c->eos[i]));
    json_object_set_new(json, "bos_token_id", c->bos < 0 ? json_null() : json_integer(c->bos));
    json_object_set_new(json, "eos_token_id", ends);
}

json_t *config_json(const struct model_config *c)
{
    json_t *json = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:o, s:f, s:o, s:b, s:b}",
        "architectures", class_of(c->architecture), "model_type", c->architecture, "vocab_size",
        c->vocab, "hidden_size", c->hidden, "intermediate_size", c->intermediate,
        "num_hidden_layers", c->layers, "num_attention_heads", c->heads, "num_key_value_heads",
        c->kv_heads, "head_dim", c->head_dim, "max_position_embeddings", c->max_context,
        "hidden_act", "silu", "rms_norm_eps", decimal_json(c->rms_eps), "rope_theta", c->rope.theta,
        "rope_scaling", scaling_json(c), "tie_word_embeddings", c->tied, "attention_bias",
        c->qkv_bias);
    invariant(json, "no JSON of a configuration");
    set_window(json, c);
    set_tokens(json, c);
    json_object_set_new(json, "torch_dtype", json_string("float32"));
    return json;
}

json_t *generation_config_json(const struct model_config *c)
{
    json_t *json = json_pack("{s:b}", "_from_model_config", true);
    set_tokens(json, c);
    return json;
}
