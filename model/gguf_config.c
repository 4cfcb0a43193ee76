#include "model/gguf_config.h"
#include "base/base.h"
#include "model/rope.h"
#include "model/utf8.h"

#include <stdio.h>
#include <string.h>

/* "llama.rope.freq_base" from "rope.freq_base". */
static const char *arch_key(const struct model_config *config, const char *name,
                            char key[static 96])
{
    snprintf(key, 96, "%s.%s", config->architecture, name);
    return key;
}

static enum status get_arch_int(const struct gguf_file *file, const struct model_config *config,
                                const char *name, bool required, int32_t *out, struct error *err)
{
    char key[96];
    int64_t value = *out;
    arch_key(config, name, key);
    if (required && !gguf_find(file, key)) return fail(err, ST_BAD_FILE, "key %s is missing", key);
    enum status status = gguf_get_int(file, key, 1, INT32_MAX, &value, err);
    *out = (int32_t)value;
    return status;
}

static enum status get_arch_real(const struct gguf_file *file, const struct model_config *config,
                                 const char *name, double *out, struct error *err)
{
    char key[96];
    return gguf_get_real(file, arch_key(config, name, key), out, err);
}

static enum status read_architecture(const struct gguf_file *file, struct model_config *config,
                                     struct error *err)
{
    struct gguf_string found = {"", 0};
    enum status status = gguf_get_string(file, "general.architecture", &found, err);
    if (status) return status;
    if (!found.length) return fail(err, ST_BAD_FILE, "key general.architecture is missing");
    size_t room = sizeof config->architecture - 1; /* the length may be beyond an int */
    snprintf(config->architecture, sizeof config->architecture, "%.*s",
             (int)(found.length < room ? found.length : room), found.text);
    bool llama = !strcmp(config->architecture, "llama");
    config->qkv_bias = !strcmp(config->architecture, "qwen2");
    config->qk_norm = !strcmp(config->architecture, "qwen3");
    if (!llama && !config->qkv_bias && !config->qk_norm)
        return fail(err, ST_UNSUPPORTED,
                    "general.architecture is %.*s; supported are llama, qwen2 and qwen3",
                    found.length < 64 ? (int)found.length : 64, found.text);
    return ST_OK;
}

/* general.name, or the file's stem. */
static enum status read_name(const struct gguf_file *file, const char *path,
                             struct model_config *config, struct error *err)
{
    const char *slash = strrchr(path, '/');
    const char *stem = slash ? slash + 1 : path;
    size_t length = strlen(stem);
    if (length > 5 && !strcmp(stem + length - 5, ".gguf")) length -= 5;
    struct gguf_string name = {stem, length};
    enum status status = gguf_get_string(file, "general.name", &name, err);
    if (status) return status;
    size_t room = name.length < sizeof config->name ? name.length : sizeof config->name - 1;
    memcpy(config->name, name.text, utf8_valid_prefix(name.text, room));
    make_printable(config->name);
    return ST_OK;
}

static enum status read_shape(const struct gguf_file *file, struct model_config *c,
                              struct error *err)
{
    enum status status;
    if ((status = get_arch_int(file, c, "context_length", true, &c->max_context, err)) ||
        (status = get_arch_int(file, c, "embedding_length", true, &c->hidden, err)) ||
        (status = get_arch_int(file, c, "feed_forward_length", true, &c->intermediate, err)) ||
        (status = get_arch_int(file, c, "block_count", true, &c->layers, err)) ||
        (status = get_arch_int(file, c, "attention.head_count", true, &c->heads, err)))
        return status;
    c->kv_heads = c->heads;
    c->head_dim = c->hidden / c->heads;
    if ((status = get_arch_int(file, c, "attention.head_count_kv", false, &c->kv_heads, err)) ||
        (status = get_arch_int(file, c, "attention.key_length", false, &c->head_dim, err)))
        return status;
    int32_t value_dim = c->head_dim, rotated = c->head_dim;
    if ((status = get_arch_int(file, c, "attention.value_length", false, &value_dim, err)) ||
        (status = get_arch_int(file, c, "rope.dimension_count", false, &rotated, err)))
        return status;
    if (value_dim != c->head_dim || rotated != c->head_dim)
        return fail(err, ST_UNSUPPORTED,
                    "keys of %d, values of %d and %d rotated dimensions; supported is one number",
                    c->head_dim, value_dim, rotated);
    return ST_OK;
}

/* --- rope */

static bool equals(struct gguf_string string, const char *text)
{
    return string.length == strlen(text) && !memcmp(string.text, text, string.length);
}

/* A factor without a type means linear, in the old files (rope.scale_linear) as in llama.cpp. */
static enum status read_scaling_type(const struct gguf_file *file, struct model_config *config,
                                     struct error *err)
{
    static const struct {
        const char *name;
        enum rope_scaling value;
    } known[] = {{"none", ROPE_NONE}, {"linear", ROPE_LINEAR}, {"yarn", ROPE_YARN}};
    char key[96];
    double factor = 1;
    struct gguf_string type = {"linear", 6};
    enum status status;
    if ((status = get_arch_real(file, config, "rope.scale_linear", &factor, err)) ||
        (status = get_arch_real(file, config, "rope.scaling.factor", &factor, err)) ||
        (status = gguf_get_string(file, arch_key(config, "rope.scaling.type", key), &type, err)))
        return status;
    config->rope.factor = factor;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (equals(type, known[i].name)) {
            config->rope.scaling = known[i].value;
            if (config->rope.scaling == ROPE_LINEAR && factor == 1)
                config->rope.scaling = ROPE_NONE;
            return ST_OK;
        }
    return fail(err, ST_UNSUPPORTED, "key %s is %.*s; supported are none, linear and yarn", key,
                type.length < 64 ? (int)type.length : 64, type.text);
}

