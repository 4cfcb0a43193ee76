#include "model/hf_rope.h"
#include "base/base.h"
#include "model/json_reader.h"
#include "model/rope.h"

#include <math.h>
#include <string.h>

/* A file with both spellings says one thing with both, or nobody can tell what it means. */
static enum status check_same(json_t *scaling, const json_t *parameters, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(scaling, key, value)
    {
        const char *name = strcmp(key, "type") ? key : "rope_type";
        const json_t *other = json_object_get(parameters, name);
        bool numbers = json_is_number(value) && json_is_number(other);
        if (numbers ? json_number_value(value) != json_number_value(other)
                    : !json_equal(value, (json_t *)other))
            return fail(err, ST_BAD_FILE,
                        "rope_scaling and rope_parameters differ in %.64s; give one of them", name);
    }
    return ST_OK;
}

/* The settings, or NULL where the file has none. */
static enum status find_settings(const json_t *json, const char **name, const json_t **settings,
                                 struct error *err)
{
    const json_t *scaling = NULL, *parameters = NULL;
    enum status status;
    if ((status = json_get_object(json, "rope_scaling", &scaling, err)) ||
        (status = json_get_object(json, "rope_parameters", &parameters, err)))
        return status;
    *name = json_object_size(parameters) ? "rope_parameters" : "rope_scaling";
    *settings = json_object_size(parameters) ? parameters : scaling;
    if (!json_object_size(parameters) || !json_object_size(scaling)) return ST_OK;
    return check_same((json_t *)scaling, parameters, err);
}

/* Models that mix kinds of attention have an object for each kind. */
static enum status refuse_nested(const char *name, json_t *settings, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(settings, key, value)
    {
        if (json_is_object(value))
            return fail(err, ST_UNSUPPORTED,
                        "%s.%.64s is an object; supported is one setting for all layers", name,
                        key);
    }
    return ST_OK;
}

static enum status read_type(const char *name, const json_t *settings, enum rope_scaling *scaling,
                             struct error *err)
{
    static const struct {
        const char *name;
        enum rope_scaling value;
    } known[] = {{"default", ROPE_NONE},
                 {"linear", ROPE_LINEAR},
                 {"llama3", ROPE_LLAMA3},
                 {"yarn", ROPE_YARN},
                 {"longrope", ROPE_FACTORS}};
    const char *type = "default";
    enum status status;
    if ((status = json_get_string(settings, "type", &type, err)) ||
        (status = json_get_string(settings, "rope_type", &type, err)))
        return status;
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (!strcmp(type, known[i].name)) {
            *scaling = known[i].value;
            return ST_OK;
        }
    return fail(err, ST_UNSUPPORTED,
                "%s: rope_type is %.32s; supported are default, linear, llama3, yarn and longrope",
                name, type);
}

/* The context before the stretch: a member of the configuration, of the settings, or the whole. */
static enum status read_original(const json_t *json, const json_t *settings,
                                 struct model_config *config, struct error *err)
{
    static const char key[] = "original_max_position_embeddings";
    enum status status;
    config->rope.original_context = config->max_context;
    if ((status = json_get_real(settings, key, &config->rope.original_context, err))) return status;
    return json_get_real(json, key, &config->rope.original_context, err);
}

static enum status read_yarn(const json_t *settings, struct model_config *config, struct error *err)
{
    double mscale = 0, mscale_all_dim = 0, given = -1;
    enum status status;
    config->rope.truncate = true;
    if ((status = json_get_real(settings, "beta_fast", &config->rope.beta_fast, err)) ||
        (status = json_get_real(settings, "beta_slow", &config->rope.beta_slow, err)) ||
        (status = json_get_bool(settings, "truncate", &config->rope.truncate, err)) ||
        (status = json_get_real(settings, "mscale", &mscale, err)) ||
        (status = json_get_real(settings, "mscale_all_dim", &mscale_all_dim, err)) ||
        (status = json_get_real(settings, "attention_factor", &given, err)))
        return status;
    if (json_is_number(json_object_get(settings, "attention_factor")) && given <= 0)
        return fail(err, ST_BAD_FILE, "attention_factor is %g; it must be above 0", given);
    if (config->rope.beta_fast == 0) config->rope.beta_fast = 32; /* transformers' defaults */
    if (config->rope.beta_slow == 0) config->rope.beta_slow = 1;
    if (!json_is_number(json_object_get(settings, "factor")) && config->rope.original_context > 0)
        config->rope.factor = config->max_context / config->rope.original_context;
    config->rope.attention_factor =
        given > 0 ? given : yarn_attention_factor(config->rope.factor, mscale, mscale_all_dim);
    yarn_extend_context(config);
    return ST_OK;
}

