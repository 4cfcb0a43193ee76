/* A Hugging Face directory: config.json, safetensors, tokenizer.json; and quantization.json where
 * `espalier quantize` wrote it. */
#include "model/checkpoint_private.h"
#include "base/base.h"
#include "model/hf_config.h"
#include "model/tokenizer_json.h"

#include <stdio.h>
#include <string.h>

const char *tensor_role_hf_name(enum tensor_role role)
{
    static const char *const names[TENSOR_ROLES] = {
        [TENSOR_EMBEDDING] = "model.embed_tokens.weight",
        [TENSOR_HEAD] = "lm_head.weight",
        [TENSOR_FINAL_NORM] = "model.norm.weight",
        [TENSOR_ATTN_NORM] = "model.layers.%d.input_layernorm.weight",
        [TENSOR_Q] = "model.layers.%d.self_attn.q_proj.weight",
        [TENSOR_K] = "model.layers.%d.self_attn.k_proj.weight",
        [TENSOR_V] = "model.layers.%d.self_attn.v_proj.weight",
        [TENSOR_O] = "model.layers.%d.self_attn.o_proj.weight",
        [TENSOR_Q_BIAS] = "model.layers.%d.self_attn.q_proj.bias",
        [TENSOR_K_BIAS] = "model.layers.%d.self_attn.k_proj.bias",
        [TENSOR_V_BIAS] = "model.layers.%d.self_attn.v_proj.bias",
        [TENSOR_Q_NORM] = "model.layers.%d.self_attn.q_norm.weight",
        [TENSOR_K_NORM] = "model.layers.%d.self_attn.k_norm.weight",
        [TENSOR_FFN_NORM] = "model.layers.%d.post_attention_layernorm.weight",
        [TENSOR_GATE] = "model.layers.%d.mlp.gate_proj.weight",
        [TENSOR_UP] = "model.layers.%d.mlp.up_proj.weight",
        [TENSOR_DOWN] = "model.layers.%d.mlp.down_proj.weight",
    };
    return names[role];
}

/* A tied model may list its head once more, and old files list the rotary frequencies. */
static bool hf_ignorable(const char *name)
{
    static const char rotary[] = ".rotary_emb.inv_freq";
    size_t length = strlen(name), tail = sizeof rotary - 1;
    return !strcmp(name, "lm_head.weight") ||
           (length > tail && !strcmp(name + length - tail, rotary));
}

/* The directory's own name: "models/tiny/" is "tiny". */
static void name_of_directory(const char *dir, struct model_config *config)
{
    size_t end = strlen(dir);
    while (end > 1 && dir[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && dir[start - 1] != '/')
        start--;
    snprintf(config->name, sizeof config->name, "%.*s", (int)(end - start), dir + start);
}

static enum status open_weights(struct checkpoint *checkpoint, const char *dir, struct error *err)
{
    enum status status = safetensors_set_open(dir, &checkpoint->safetensors, err);
    if (status) return status;
    if (checkpoint_bind(checkpoint, &checkpoint->safetensors.tensors, tensor_role_hf_name,
                        hf_ignorable, err))
        return fail_prefix(err, "%s%s", dir,
                           checkpoint->quantized.json ? "/model.safetensors" : "");
    return quantized_directory_verify(&checkpoint->quantized, dir, checkpoint, err);
}

static enum status open_tokenizer(struct checkpoint *checkpoint, const char *dir, struct error *err)
{
    struct model_config *config = &checkpoint->config;
    struct tokenizer_spec *spec = &checkpoint->tokenizer;
    enum status status = tokenizer_spec_from_json(dir, spec, err);
    if (status) return status;
    checkpoint->tokenizer_release = tokenizer_spec_free;
    if (spec->token_count > config->vocab)
        return fail(err, ST_BAD_FILE, "%s: tokenizer.json has %d tokens, the embedding %d rows",
                    dir, spec->token_count, config->vocab);
    if (config->bos < 0) config->bos = spec->bos;
    model_config_add_eos(config, spec->eos); /* chat models may name their turn's end only there */
    return ST_OK;
}

enum status checkpoint_open_hf(struct checkpoint *checkpoint, const char *dir, struct error *err)
{
    enum status status;
    checkpoint->format = "safetensors";
    name_of_directory(dir, &checkpoint->config);
    if ((status = quantized_directory_open(dir, &checkpoint->quantized, err)) ||
        (status = hf_config_read(dir, &checkpoint->config, err)) ||
        (status = open_weights(checkpoint, dir, err)))
        return status;
    return open_tokenizer(checkpoint, dir, err);
}