/* The converter copies Hugging Face's attention_factor to yarn_attn_factor. yarn_log_multiplier is
 * mscale_all_dim beside an mscale of 1. */
static enum status read_yarn(const struct gguf_file *file, struct model_config *config,
                             struct error *err)
{
    double mix = 1, log_multiplier = 0, attention = 0;
    int32_t original = config->max_context;
    enum status status;
    config->rope.beta_fast = 32; /* llama.cpp's defaults */
    config->rope.beta_slow = 1;
    config->rope.truncate = true;
    if ((status = get_arch_int(file, config, "rope.scaling.original_context_length", false,
                               &original, err)) ||
        (status = get_arch_real(file, config, "rope.scaling.yarn_ext_factor", &mix, err)) ||
        (status = get_arch_real(file, config, "rope.scaling.yarn_attn_factor", &attention, err)) ||
        (status = get_arch_real(file, config, "rope.scaling.yarn_beta_fast",
                                &config->rope.beta_fast, err)) ||
        (status = get_arch_real(file, config, "rope.scaling.yarn_beta_slow",
                                &config->rope.beta_slow, err)) ||
        (status =
             get_arch_real(file, config, "rope.scaling.yarn_log_multiplier", &log_multiplier, err)))
        return status;
    if (mix != 1)
        return fail(err, ST_UNSUPPORTED, "rope.scaling.yarn_ext_factor is %g; supported is 1", mix);
    config->rope.original_context = original;
    config->rope.attention_factor =
        attention != 0 ? attention : yarn_attention_factor(config->rope.factor, 1, log_multiplier);
    yarn_extend_context(config);
    return ST_OK;
}

static enum status read_rope(const struct gguf_file *file, struct model_config *config,
                             struct error *err)
{
    double attention = 1;
    enum status status;
    config->rope.theta = 10000;
    if ((status = get_arch_real(file, config, "rope.freq_base", &config->rope.theta, err)) ||
        (status = read_scaling_type(file, config, err)))
        return status;
    config->rope.attention_factor = 1;
    if (config->rope.scaling == ROPE_YARN && (status = read_yarn(file, config, err))) return status;
    status = get_arch_real(file, config, "rope.scaling.attn_factor", &attention, err);
    if (status) return status;
    if (!(attention > 0))
        return fail(err, ST_BAD_FILE, "key rope.scaling.attn_factor: %g; it must be above 0",
                    attention);
    config->rope.attention_factor *= attention;
    return ST_OK;
}

/* --- the rest */

static enum status read_norm_and_window(const struct gguf_file *file, struct model_config *config,
                                        struct error *err)
{
    double eps = 0;
    int64_t window = 0;
    char key[96];
    enum status status;
    if ((status = get_arch_real(file, config, "attention.layer_norm_rms_epsilon", &eps, err)) ||
        (status = gguf_get_int(file, arch_key(config, "attention.sliding_window", key), 0,
                               INT32_MAX, &window, err)))
        return status;
    config->rms_eps = (float)eps;
    model_config_limit_window(config, (int32_t)window);
    return ST_OK;
}

/* What would change the forward pass and is not computed. */
static enum status refuse_variants(const struct gguf_file *file, const struct model_config *config,
                                   struct error *err)
{
    static const char *const scales[] = {"attention.scale", "logit_scale", "residual_scale",
                                         "embedding_scale"};
    char key[96];
    int64_t experts = 0, parts = 0;
    bool causal = true;
    enum status status;
    for (size_t i = 0; i < COUNT_OF(scales); i++)
        if (gguf_find(file, arch_key(config, scales[i], key)))
            return fail(err, ST_UNSUPPORTED, "key %s is there; supported are models without", key);
    if ((status = gguf_get_int(file, arch_key(config, "expert_count", key), 0, INT32_MAX, &experts,
                               err)) ||
        (status = gguf_get_bool(file, arch_key(config, "attention.causal", key), &causal, err)) ||
        (status = gguf_get_int(file, "split.count", 0, INT32_MAX, &parts, err)))
        return status;
    if (experts)
        return fail(err, ST_UNSUPPORTED, "key %s.expert_count: %lld; supported are dense models",
                    config->architecture, (long long)experts);
    if (!causal)
        return fail(err, ST_UNSUPPORTED, "key %s is false; supported is causal attention", key);
    if (parts > 1)
        return fail(err, ST_UNSUPPORTED,
                    "key split.count: %lld; supported is one file (llama-gguf-split --merge)",
                    (long long)parts);
    return ST_OK;
}

enum status gguf_config_read(const struct gguf_file *file, const char *path,
                             struct model_config *config, struct error *err)
{
    enum status status;
    if ((status = read_architecture(file, config, err)) ||
        (status = read_name(file, path, config, err)) ||
        (status = refuse_variants(file, config, err)) || (status = read_shape(file, config, err)) ||
        (status = read_rope(file, config, err)))
        return status;
    return read_norm_and_window(file, config, err);
}
