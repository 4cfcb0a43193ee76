#include "model/transformer.h"
#include "base/progress.h"
#include "model/rope.h"

#include <stdlib.h>
#include <string.h>

/* --- loading -------------------------------------------------------------------------------------
 */

static void read_rows(const void *context, int64_t first, int64_t count, float *out)
{
    checkpoint_read_rows(context, first, count, out);
}

/* A matrix that is rounded to the paper's VSQ4 as it is read, and stays f32. */
struct simulated_rows {
    const struct checkpoint_tensor *tensor;
    const struct vsq_format *format;
};

static void read_simulated_rows(const void *context, int64_t first, int64_t count, float *out)
{
    const struct simulated_rows *rows = context;
    int64_t cols = rows->tensor->cols;
    float *scratch = must_alloc((size_t)vsq_vectors(rows->format, cols) * sizeof *scratch);
    checkpoint_read_rows(rows->tensor, first, count, out);
    for (int64_t i = 0; i < count; i++)
        vsq_simulate_row(out + i * cols, cols, rows->format, scratch, out + i * cols);
    free(scratch);
}

/* The type that holds the values of all parts exactly. */
static enum dtype native_type(const struct checkpoint_tensor *const *parts, int count)
{
    for (int i = 1; i < count; i++)
        if (parts[i]->type != parts[0]->type) return DT_F32;
    if (parts[0]->type == FILE_F16) return DT_F16;
    if (parts[0]->type == FILE_BF16) return DT_BF16;
    return DT_F32;
}

static bool all_stored_as(const struct checkpoint_tensor *const *parts, int count,
                          enum file_type type)
{
    for (int i = 0; i < count; i++)
        if (parts[i]->type != type) return false;
    return true;
}

enum weight_format weight_format_kept(const struct checkpoint_tensor *const *parts, int count,
                                      enum weight_format weights, bool as_stored)
{
    if (as_stored && all_stored_as(parts, count, FILE_VSQ4Z)) return WEIGHT_VSQ4Z;
    if (as_stored && all_stored_as(parts, count, FILE_W8)) return WEIGHT_W8;
    return weights;
}

/* Bytes of a matrix in a file of that format. */
static size_t unpacked_bytes(const struct checkpoint_tensor *tensor, enum weight_format format)
{
    if (format == WEIGHT_VSQ4Z) return vsq4z_matrix_bytes(tensor->rows, tensor->cols);
    if (format == WEIGHT_W8) return (size_t)w8_matrix_bytes(tensor->rows, tensor->cols);
    return tensor->bytes;
}

struct loader {
    struct transformer *t;
    const struct checkpoint *checkpoint;
    const struct transformer_options *options;
    struct error *err;
};

static enum status load_weight(struct loader *loader, const enum tensor_role *roles, int count,
                               bool paired, int32_t layer, struct weight **out)
{
    const struct checkpoint_tensor *parts[3];
    struct weight_source sources[3];
    struct simulated_rows simulated[3];
    const struct transformer_options *options = loader->options;
    bool simulate = options->simulated && roles[0] > TENSOR_FINAL_NORM; /* a layer's */
    for (int i = 0; i < count; i++) {
        parts[i] = checkpoint_tensor(loader->checkpoint, roles[i], layer);
        invariant(parts[i], "checkpoint_open let a tensor of role %d be missing", roles[i]);
        sources[i] =
            (struct weight_source){.read = read_rows, .context = parts[i], .rows = parts[i]->rows};
        if (!simulate) continue;
        simulated[i] = (struct simulated_rows){parts[i], options->simulated};
        sources[i].read = read_simulated_rows;
        sources[i].context = &simulated[i];
    }
    enum weight_format format =
        weight_format_kept(parts, count, options->weights, options->as_stored);
    for (int i = 0; i < count; i++) {
        loader->t->matrix_bytes += unpacked_bytes(parts[i], format);
        if (format == WEIGHT_VSQ4Z && parts[i]->type != FILE_VSQ4Z)
            return fail(loader->err, ST_UNSUPPORTED, "tensor %s is %s, not VSQ4z", parts[i]->name,
                        file_type_name(parts[i]->type));
        if (format == WEIGHT_VSQ4Z) sources[i].vsq4z = &parts[i]->vsq4z;
        if (format == WEIGHT_W8 && all_stored_as(parts, count, FILE_W8))
            sources[i].w8 = &parts[i]->w8;
    }
    struct weight_spec spec = {
        .format = format,
        .native = simulate ? DT_F32 : native_type(parts, count),
        .parts = sources,
        .part_count = count,
        .paired = paired,
        .cols = parts[0]->cols,
    };
    struct backend *backend = loader->t->backend;
    enum status status = backend->ops->weight_create(backend, &spec, out, loader->err);
    if (status != ST_OK) fail_prefix(loader->err, "tensor %s", parts[0]->name);
    return status;
}

/* A vector of one or more parts, end to end, as a tensor of one row; *out stays NULL where the
 * model has none of it. */
