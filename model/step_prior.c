#include "model/step_prior.h"

#include <math.h>

/* What a thread of a CPU does in a microsecond, about: docs/benchmarks.md has such machines. */
#define READ_BYTES    10e3 /* of memory */
#define INT8_OPS      250e3
#define F32_OPS       50e3
#define ATTENTION_OPS 120e3
#define SAMPLE_LOGITS 500.0 /* of the vocabulary, looked at for a token */

struct step_prior model_step_prior(const struct model *model)
{
    const struct model_config *config = model_config(model);
    struct model_weight_sizes sizes = model_weight_sizes(model);
    double threads = model_threads(model);
    double ops = (model_weights(model) == WEIGHT_NATIVE ? F32_OPS : INT8_OPS) * threads;
    double head_weights = (double)config->vocab * config->hidden;
    double tables = config->tied ? head_weights : 2 * head_weights;
    double layer_weights = fmax(1, (double)model_weight_count(model) - tables);
    double read = (double)(sizes.qkv + sizes.output + sizes.gate_up + sizes.down) +
                  (double)(sizes.head ? sizes.head : sizes.embedding);
    double slots = (double)model_kv_blocks(model) * KV_BLOCK_SLOTS;
    double attention = 4.0 * config->layers * config->heads * config->head_dim;
    return (struct step_prior){
        .fixed_us = read / (READ_BYTES * threads),
        .token_us = 2 * layer_weights / ops,
        .row_us = 2 * head_weights / ops + config->vocab / (SAMPLE_LOGITS * threads),
        .context_us = (double)model_kv_bytes(model) / slots / (READ_BYTES * threads),
        .attention_us = attention / (ATTENTION_OPS * threads),
    };
}
