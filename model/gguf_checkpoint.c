/* A GGUF file's tokenizer and tensors: what llama.cpp's converter writes for llama, qwen2 and
 * qwen3. The configuration is read by gguf_config.c. */
#include "model/checkpoint_private.h"
#include "base/base.h"
#include "model/gguf_config.h"
#include "model/pretokenizer_names.h"
#include "model/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENIZER "tokenizer.ggml."

/* --- tokenizer: texts are views of the mapping, the two arrays and the template are owned */

static void release_tokenizer(struct tokenizer_spec *spec)
{
    free(spec->tokens);
    free(spec->merges);
    free((char *)spec->chat_template);
    *spec = (struct tokenizer_spec){0};
}

static bool valid_utf8(struct gguf_string text)
{
    return utf8_valid_prefix(text.text, text.length) == text.length;
}

/* A file without the name is older than the names: llama.cpp takes its default then, as we do, and
 * warns, as we do. */
static enum status read_pretokenizer(const struct gguf_file *file, struct tokenizer_spec *spec,
                                     struct error *err)
{
    struct gguf_string model = {"(none)", 6}, pre = {NULL, 0};
    enum status status;
    if ((status = gguf_get_string(file, TOKENIZER "model", &model, err)) ||
        (status = gguf_get_string(file, TOKENIZER "pre", &pre, err)))
        return status;
    if (!pre.text) {
        log_warn("the file has no key " TOKENIZER "pre: taking 'default', which may split texts "
                 "otherwise than in training");
        pre = (struct gguf_string){"default", 7};
    }
    if (model.length != 4 || memcmp(model.text, "gpt2", 4) != 0)
        return fail(err, ST_UNSUPPORTED,
                    "key " TOKENIZER "model is %.*s; supported is gpt2 (byte-level BPE)",
                    model.length < 64 ? (int)model.length : 64, model.text);
    const struct pretokenizer_name *known = pretokenizer_by_name(pre.text, pre.length);
    if (!known)
        return fail(err, ST_UNSUPPORTED, "key " TOKENIZER "pre is %.*s; supported are %s",
                    pre.length < 64 ? (int)pre.length : 64, pre.text, pretokenizer_names_list());
    spec->pretokenizer = known->kind;
    spec->nfc = known->nfc;
    spec->ignore_merges = known->ignore_merges;
    spec->add_bos = known->add_bos;
    return ST_OK;
}

/* The file's token types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte (the
 * last belongs to SentencePiece, as does the second, which we keep out of answers). */
static enum status token_kind(int32_t type, int32_t id, enum token_kind *kind, struct error *err)
{
    switch (type) {
    case 1:
        *kind = TOKEN_NORMAL;
        return ST_OK;
    case 2:
    case 3:
        *kind = TOKEN_SPECIAL;
        return ST_OK;
    case 4:
        *kind = TOKEN_ADDED;
        return ST_OK;
    case 5:
        *kind = TOKEN_UNUSED;
        return ST_OK;
    default:
        return fail(err, ST_UNSUPPORTED,
                    "key " TOKENIZER "token_type: token %d has type %d; supported are 1 to 5", id,
                    type);
    }
}

static enum status read_tokens(const struct gguf_file *file, struct tokenizer_spec *spec,
                               struct error *err)
{
    const struct gguf_value *texts = NULL, *types = NULL;
    enum status status;
    if ((status = gguf_get_array(file, TOKENIZER "tokens", GGUF_STRING, &texts, err)) ||
        (status = gguf_get_array(file, TOKENIZER "token_type", GGUF_I32, &types, err)))
        return status;
    if (!texts || texts->count < 1 || texts->count > MODEL_MAX_VOCAB)
        return fail(err, ST_BAD_FILE, "key " TOKENIZER "tokens: %llu tokens; allowed is 1 to %d",
                    texts ? (unsigned long long)texts->count : 0, MODEL_MAX_VOCAB);
    if (types && types->count != texts->count)
        return fail(err, ST_BAD_FILE, "%llu tokens and %llu types of tokens",
                    (unsigned long long)texts->count, (unsigned long long)types->count);
    spec->token_count = (int32_t)texts->count;
    spec->tokens = must_alloc(texts->count * sizeof *spec->tokens);
    const uint8_t *at = texts->data;
    for (int32_t id = 0; id < spec->token_count; id++) {
        struct gguf_string text = gguf_next_string(&at);
        int32_t type = 1;
        if (types) memcpy(&type, types->data + (size_t)id * sizeof type, sizeof type);
        if ((status = token_kind(type, id, &spec->tokens[id].kind, err))) return status;
        if (text.length > MODEL_MAX_TOKEN_BYTES || !valid_utf8(text))
            return fail(err, ST_BAD_FILE,
                        "key " TOKENIZER
                        "tokens: token %d (%zu bytes) is no UTF-8 of at most %d bytes",
                        id, text.length, MODEL_MAX_TOKEN_BYTES);
        spec->tokens[id].text = text.text;
        spec->tokens[id].length = (uint32_t)text.length;
    }
    return ST_OK;
}

