#include "model/rope.h"
#include "base/base.h"

#include <math.h>

/* --- checks */

static enum status check_above(const char *field, double value, double minimum, struct error *err)
{
    if (isfinite(value) && value > minimum) return ST_OK;
    return fail(err, ST_BAD_FILE, "%s is %g; it must be a number above %g", field, value, minimum);
}

static enum status check_llama3(const struct model_config *c, struct error *err)
{
    enum status status;
    if ((status = check_above("low_freq_factor", c->rope.low_freq_factor, 0, err)) ||
        (status = check_above("high_freq_factor", c->rope.high_freq_factor, 0, err)))
        return status;
    if (c->rope.high_freq_factor <= c->rope.low_freq_factor)
        return fail(err, ST_BAD_FILE, "high_freq_factor is %g; it must be above low_freq_factor %g",
                    c->rope.high_freq_factor, c->rope.low_freq_factor);
    return ST_OK;
}

static enum status check_yarn(const struct model_config *c, struct error *err)
{
    enum status status;
    if ((status = check_above("the base of YaRN's rotary frequencies", c->rope.theta, 1, err)) ||
        (status = check_above("beta_slow", c->rope.beta_slow, 0, err)) ||
        (status = check_above("beta_fast", c->rope.beta_fast, 0, err)))
        return status;
    if (c->rope.beta_fast < c->rope.beta_slow)
        return fail(err, ST_BAD_FILE, "beta_fast is %g; it must not be below beta_slow %g",
                    c->rope.beta_fast, c->rope.beta_slow);
    return ST_OK;
}

static enum status check_scaling(const struct model_config *c, struct error *err)
{
    enum status status;
    if (c->rope.scaling == ROPE_NONE) return ST_OK;
    if (c->rope.scaling == ROPE_FACTORS) {
        for (int32_t i = 0; i < c->head_dim / 2; i++)
            if ((status =
                     check_above("a rope frequency factor", (double)c->rope.factors[i], 0, err)))
                return status;
        return ST_OK;
    }
    status = check_above("the rope scaling factor", c->rope.factor, 0, err);
    if (status || c->rope.scaling == ROPE_LINEAR) return status;
    status =
        check_above("the rope scaling's original context length", c->rope.original_context, 0, err);
    if (status) return status;
    return c->rope.scaling == ROPE_YARN ? check_yarn(c, err) : check_llama3(c, err);
}

enum status rope_check(const struct model_config *c, struct error *err)
{
    float inv_freq[MODEL_MAX_HEAD_DIM / 2], scale = model_rope_scale(c);
    enum status status;
    if ((status = check_above("the base of the rotary frequencies", c->rope.theta, 0, err)) ||
        (status = check_scaling(c, err)))
        return status;
    model_rope_frequencies(c, inv_freq);
    for (int32_t i = 0; i < c->head_dim / 2; i++)
        if (!isfinite(inv_freq[i]) || inv_freq[i] <= 0)
            return fail(err, ST_BAD_FILE,
                        "the rotary frequency %d of %d is %g, from a base of %g and a scaling "
                        "factor of %g",
                        i, c->head_dim / 2, (double)inv_freq[i], c->rope.theta, c->rope.factor);
    if (!isfinite(scale) || scale <= 0)
        return fail(err, ST_BAD_FILE, "the rope attention factor is %g; it must be above 0",
                    c->rope.attention_factor);
    return ST_OK;
}

/* --- frequencies */

/* Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between mixed. */
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

/* The pair of dimensions that turns `rotations` times over the original context. */
static double yarn_dimension(const struct model_config *config, double rotations)
{
    return config->head_dim * log(config->rope.original_context / (rotations * 2 * M_PI)) /
           (2 * log(config->rope.theta));
}

/* YaRN: fast pairs keep their frequency, slow ones are stretched by `factor`, with a ramp between
 * those that turn beta_fast and beta_slow times. */
static float yarn_frequency(const struct model_config *config, int32_t pair, float power)
{
    double low = yarn_dimension(config, config->rope.beta_fast);
    double high = yarn_dimension(config, config->rope.beta_slow);
    if (config->rope.truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, config->head_dim - 1);
    if (low == high) high += 0.001;
    float ramp = ((float)pair - (float)low) / (float)(high - low);
    float kept = 1 - fminf(fmaxf(ramp, 0), 1);
    float stretched = 1.0f / ((float)config->rope.factor * power);
    return stretched * (1 - kept) + 1.0f / power * kept;
}

void model_rope_frequencies(const struct model_config *config, float *inv_freq)
{
    for (int32_t i = 0; i < config->head_dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)config->head_dim;
        /* The power in double, rounded once: libm's powf is within an ulp, which is not the same
         * number everywhere. */
        float power = (float)pow((double)(float)config->rope.theta, (double)exponent);
        float frequency = 1.0f / power;
        if (config->rope.scaling == ROPE_LINEAR) frequency /= (float)config->rope.factor;
        if (config->rope.scaling == ROPE_LLAMA3) frequency = llama3_frequency(config, frequency);
        if (config->rope.scaling == ROPE_YARN) frequency = yarn_frequency(config, i, power);
        if (config->rope.scaling == ROPE_FACTORS) frequency /= config->rope.factors[i];
        inv_freq[i] = frequency;
    }
}

/* --- the factor on cos and sin */

float model_rope_scale(const struct model_config *config)
{
    return config->rope.attention_factor == 0 ? 1.0f : (float)config->rope.attention_factor;
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

double yarn_attention_factor(double factor, double mscale, double mscale_all_dim)
{
    if (mscale == 0 || mscale_all_dim == 0) return yarn_mscale(factor, 1);
    return yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
}

void yarn_extend_context(struct model_config *config)
{
    double known = config->rope.original_context * config->rope.factor;
    if (known > config->max_context && known <= MODEL_MAX_CONTEXT)
        config->max_context = (int32_t)known;
}
