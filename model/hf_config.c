#include "model/hf_config.h"
#include "base/base.h"
#include "model/json_reader.h"

#include <stdio.h>
#include <string.h>

#define MAX_CONFIG (1 << 20) /* bytes of a config.json; real ones are about a thousand */

static enum status read_architecture(const json_t *json, struct model_config *config,
                                     struct error *err)
{
    static const struct {
        const char *class, *architecture;
        bool qkv_bias, qk_norm;
    } known[] = {
        {"LlamaForCausalLM", "llama", false, false},
        {"Qwen2ForCausalLM", "qwen2", true, false},
        {"Qwen3ForCausalLM", "qwen3", false, true},
    };
    const json_t *names = json_object_get(json, "architectures");
    const char *found = json_string_value(json_array_get(names, 0));
    for (size_t i = 0; found && i < COUNT_OF(known); i++)
        if (!strcmp(found, known[i].class)) {
            snprintf(config->architecture, sizeof config->architecture, "%s",
                     known[i].architecture);
            config->qkv_bias = known[i].qkv_bias;
            config->qk_norm = known[i].qk_norm;
            return ST_OK;
        }
    return fail(err, ST_UNSUPPORTED,
                "architectures[0] is %.64s; supported are LlamaForCausalLM, Qwen2ForCausalLM and "
                "Qwen3ForCausalLM",
                found ? found : "missing");
}

static enum status get_size(const json_t *json, const char *key, bool required, int32_t *out,
                            struct error *err)
{
    int64_t value = *out;
    if (required && !json_is_integer(json_object_get(json, key)))
        return fail(err, ST_BAD_FILE, "%s is missing or no integer", key);
    enum status status = json_get_int(json, key, 1, INT32_MAX, &value, err);
    *out = (int32_t)value;
    return status;
}

static enum status read_shape(const json_t *json, struct model_config *c, struct error *err)
{
    enum status status;
    double eps = 1e-6; /* transformers' default */
    if ((status = get_size(json, "vocab_size", true, &c->vocab, err)) ||
        (status = get_size(json, "hidden_size", true, &c->hidden, err)) ||
        (status = get_size(json, "intermediate_size", true, &c->intermediate, err)) ||
        (status = get_size(json, "num_hidden_layers", true, &c->layers, err)) ||
        (status = get_size(json, "num_attention_heads", true, &c->heads, err)) ||
        (status = get_size(json, "max_position_embeddings", true, &c->max_context, err)))
        return status;
    c->kv_heads = c->heads;
    c->head_dim = c->hidden / c->heads;
    if ((status = get_size(json, "num_key_value_heads", false, &c->kv_heads, err)) ||
        (status = get_size(json, "head_dim", false, &c->head_dim, err)) ||
        (status = json_get_bool(json, "tie_word_embeddings", &c->tied, err)) ||
        (status = json_get_real(json, "rms_norm_eps", &eps, err)))
        return status;
    c->rms_eps = (float)eps;
    return ST_OK;
}

/* What would change the forward pass and is not computed. */
static enum status refuse_variants(const json_t *json, struct error *err)
{
    static const char *const switches[] = {"attention_bias", "mlp_bias", "use_sliding_window"};
    const char *act = "silu";
    double partial = 1;
    enum status status;
    for (size_t i = 0; i < COUNT_OF(switches); i++) {
        bool on = false;
        if ((status = json_get_bool(json, switches[i], &on, err))) return status;
        if (on) return fail(err, ST_UNSUPPORTED, "%s is true; supported is false", switches[i]);
    }
    if ((status = json_get_string(json, "hidden_act", &act, err)) ||
        (status = json_get_real(json, "partial_rotary_factor", &partial, err)))
        return status;
    if (strcmp(act, "silu") != 0)
        return fail(err, ST_UNSUPPORTED, "hidden_act is %.32s; supported is silu", act);
    if (partial != 1)
        return fail(err, ST_UNSUPPORTED, "partial_rotary_factor is %g; supported is 1", partial);
    if (json_is_object(json_object_get(json, "quantization_config")))
        return fail(err, ST_UNSUPPORTED,
                    "quantization_config is there; supported are plain F32, F16 and BF16 weights");
    return ST_OK;
}