/* "left right": one space, and neither side is empty (a space inside a token is written U+0120). */
static enum status read_merges(const struct gguf_file *file, struct tokenizer_spec *spec,
                               struct error *err)
{
    const struct gguf_value *texts = NULL;
    enum status status = gguf_get_array(file, TOKENIZER "merges", GGUF_STRING, &texts, err);
    if (status) return status;
    if (!texts || texts->count > MODEL_MAX_VOCAB)
        return fail(err, ST_BAD_FILE, "key " TOKENIZER "merges: %llu merges; allowed is 1 to %d",
                    texts ? (unsigned long long)texts->count : 0, MODEL_MAX_VOCAB);
    spec->merge_count = (int32_t)texts->count;
    spec->merges = must_alloc((texts->count + 1) * sizeof *spec->merges);
    const uint8_t *at = texts->data;
    for (int32_t i = 0; i < spec->merge_count; i++) {
        struct gguf_string text = gguf_next_string(&at);
        const char *space = text.length ? memchr(text.text + 1, ' ', text.length - 1) : NULL;
        size_t left = space ? (size_t)(space - text.text) : 0;
        if (!space || left + 1 == text.length || text.length > 2 * MODEL_MAX_TOKEN_BYTES ||
            !valid_utf8(text))
            return fail(err, ST_BAD_FILE,
                        "key " TOKENIZER "merges: merge %d is no pair of UTF-8 texts and a space",
                        i);
        spec->merges[i] = (struct tokenizer_merge){text.text, space + 1, (uint32_t)left,
                                                   (uint32_t)(text.length - left - 1)};
    }
    return ST_OK;
}

/* Many files name one end token only, though the model ends its turns with another. As llama.cpp
 * does, control tokens of these texts end a text as well. */
static void add_ends_by_text(const struct tokenizer_spec *spec, struct model_config *config)
{
    static const char *const ends[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>",
                                       "<|end_of_text|>"};
    for (int32_t id = 0; id < spec->token_count; id++) {
        const struct tokenizer_token *token = &spec->tokens[id];
        for (size_t i = 0; token->kind == TOKEN_SPECIAL && i < COUNT_OF(ends); i++)
            if (token->length == strlen(ends[i]) && !memcmp(token->text, ends[i], token->length))
                model_config_add_eos(config, id);
    }
}

/* Ids of the tokens that begin and end a text; several may end one (end of text, of turn, of
 * message). */
static enum status read_special_ids(const struct gguf_file *file, struct model_config *config,
                                    struct tokenizer_spec *spec, struct error *err)
{
    static const char *const ends[] = {TOKENIZER "eos_token_id", TOKENIZER "eot_token_id",
                                       TOKENIZER "eom_token_id"};
    int64_t id = -1, last = spec->token_count - 1;
    enum status status = gguf_get_int(file, TOKENIZER "bos_token_id", 0, last, &id, err);
    config->bos = spec->bos = (int32_t)id;
    spec->eos = -1;
    for (size_t i = 0; !status && i < COUNT_OF(ends); i++) {
        id = -1;
        status = gguf_get_int(file, ends[i], 0, last, &id, err);
        if (i == 0) spec->eos = (int32_t)id;
        model_config_add_eos(config, (int32_t)id);
    }
    add_ends_by_text(spec, config);
    if (!status) status = gguf_get_bool(file, TOKENIZER "add_bos_token", &spec->add_bos, err);
    if (!status) status = gguf_get_bool(file, TOKENIZER "add_eos_token", &spec->add_last, err);
    spec->last = spec->eos;
    spec->add_last &= spec->eos >= 0;
    return status;
}

static enum status read_tokenizer(struct checkpoint *checkpoint, struct error *err)
{
    const struct gguf_file *file = &checkpoint->gguf;
    struct tokenizer_spec *spec = &checkpoint->tokenizer;
    struct gguf_string template = {NULL, 0};
    checkpoint->tokenizer_release = release_tokenizer;
    enum status status;
    if ((status = read_pretokenizer(file, spec, err)) || (status = read_tokens(file, spec, err)) ||
        (status = read_merges(file, spec, err)) ||
        (status = read_special_ids(file, &checkpoint->config, spec, err)) ||
        (status = gguf_get_string(file, "tokenizer.chat_template", &template, err)))
        return status;
    if (template.text) {
        char *copy = must_alloc(template.length + 1);
        memcpy(copy, template.text, template.length);
        spec->chat_template = copy;
    }
    return ST_OK;
}

/* --- tensors */

