#include "model/hf_config.h"
#include "base/base.h"
#include "model/hf_rope.h"
#include "model/json_reader.h"

#include <stdio.h>
#include <string.h>

#define MAX_CONFIG (1 << 20) /* bytes of a config.json; real ones are about a thousand */

/* By the class that architectures names, or by model_type where no class is named. */
static enum status read_architecture(const json_t *json, struct model_config *config,
                                     struct error *err)
{
    static const struct {
        const char *class, *architecture;
        bool qkv_bias, qk_norm;
    } known[] = {
        {"LlamaForCausalLM", "llama", false, false},
        {"MistralForCausalLM", "mistral", false, false},
        {"Qwen2ForCausalLM", "qwen2", true, false},
        {"Qwen3ForCausalLM", "qwen3", false, true},
    };
    const char *found =
        json_string_value(json_array_get(json_object_get(json, "architectures"), 0));
    const char *type = json_string_value(json_object_get(json, "model_type"));
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (found ? strcmp(found, known[i].class) : !type || strcmp(type, known[i].architecture))
            continue;
        snprintf(config->architecture, sizeof config->architecture, "%s", known[i].architecture);
        config->qkv_bias = known[i].qkv_bias;
        config->qk_norm = known[i].qk_norm;
        return ST_OK;
    }
    return fail(err, ST_UNSUPPORTED,
                "architectures[0] is %.64s%s%.64s; supported are LlamaForCausalLM, "
                "MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM",
                found ? found : "missing", type ? ", model_type " : "", type ? type : "");
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
    c->head_dim = c->qk_norm ? 128 : c->hidden / c->heads; /* Qwen3 has a default of its own */
    if ((status = get_size(json, "num_key_value_heads", false, &c->kv_heads, err)) ||
        (status = get_size(json, "head_dim", false, &c->head_dim, err)) ||
        (status = json_get_bool(json, "tie_word_embeddings", &c->tied, err)) ||
        (status = json_get_real(json, "rms_norm_eps", &eps, err)))
        return status;
    c->rms_eps = (float)eps;
    return ST_OK;
}

/* --- what would change the forward pass and is not computed */

static enum status refuse_switches(const json_t *json, const struct model_config *config,
                                   struct error *err)
{
    static const char *const switches[] = {"attention_bias", "mlp_bias"};
    enum status status;
    for (size_t i = 0; i < COUNT_OF(switches); i++) {
        bool on = false;
        if (!i && config->qkv_bias) continue; /* Qwen2 always has its biases, whatever is listed */
        if ((status = json_get_bool(json, switches[i], &on, err))) return status;
        if (on) return fail(err, ST_UNSUPPORTED, "%s is true; supported is false", switches[i]);
    }
    return ST_OK;
}

static enum status refuse_quantized(const json_t *json, struct error *err)
{
    static const char *const keys[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        const json_t *settings = json_object_get(json, keys[i]);
        const char *method = json_string_value(json_object_get(settings, "quant_method"));
        if (settings && !json_is_null(settings))
            return fail(err, ST_UNSUPPORTED,
                        "%s is there (quant_method %.32s); supported are plain F32, F16 and BF16 "
                        "weights",
                        keys[i], method ? method : "missing");
    }
    return ST_OK;
}

static enum status refuse_variants(const json_t *json, const struct model_config *config,
                                   struct error *err)
{
    const char *act = "silu";
    double partial = 1;
    enum status status;
    if ((status = refuse_switches(json, config, err)) || (status = refuse_quantized(json, err)) ||
        (status = json_get_string(json, "hidden_act", &act, err)) ||
        (status = json_get_real(json, "partial_rotary_factor", &partial, err)))
        return status;
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return fail(err, ST_UNSUPPORTED, "hidden_act is %.32s; supported is silu", act);
    if (partial != 1)
        return fail(err, ST_UNSUPPORTED, "partial_rotary_factor is %g; supported is 1", partial);
    return ST_OK;
}

/* --- sliding windows */

/* How many layers slide by layer_types, or -1 where there is no such list. */
static enum status count_sliding(const json_t *json, int32_t *sliding, struct error *err)
{
    const json_t *types = json_object_get(json, "layer_types");
    *sliding = -1;
    if (!types || json_is_null(types)) return ST_OK;
    if (!json_is_array(types)) return fail(err, ST_BAD_FILE, "layer_types is no list");
    *sliding = 0;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type && !strcmp(type, "sliding_attention"))
            ++*sliding;
        else if (!type || strcmp(type, "full_attention") != 0)
            return fail(err, ST_UNSUPPORTED,
                        "layer_types[%zu] is %.32s; supported are full_attention and "
                        "sliding_attention",
                        i, type ? type : "no string");
    }
    return ST_OK;
}

/* Mistral's layers all slide when there is a window; Qwen's from max_window_layers on, if
 * use_sliding_window says so. The defaults are those of transformers. */
static enum status read_window(const json_t *json, struct model_config *config, struct error *err)
{
    bool qwen = config->qkv_bias || config->qk_norm, use = !qwen;
    bool silent = !json_object_get(json, "sliding_window");
    int64_t window = silent && strcmp(config->architecture, "llama") ? 4096 : 0, first = 28;
    int32_t sliding;
    enum status status;
    if ((status = json_get_bool(json, "use_sliding_window", &use, err)) ||
        (status = count_sliding(json, &sliding, err)))
        return status;
    if (!use && sliding <= 0) return ST_OK;
    if ((status = json_get_int(json, "sliding_window", 1, INT32_MAX, &window, err)) ||
        (status = json_get_int(json, "max_window_layers", 0, INT32_MAX, &first, err)))
        return status;
    if (sliding > 0 && !window)
        return fail(err, ST_BAD_FILE,
                    "layer_types has layers that slide, sliding_window no number");
    if (qwen && (sliding < 0 ? config->layers <= first : !sliding)) return ST_OK;
    model_config_limit_window(config, (int32_t)window);
    return ST_OK;
}

/* --- tokens */

/* eos_token_id: an id, a list of ids, or null. */
static enum status read_eos(const json_t *json, struct model_config *config, struct error *err)
{
    const json_t *eos = json_object_get(json, "eos_token_id");
    size_t count = json_is_array(eos) ? json_array_size(eos) : 1;
    if (!eos || json_is_null(eos)) return ST_OK;
    if (count > MODEL_MAX_EOS - (size_t)config->eos_count)
        return fail(err, ST_UNSUPPORTED, "eos_token_id has %zu ids; supported are %d in all", count,
                    MODEL_MAX_EOS);
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(id) || json_integer_value(id) < -1 ||
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
        (status = read_shape(json, config, err)) || (status = refuse_variants(json, config, err)) ||
        (status = hf_rope_read(json, config, err)) || (status = read_window(json, config, err)) ||
        (status = model_config_check(config, err)) ||
        (status = json_get_int(json, "bos_token_id", -1, config->vocab - 1, &bos, err)))
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
