/* The forward pass of a Llama-shaped decoder, as a sequence of the backend's fused operators.
 *
 *     x = embed(tokens)
 *     for each layer:  q, K, V = qkv(norm x);  x += Wo attention(q, K, V);  x += Wd swiglu(Wgu norm
 * x) logits = head(norm x)                       for the rows that want them
 *
 * Internal to model/. Nothing here looks into a tensor.
 */
#ifndef MODEL_TRANSFORMER_H
#define MODEL_TRANSFORMER_H

#include "kernels/kernels.h"
#include "model/checkpoint.h"
#include "quant/vsq.h"

struct transformer_layer {
    struct weight *qkv, *o, *gate_up, *down;
    struct tensor *attn_norm, *ffn_norm; /* [1, hidden] */
    struct tensor *qkv_bias;             /* [1, (heads + 2 kv_heads) * head_dim] or NULL */
    struct tensor *q_norm, *k_norm;      /* [1, head_dim] or NULL */
};

struct transformer {
    struct backend *backend; /* borrowed */
    struct model_config config;
    enum weight_format weights; /* VSQ4Z where any matrix is kept so */
    struct attention_shape shape;
    float *inv_freq; /* [head_dim / 2], shape.inv_freq */
    struct transformer_layer *layers;
    struct weight *embedding, *head; /* the same one when tied */
    size_t matrix_bytes;             /* of all matrices, unpacked: model_matrix_bytes */
    struct tensor *final_norm;
    struct kv_pool *kv;
    /* activations of one step, [max_tokens, ...] */
    struct tensor *x, *q, *attended, *inner, *logits;
    int32_t max_tokens, max_logits;
};

struct transformer_options {
    enum weight_format weights;
    bool as_stored;                     /* model_options.as_stored */
    const struct vsq_format *simulated; /* model_options.simulated */
    enum dtype kv_type;
    int32_t kv_blocks, max_tokens, max_logits;
    bool progress;
};

/* How a matrix of these parts is kept: as stored when that was asked for and all of them are stored
 * alike, else as `weights`. */
enum weight_format weight_format_kept(const struct checkpoint_tensor *const *parts, int count,
                                      enum weight_format weights, bool as_stored);

/* Packs every weight and allocates KV and activations. On failure *t is released already. */
enum status transformer_init(struct transformer *t, struct backend *backend,
                             const struct checkpoint *checkpoint,
                             const struct transformer_options *options, struct error *err);
void transformer_release(struct transformer *t);

/* One step without its logits: `input` stays borrowed until the next one. */
void transformer_layers(struct transformer *t, const struct step_input *input);

/* The logits of input->logit_rows, at most max_logits of them, which stay in t->logits until they
 * are computed again: a step with more of them changes its input's logit_rows between two calls. */
void transformer_head(struct transformer *t, const struct step_input *input);

/* Both, for a step of at most max_logits logits. */
void transformer_forward(struct transformer *t, const struct step_input *input);

size_t transformer_weight_bytes(const struct transformer *t);

#endif