static enum status read_scaling(const json_t *rope, struct model_config *config, struct error *err)
{
    static const struct {
        const char *name;
        enum rope_scaling value;
    } known[] = {{"default", ROPE_NONE}, {"linear", ROPE_LINEAR}, {"llama3", ROPE_LLAMA3}};
    const char *type = "default";
    enum status status;
    if ((status = json_get_string(rope, "type", &type, err)) ||
        (status = json_get_string(rope, "rope_type", &type, err)) ||
        (status = json_get_real(rope, "factor", &config->rope.factor, err)) ||
        (status = json_get_real(rope, "low_freq_factor", &config->rope.low_freq_factor, err)) ||
        (status = json_get_real(rope, "high_freq_factor", &config->rope.high_freq_factor, err)) ||
        (status = json_get_real(rope, "original_max_position_embeddings",
                                &config->rope.original_context, err)))
        return status;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (!strcmp(type, known[i].name)) {
            config->rope.scaling = known[i].value;
            return ST_OK;
        }
    return fail(err, ST_UNSUPPORTED, "rope_type is %.32s; supported are default, linear and llama3",
                type);
}

static enum status read_rope(const json_t *json, struct model_config *config, struct error *err)
{
    const json_t *rope = NULL;
    enum status status;
    config->rope.theta = 10000; /* transformers' default */
    if ((status = json_get_real(json, "rope_theta", &config->rope.theta, err)) ||
        (status = json_get_object(json, "rope_scaling", &rope, err)) ||
        (status = json_get_object(json, "rope_parameters", &rope, err)))
        return status;
    if (!rope) return ST_OK;
    if ((status = json_get_real(rope, "rope_theta", &config->rope.theta, err))) return status;
    return read_scaling(rope, config, err);
}

/* eos_token_id: an id, a list of ids, or null. */
static enum status read_eos(const json_t *json, struct model_config *config, struct error *err)
{
    const json_t *eos = json_object_get(json, "eos_token_id");
    size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
    if (!eos || json_is_null(eos)) return ST_OK;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= config->vocab)
            return fail(err, ST_BAD_FILE, "eos_token_id is no id (0 to %d) or list of ids",
                        config->vocab - 1);
        model_config_add_eos(config, (int32_t)json_integer_value(id));
    }
    return ST_OK;
}

static enum status read_config(const json_t *json, struct model_config *config, struct error *err)
{
    int64_t bos = -1;
    enum status status;
    if ((status = read_architecture(json, config, err)) ||
        (status = read_shape(json, config, err)) || (status = refuse_variants(json, err)) ||
        (status = read_rope(json, config, err)) || (status = model_config_check(config, err)) ||
        (status = json_get_int(json, "bos_token_id", 0, config->vocab - 1, &bos, err)))
        return status;
    config->bos = (int32_t)bos;
    return read_eos(json, config, err);
}

enum status hf_config_read(const char *dir, struct model_config *config, struct error *err)
{
    json_t *json;
    enum status status = json_read_object(dir, "config.json", MAX_CONFIG, &json, err);
    if (status) return status;
    status = read_config(json, config, err);
    json_decref(json);
    if (status) return fail_prefix(err, "%s/config.json", dir);

    struct error missing = {0};
    status = json_read_object(dir, "generation_config.json", MAX_CONFIG, &json, &missing);
    if (status == ST_NOT_FOUND) return ST_OK;
    if (status) return fail(err, status, "%s", missing.text);
    status = read_eos(json, config, err);
    json_decref(json);
    return status ? fail_prefix(err, "%s/generation_config.json", dir) : ST_OK;
}