/* LongRoPE has a list of divisors for short and one for long contexts. Where they are the same the
 * frequencies do not depend on the context, which is what can be computed; it is how llama.cpp's
 * files say Llama 3's scaling, too. The factor on cos and sin is that of transformers. */
static enum status read_longrope(const json_t *settings, struct model_config *config,
                                 struct error *err)
{
    const json_t *lists[2] = {json_object_get(settings, "short_factor"),
                              json_object_get(settings, "long_factor")};
    double factor = 1, attention = 0;
    enum status status;
    if (json_array_size(lists[0]) != (size_t)config->head_dim / 2 ||
        config->head_dim > MODEL_MAX_HEAD_DIM)
        return fail(err, ST_BAD_FILE,
                    "short_factor has %zu numbers; half a head's %d are asked for",
                    json_array_size(lists[0]), config->head_dim);
    if (!json_equal((json_t *)lists[0], (json_t *)lists[1]))
        return fail(err, ST_UNSUPPORTED,
                    "long_factor differs from short_factor; supported are lists that are the same");
    for (int32_t i = 0; i < config->head_dim / 2; i++) {
        const json_t *value = json_array_get(lists[0], (size_t)i);
        if (!json_is_number(value))
            return fail(err, ST_BAD_FILE, "short_factor[%d] is no number", i);
        config->rope.factors[i] = (float)json_number_value(value);
    }
    if ((status = json_get_real(settings, "factor", &factor, err)) ||
        (status = json_get_real(settings, "attention_factor", &attention, err)))
        return status;
    double original = config->rope.original_context;
    if (attention == 0 && factor > 1 && original > 1)
        attention = sqrt(1 + log(factor) / log(original));
    config->rope.attention_factor = attention;
    return ST_OK;
}

static enum status read_scaling(const json_t *json, const char *name, const json_t *settings,
                                struct model_config *config, struct error *err)
{
    double partial = 1;
    enum status status;
    if ((status = refuse_nested(name, (json_t *)settings, err)) ||
        (status = read_type(name, settings, &config->rope.scaling, err)) ||
        (status = json_get_real(settings, "rope_theta", &config->rope.theta, err)) ||
        (status = json_get_real(settings, "partial_rotary_factor", &partial, err)))
        return status;
    if (partial != 1)
        return fail(err, ST_UNSUPPORTED, "%s: partial_rotary_factor is %g; supported is 1", name,
                    partial);
    if (config->rope.scaling == ROPE_NONE) return ST_OK;
    if (config->rope.scaling == ROPE_FACTORS) {
        status = read_original(json, settings, config, err);
        return status ? status : read_longrope(settings, config, err);
    }
    if ((status = json_get_real(settings, "factor", &config->rope.factor, err)) ||
        config->rope.scaling == ROPE_LINEAR)
        return status;
    if ((status = read_original(json, settings, config, err))) return status;
    if (config->rope.scaling == ROPE_YARN) return read_yarn(settings, config, err);
    if ((status = json_get_real(settings, "low_freq_factor", &config->rope.low_freq_factor, err)))
        return status;
    return json_get_real(settings, "high_freq_factor", &config->rope.high_freq_factor, err);
}

enum status hf_rope_read(const json_t *json, struct model_config *config, struct error *err)
{
    const json_t *settings = NULL;
    const char *name = NULL;
    enum status status;
    config->rope.theta = 10000; /* transformers' default */
    if ((status = json_get_real(json, "rope_theta", &config->rope.theta, err)) ||
        (status = find_settings(json, &name, &settings, err)))
        return status;
    return settings ? read_scaling(json, name, settings, config, err) : ST_OK;
}
