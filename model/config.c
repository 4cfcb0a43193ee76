#include "model/config.h"
#include "base/base.h"
#include "model/rope.h"

static enum status check_range(const char *field, int64_t value, int64_t maximum, struct error *err)
{
    if (value >= 1 && value <= maximum) return ST_OK;
    return fail(err, ST_BAD_FILE, "%s is %lld; allowed is 1 to %lld", field, (long long)value,
                (long long)maximum);
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
    if (!(c->rms_eps > 0 && c->rms_eps <= 1)) /* not NaN either */
        return fail(err, ST_BAD_FILE, "the RMS norm's epsilon is %g; allowed is above 0 to 1",
                    (double)c->rms_eps);
    return rope_check(c, err);
}

void model_config_add_eos(struct model_config *config, int32_t id)
{
    for (int32_t i = 0; i < config->eos_count; i++)
        if (config->eos[i] == id) return;
    if (id >= 0 && config->eos_count < MODEL_MAX_EOS) config->eos[config->eos_count++] = id;
}

void model_config_limit_window(struct model_config *config, int32_t window)
{
    config->window = window;
    if (window && config->max_context > window) config->max_context = window;
}
