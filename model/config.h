/* A model's shape and habits, whatever file they came from. Plain value. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

#define MODEL_MAX_EOS 8

struct model_config {
    char architecture[32]; /* "llama", "qwen2", "qwen3" */
    char name[128];        /* general.name, the directory's name or the file's stem */
    int32_t vocab;         /* rows of the embedding */
    int32_t hidden, intermediate, layers;
    int32_t heads, kv_heads, head_dim;
    int32_t max_context;   /* positions the model was made for */
    float rms_eps;
    bool tied;             /* the head is the embedding */
    bool qkv_bias, qk_norm;
    struct {
        double theta;
        enum rope_scaling scaling;
        double factor, low_freq_factor, high_freq_factor; /* linear, llama3 */
        double original_context;                           /* llama3 */
    } rope;
    int32_t bos; /* -1: none */
    int32_t eos[MODEL_MAX_EOS];
    int32_t eos_count;
};

/* inv_freq[head_dim / 2], computed as transformers does (f32 powers, then the scaling). */
void model_rope_frequencies(const struct model_config *config, float *inv_freq);

#endif
