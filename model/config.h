/* A model's shape and habits, whatever file they came from. Plain value. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum rope_scaling {
    ROPE_NONE,
    ROPE_LINEAR,
    ROPE_LLAMA3,
    ROPE_YARN,
    ROPE_FACTORS, /* a divisor per frequency, as GGUF files of Llama 3 list them */
};

#define MODEL_MAX_EOS 32

/* Limits for what files may ask for: several times the largest dense models that are known. */
#define MODEL_MAX_VOCAB       (1 << 21)
#define MODEL_MAX_WIDTH       (1 << 18) /* hidden, intermediate */
#define MODEL_MAX_LAYERS      1024
#define MODEL_MAX_HEADS       1024
#define MODEL_MAX_HEAD_DIM    512
#define MODEL_MAX_CONTEXT     (1 << 28)
#define MODEL_MAX_TOKEN_BYTES 8192

struct model_config {
    char architecture[32]; /* "llama", "mistral", "qwen2", "qwen3" */
    char name[128];        /* general.name, the directory's name or the file's stem */
    int32_t vocab;         /* rows of the embedding */
    int32_t hidden, intermediate, layers;
    int32_t heads, kv_heads, head_dim;
    int32_t max_context; /* positions the model was made for, and no more than its window */
    int32_t window;      /* slots a token sees by the model's sliding window; 0: all before it */
    float rms_eps;
    bool tied; /* the head is the embedding */
    bool qkv_bias, qk_norm;
    struct {
        double theta;
        enum rope_scaling scaling;
        double factor;                            /* linear, llama3, yarn */
        double original_context;                  /* llama3, yarn */
        double low_freq_factor, high_freq_factor; /* llama3 */
        double beta_fast, beta_slow;           /* yarn: rotations where the ramp begins and ends */
        bool truncate;                         /* yarn: the ramp's ends are whole dimensions */
        double attention_factor;               /* cos and sin are multiplied by it; 0: by 1 */
        float factors[MODEL_MAX_HEAD_DIM / 2]; /* factors */
    } rope;
    int32_t bos; /* -1: none */
    int32_t eos[MODEL_MAX_EOS];
    int32_t eos_count;
};

/* Everything positive, within the limits and consistent (heads a multiple of kv_heads, an even
 * head_dim, ...). ST_BAD_FILE or ST_UNSUPPORTED with the field, what was found and what is allowed.
 */
enum status model_config_check(const struct model_config *config, struct error *err);

/* Adds a token that ends a text; negative ids and ones already there are left out, as are more than
 * MODEL_MAX_EOS. */
void model_config_add_eos(struct model_config *config, int32_t id);

/* Limits max_context to a sliding window of that many slots (0: there is none): inside it, full
 * attention, which is what is computed, is the same. */
void model_config_limit_window(struct model_config *config, int32_t window);

#endif