static enum status load_vector(struct loader *loader, const enum tensor_role *roles, int count,
                               int32_t layer, struct tensor **out)
{
    const struct checkpoint_tensor *first = checkpoint_tensor(loader->checkpoint, roles[0], layer);
    if (!first) return ST_OK;
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        total += checkpoint_tensor(loader->checkpoint, roles[i], layer)->cols;
    struct backend *backend = loader->t->backend;
    float *values = try_alloc((size_t)total, sizeof *values);
    *out = values ? backend->ops->tensor_create(backend, 1, total) : NULL;
    if (!*out) {
        free(values);
        return fail(loader->err, ST_NO_MEMORY, "no memory for tensor %s", first->name);
    }
    int64_t at = 0;
    for (int i = 0; i < count; i++) {
        const struct checkpoint_tensor *part =
            checkpoint_tensor(loader->checkpoint, roles[i], layer);
        checkpoint_read_rows(part, 0, 1, values + at);
        at += part->cols;
    }
    backend->ops->tensor_write(backend, *out, 0, values);
    free(values);
    return ST_OK;
}

#define ROLES(...)             \
    (const enum tensor_role[]) \
    {                          \
        __VA_ARGS__            \
    }

static enum status load_layer(struct loader *loader, int32_t index)
{
    struct transformer_layer *layer = &loader->t->layers[index];
    enum status status;
    if ((status = load_vector(loader, ROLES(TENSOR_ATTN_NORM), 1, index, &layer->attn_norm)) ||
        (status = load_vector(loader, ROLES(TENSOR_FFN_NORM), 1, index, &layer->ffn_norm)) ||
        (status = load_vector(loader, ROLES(TENSOR_Q_NORM), 1, index, &layer->q_norm)) ||
        (status = load_vector(loader, ROLES(TENSOR_K_NORM), 1, index, &layer->k_norm)) ||
        (status = load_vector(loader, ROLES(TENSOR_Q_BIAS, TENSOR_K_BIAS, TENSOR_V_BIAS), 3, index,
                              &layer->qkv_bias)))
        return status;
    if ((status = load_weight(loader, ROLES(TENSOR_Q, TENSOR_K, TENSOR_V), 3, false, index,
                              &layer->qkv)) ||
        (status = load_weight(loader, ROLES(TENSOR_O), 1, false, index, &layer->o)) ||
        (status =
             load_weight(loader, ROLES(TENSOR_GATE, TENSOR_UP), 2, true, index, &layer->gate_up)) ||
        (status = load_weight(loader, ROLES(TENSOR_DOWN), 1, false, index, &layer->down)))
        return status;
    return ST_OK;
}

static enum status load_weights(struct loader *loader, bool progress)
{
    struct transformer *t = loader->t;
    struct progress bar = {0};
    if (progress) progress_begin(&bar, "packing weights", t->config.layers + 1);
    enum status status = load_vector(loader, ROLES(TENSOR_FINAL_NORM), 1, 0, &t->final_norm);
    if (!status) status = load_weight(loader, ROLES(TENSOR_EMBEDDING), 1, false, 0, &t->embedding);
    if (!status && t->config.tied) t->head = t->embedding;
    if (!status && !t->config.tied)
        status = load_weight(loader, ROLES(TENSOR_HEAD), 1, false, 0, &t->head);
    for (int32_t i = 0; !status && i < t->config.layers; i++) {
        if (progress) progress_update(&bar, i + 1);
        status = load_layer(loader, i);
    }
    if (progress) progress_end(&bar);
    return status;
}

static enum status allocate_state(struct transformer *t, const struct transformer_options *options,
                                  struct error *err)
{
    const struct model_config *c = &t->config;
    const struct backend_ops *ops = t->backend->ops;
    int64_t tokens = options->max_tokens, attended = (int64_t)c->heads * c->head_dim;
    t->max_tokens = options->max_tokens;
    t->max_logits = options->max_logits;
    t->x = ops->tensor_create(t->backend, tokens, c->hidden);
    t->q = ops->tensor_create(t->backend, tokens, attended);
    t->attended = ops->tensor_create(t->backend, tokens, attended);
    t->inner = ops->tensor_create(t->backend, tokens, c->intermediate);
    t->logits = ops->tensor_create(t->backend, options->max_logits, c->vocab);
    if (!t->x || !t->q || !t->attended || !t->inner || !t->logits)
        return fail(err, ST_NO_MEMORY, "no memory for the activations of %d tokens a step",
                    options->max_tokens);
    t->kv = ops->kv_create(t->backend, options->kv_type, c->layers, c->kv_heads, c->head_dim,
                           options->kv_blocks);
    if (!t->kv)
        return fail(
            err, ST_NO_MEMORY,
            "no memory for a KV cache of %d blocks of %d tokens; give a smaller --kv-memory",
            options->kv_blocks, BLOCK_SLOTS);
    return ST_OK;
}

