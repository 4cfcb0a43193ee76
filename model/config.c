#include "model/config.h"
#include "base/base.h"

#include <math.h>

static enum status check_range(const char *field, int64_t value, int64_t maximum, struct error *err)
{
    if (value >= 1 && value <= maximum) return ST_OK;
    return fail(err, ST_BAD_FILE, "%s is %lld; allowed is 1 to %lld", field, (long long)value,
                (long long)maximum);
}

static enum status check_positive(const char *field, double value, struct error *err)
{
    if (isfinite(value) && value > 0) return ST_OK;
    return fail(err, ST_BAD_FILE, "%s is %g; it must be a positive number", field, value);
}

static enum status check_rope(const struct model_config *c, struct error *err)
{
    enum status status = check_positive("the base of the rotary frequencies", c->rope.theta, err);
    if (status || c->rope.scaling == ROPE_NONE) return status;
    if (c->rope.scaling == ROPE_YARN)
        return fail(err, ST_UNSUPPORTED,
                    "rope scaling yarn; supported are none, linear and llama3");
    if (c->rope.scaling == ROPE_FACTORS) {
        for (int32_t i = 0; !status && i < c->head_dim / 2; i++)
            status = check_positive("a rope frequency factor", (double)c->rope.factors[i], err);
        return status;
    }
    status = check_positive("the rope scaling factor", c->rope.factor, err);
    if (status || c->rope.scaling == ROPE_LINEAR) return status;
    if ((status = check_positive("low_freq_factor", c->rope.low_freq_factor, err)) ||
        (status = check_positive("high_freq_factor", c->rope.high_freq_factor, err)) ||
        (status =
             check_positive("original_max_position_embeddings", c->rope.original_context, err)))
        return status;
    if (c->rope.high_freq_factor <= c->rope.low_freq_factor)
        return fail(err, ST_BAD_FILE, "high_freq_factor is %g; it must be above low_freq_factor %g",
                    c->rope.high_freq_factor, c->rope.low_freq_factor);
    return ST_OK;
}

enum status model_config_check(const struct model_config *c, struct error *err)
{
    const struct {
        const char *field;
        int32_t value, maximum;
    } ranges[] = {
        {"the vocabulary", c->vocab, MODEL_MAX_VOCAB},
        {"the hidden size", c->hidden, MODEL_MAX_WIDTH},
        {"the intermediate size", c->intermediate, MODEL_MAX_WIDTH},
        {"the number of layers", c->layers, MODEL_MAX_LAYERS},
        {"the number of attention heads", c->heads, MODEL_MAX_HEADS},
        {"the number of key-value heads", c->kv_heads, MODEL_MAX_HEADS},
        {"the head dimension", c->head_dim, MODEL_MAX_HEAD_DIM},
        {"the context length", c->max_context, MODEL_MAX_CONTEXT},
    };
    enum status status;
    for (size_t i = 0; i < COUNT_OF(ranges); i++)
        if ((status = check_range(ranges[i].field, ranges[i].value, ranges[i].maximum, err)))
            return status;
    if (c->heads % c->kv_heads)
        return fail(err, ST_BAD_FILE, "%d attention heads are no multiple of %d key-value heads",
                    c->heads, c->kv_heads);
    if (c->head_dim % 2)
        return fail(err, ST_BAD_FILE, "the head dimension is %d; it must be even", c->head_dim);
    if ((status = check_positive("the RMS norm's epsilon", (double)c->rms_eps, err))) return status;
    return check_rope(c, err);
}

void model_config_add_eos(struct model_config *config, int32_t id)
{
    for (int32_t i = 0; i < config->eos_count; i++)
        if (config->eos[i] == id) return;
    if (id >= 0 && config->eos_count < MODEL_MAX_EOS) config->eos[config->eos_count++] = id;
}

/* Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between mixed. All
 * in f32 and in this order, as transformers computes it. */
static float llama3_frequency(const struct model_config *config, float frequency)
{
    float factor = (float)config->rope.factor, original = (float)config->rope.original_context;
    float low = (float)config->rope.low_freq_factor, high = (float)config->rope.high_freq_factor;
    float wavelength = (float)(2 * M_PI) / frequency;
    if (wavelength > original / low) return frequency / factor;
    if (wavelength < original / high) return frequency;
    float smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

void model_rope_frequencies(const struct model_config *config, float *inv_freq)
{
    for (int32_t i = 0; i < config->head_dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)config->head_dim;
        /* The power in double, rounded once: libm's powf is within an ulp, which is not the same
         * number everywhere. */
        float frequency = 1.0f / (float)pow((double)(float)config->rope.theta, (double)exponent);
        if (config->rope.scaling == ROPE_LINEAR) frequency /= (float)config->rope.factor;
        if (config->rope.scaling == ROPE_LLAMA3) frequency = llama3_frequency(config, frequency);
        if (config->rope.scaling == ROPE_FACTORS) frequency /= config->rope.factors[i];
        inv_freq[i] = frequency;
    }
}