static const char *gguf_name(enum tensor_role role)
{
    static const char *const names[TENSOR_ROLES] = {
        [TENSOR_EMBEDDING] = "token_embd.weight",
        [TENSOR_HEAD] = "output.weight",
        [TENSOR_FINAL_NORM] = "output_norm.weight",
        [TENSOR_ATTN_NORM] = "blk.%d.attn_norm.weight",
        [TENSOR_Q] = "blk.%d.attn_q.weight",
        [TENSOR_K] = "blk.%d.attn_k.weight",
        [TENSOR_V] = "blk.%d.attn_v.weight",
        [TENSOR_O] = "blk.%d.attn_output.weight",
        [TENSOR_Q_BIAS] = "blk.%d.attn_q.bias",
        [TENSOR_K_BIAS] = "blk.%d.attn_k.bias",
        [TENSOR_V_BIAS] = "blk.%d.attn_v.bias",
        [TENSOR_Q_NORM] = "blk.%d.attn_q_norm.weight",
        [TENSOR_K_NORM] = "blk.%d.attn_k_norm.weight",
        [TENSOR_FFN_NORM] = "blk.%d.ffn_norm.weight",
        [TENSOR_GATE] = "blk.%d.ffn_gate.weight",
        [TENSOR_UP] = "blk.%d.ffn_up.weight",
        [TENSOR_DOWN] = "blk.%d.ffn_down.weight",
    };
    return names[role];
}

/* Llama 3's rope scaling comes as a tensor: a divisor for each frequency. */
static enum status read_rope_factors(struct gguf_file *file, struct model_config *config,
                                     struct error *err)
{
    struct file_tensor *tensor = tensor_directory_find(&file->tensors, "rope_freqs.weight");
    char found[96];
    if (!tensor) return ST_OK;
    if (config->rope.scaling != ROPE_NONE || tensor->type != FILE_F32 || tensor->dim_count != 1 ||
        tensor->dims[0] != config->head_dim / 2 || config->head_dim > MODEL_MAX_HEAD_DIM)
        return fail(err, ST_UNSUPPORTED,
                    "tensor %s is %s %s; supported is F32 [%d] without another rope scaling",
                    tensor->name, file_type_name(tensor->type),
                    shape_text(tensor->dims, tensor->dim_count, found), config->head_dim / 2);
    memcpy(config->rope.factors, tensor->data, tensor->bytes);
    config->rope.scaling = ROPE_FACTORS;
    tensor->used = true;
    return ST_OK;
}

static bool nothing_ignorable(const char *name)
{
    (void)name;
    return false;
}

/* Only llama's converter reorders rows; the qwen families rotate halves in GGUF as well. */
static void mark_permuted_rows(struct checkpoint *checkpoint)
{
    const struct model_config *config = &checkpoint->config;
    if (strcmp(config->architecture, "llama") != 0) return;
    for (int32_t layer = 0; layer < config->layers; layer++) {
        checkpoint_slot(checkpoint, TENSOR_Q, layer)->permute_heads = config->heads;
        checkpoint_slot(checkpoint, TENSOR_K, layer)->permute_heads = config->kv_heads;
    }
}

static enum status read_model(struct checkpoint *checkpoint, const char *path, struct error *err)
{
    struct gguf_file *file = &checkpoint->gguf;
    struct model_config *config = &checkpoint->config;
    enum status status;
    if ((status = gguf_config_read(file, path, config, err)) ||
        (status = read_tokenizer(checkpoint, err)))
        return status;
    const struct file_tensor *embedding =
        tensor_directory_find(&file->tensors, gguf_name(TENSOR_EMBEDDING));
    if (embedding && embedding->dim_count == 2 && embedding->dims[0] <= MODEL_MAX_VOCAB)
        config->vocab = (int32_t)embedding->dims[0];
    else
        config->vocab = checkpoint->tokenizer.token_count;
    config->tied = !tensor_directory_find(&file->tensors, gguf_name(TENSOR_HEAD));
    if ((status = read_rope_factors(file, config, err)) ||
        (status = model_config_check(config, err)) ||
        (status = checkpoint_bind(checkpoint, &file->tensors, gguf_name, nothing_ignorable, err)))
        return status;
    if (checkpoint->tokenizer.token_count > config->vocab)
        return fail(err, ST_BAD_FILE, "%d tokens and an embedding of %d rows",
                    checkpoint->tokenizer.token_count, config->vocab);
    mark_permuted_rows(checkpoint);
    return ST_OK;
}

enum status checkpoint_open_gguf(struct checkpoint *checkpoint, const char *path, struct error *err)
{
    checkpoint->format = "GGUF";
    enum status status = gguf_open(path, &checkpoint->gguf, err);
    if (status) return status;
    if (read_model(checkpoint, path, err)) return fail_prefix(err, "%s", path);
    return ST_OK;
}