enum status transformer_init(struct transformer *t, struct backend *backend,
                             const struct checkpoint *checkpoint,
                             const struct transformer_options *options, struct error *err)
{
    *t = (struct transformer){.backend = backend, .config = *checkpoint_config(checkpoint)};
    const struct model_config *c = &t->config;
    t->inv_freq = must_alloc((size_t)c->head_dim / 2 * sizeof *t->inv_freq);
    model_rope_frequencies(c, t->inv_freq);
    t->shape = (struct attention_shape){.heads = c->heads,
                                        .kv_heads = c->kv_heads,
                                        .head_dim = c->head_dim,
                                        .inv_freq = t->inv_freq,
                                        .rope_scale = model_rope_scale(c),
                                        .eps = c->rms_eps};
    t->layers = must_alloc((size_t)c->layers * sizeof *t->layers);
    t->weights = options->weights;
    if (options->as_stored && checkpoint_has_type(checkpoint, FILE_VSQ4Z))
        t->weights = WEIGHT_VSQ4Z;
    struct loader loader = {t, checkpoint, options, err};
    enum status status = load_weights(&loader, options->progress);
    if (!status) status = allocate_state(t, options, err);
    if (status) transformer_release(t);
    return status;
}

static void release_layer(struct transformer *t, struct transformer_layer *layer)
{
    const struct backend_ops *ops = t->backend->ops;
    struct weight *weights[] = {layer->qkv, layer->o, layer->gate_up, layer->down};
    struct tensor *tensors[] = {layer->attn_norm, layer->ffn_norm, layer->qkv_bias, layer->q_norm,
                                layer->k_norm};
    for (size_t i = 0; i < COUNT_OF(weights); i++)
        if (weights[i]) ops->weight_free(t->backend, weights[i]);
    for (size_t i = 0; i < COUNT_OF(tensors); i++)
        if (tensors[i]) ops->tensor_free(t->backend, tensors[i]);
}

void transformer_release(struct transformer *t)
{
    const struct backend_ops *ops = t->backend ? t->backend->ops : NULL;
    if (!ops) return;
    for (int32_t i = 0; t->layers && i < t->config.layers; i++)
        release_layer(t, &t->layers[i]);
    if (t->head && t->head != t->embedding) ops->weight_free(t->backend, t->head);
    if (t->embedding) ops->weight_free(t->backend, t->embedding);
    struct tensor *tensors[] = {t->final_norm, t->x, t->q, t->attended, t->inner, t->logits};
    for (size_t i = 0; i < COUNT_OF(tensors); i++)
        if (tensors[i]) ops->tensor_free(t->backend, tensors[i]);
    if (t->kv) ops->kv_free(t->backend, t->kv);
    free(t->layers);
    free(t->inv_freq);
    *t = (struct transformer){0};
}

size_t transformer_weight_bytes(const struct transformer *t)
{
    const struct backend_ops *ops = t->backend->ops;
    size_t bytes = ops->weight_bytes(t->embedding);
    if (t->head != t->embedding) bytes += ops->weight_bytes(t->head);
    for (int32_t i = 0; i < t->config.layers; i++) {
        const struct transformer_layer *layer = &t->layers[i];
        bytes += ops->weight_bytes(layer->qkv) + ops->weight_bytes(layer->o) +
                 ops->weight_bytes(layer->gate_up) + ops->weight_bytes(layer->down);
    }
    return bytes;
}

/* --- the forward pass
 * ------------------------------------------------------------------------------ */

void transformer_layers(struct transformer *t, const struct step_input *input)
{
    struct backend *b = t->backend;
    const struct backend_ops *ops = b->ops;
    float eps = t->config.rms_eps;
    invariant(input->rows <= t->max_tokens, "a step of %d tokens, made for %d", input->rows,
              t->max_tokens);
    ops->step_begin(b, input);
    ops->embed(b, t->embedding, t->x);
    for (int32_t i = 0; i < t->config.layers; i++) {
        const struct transformer_layer *l = &t->layers[i];
        ops->norm_qkv(b, &t->shape, t->x, l->attn_norm, eps, l->qkv, l->qkv_bias, l->q_norm,
                      l->k_norm, t->kv, i, t->q);
        ops->attention(b, &t->shape, t->q, t->kv, i, t->attended);
        ops->linear_add(b, l->o, t->attended, t->x);
        ops->norm_gate_up(b, t->x, l->ffn_norm, eps, l->gate_up, t->inner);
        ops->linear_add(b, l->down, t->inner, t->x);
    }
}

void transformer_head(struct transformer *t, const struct step_input *input)
{
    invariant(input->logit_count <= t->max_logits, "%d rows of logits at once, made for %d",
              input->logit_count, t->max_logits);
    if (input->logit_count == 0) return;
    t->backend->ops->norm_head(t->backend, t->x, t->final_norm, t->config.rms_eps, t->head,
                               t->logits);
}

void transformer_forward(struct transformer *t, const struct step_input *input)
{
    transformer_layers(t, input);
    transformer_head(t, input);
}
