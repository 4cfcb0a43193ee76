#include "model/synthetic.h"
#include "base/base.h"
#include "model/checkpoint_private.h"
#include "model/dequantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- shapes */

struct shape {
    const char *name;
    enum pretokenizer pretokenizer;
    struct model_config config;
};

static const struct shape shapes[] = {
    {"tiny",
     PRETOKENIZE_GPT2,
     {.architecture = "llama",
      .name = "synthetic-tiny",
      .vocab = 512,
      .hidden = 64,
      .intermediate = 192,
      .layers = 2,
      .heads = 4,
      .kv_heads = 2,
      .head_dim = 16,
      .max_context = 2048,
      .rms_eps = 1e-5f,
      .rope = {.theta = 10000}}},
    {"smollm2-135m",
     PRETOKENIZE_SMOLLM,
     {.architecture = "llama",
      .name = "synthetic-smollm2-135m",
      .vocab = 49152,
      .hidden = 576,
      .intermediate = 1536,
      .layers = 30,
      .heads = 9,
      .kv_heads = 3,
      .head_dim = 64,
      .max_context = 8192,
      .rms_eps = 1e-5f,
      .tied = true,
      .rope = {.theta = 100000}}},
    {"qwen3-0.6b",
     PRETOKENIZE_QWEN2,
     {.architecture = "qwen3",
      .name = "synthetic-qwen3-0.6b",
      .vocab = 151936,
      .hidden = 1024,
      .intermediate = 3072,
      .layers = 28,
      .heads = 16,
      .kv_heads = 8,
      .head_dim = 128,
      .max_context = 40960,
      .rms_eps = 1e-6f,
      .tied = true,
      .qk_norm = true,
      .rope = {.theta = 1e6}}},
    {"llama3-8b",
     PRETOKENIZE_LLAMA3,
     {.architecture = "llama",
      .name = "synthetic-llama3-8b",
      .vocab = 128256,
      .hidden = 4096,
      .intermediate = 14336,
      .layers = 32,
      .heads = 32,
      .kv_heads = 8,
      .head_dim = 128,
      .max_context = 8192,
      .rms_eps = 1e-5f,
      .rope = {.theta = 500000}}},
    {"qwen3-8b",
     PRETOKENIZE_QWEN2,
     {.architecture = "qwen3",
      .name = "synthetic-qwen3-8b",
      .vocab = 151936,
      .hidden = 4096,
      .intermediate = 12288,
      .layers = 36,
      .heads = 32,
      .kv_heads = 8,
      .head_dim = 128,
      .max_context = 40960,
      .rms_eps = 1e-6f,
      .qk_norm = true,
      .rope = {.theta = 1e6}}},
    {"qwen3-32b",
     PRETOKENIZE_QWEN2,
     {.architecture = "qwen3",
      .name = "synthetic-qwen3-32b",
      .vocab = 151936,
      .hidden = 5120,
      .intermediate = 25600,
      .layers = 64,
      .heads = 64,
      .kv_heads = 8,
      .head_dim = 128,
      .max_context = 40960,
      .rms_eps = 1e-6f,
      .qk_norm = true,
      .rope = {.theta = 1e6}}},
};

/* "NAME" or "NAME:SEED". */
static const struct shape *find_shape(const char *text, uint64_t *seed)
{
    size_t length = strcspn(text, ":");
    char *end = NULL;
    *seed = 1;
    if (text[length] == ':') {
        *seed = strtoull(text + length + 1, &end, 10);
        if (end == text + length + 1 || *end) return NULL;
    }
    for (size_t i = 0; i < COUNT_OF(shapes); i++)
        if (strlen(shapes[i].name) == length && !strncmp(shapes[i].name, text, length))
            return &shapes[i];
    return NULL;
}

/* --- weights */

/* Spread of a role's values: matrices N(0, gain^2 / inputs), vectors N(mean, spread^2). Attention
 * is sharp enough to prefer some tokens, the residual stream grows slowly over the layers, and the
 * logits have a standard deviation of about 2.7. */
static const struct {
    float gain, mean, spread;
} values[TENSOR_ROLES] = {
    [TENSOR_EMBEDDING] = {.gain = 2.7f}, [TENSOR_HEAD] = {.gain = 2.7f},
    [TENSOR_FINAL_NORM] = {0, 1, 0.2f},  [TENSOR_ATTN_NORM] = {0, 1, 0.2f},
    [TENSOR_FFN_NORM] = {0, 1, 0.2f},    [TENSOR_Q_NORM] = {0, 1.3f, 0.2f},
    [TENSOR_K_NORM] = {0, 1.3f, 0.2f},   [TENSOR_Q] = {.gain = 1.6f},
    [TENSOR_K] = {.gain = 1.6f},         [TENSOR_V] = {.gain = 1.5f},
    [TENSOR_O] = {.gain = 2.0f},         [TENSOR_GATE] = {.gain = 1.4f},
    [TENSOR_UP] = {.gain = 1.4f},        [TENSOR_DOWN] = {.gain = 2.4f},
};

static const char *const role_words[TENSOR_ROLES] = {
    [TENSOR_EMBEDDING] = "embedding",
    [TENSOR_HEAD] = "head",
    [TENSOR_FINAL_NORM] = "final_norm",
    [TENSOR_ATTN_NORM] = "attn_norm",
    [TENSOR_Q] = "q",
    [TENSOR_K] = "k",
    [TENSOR_V] = "v",
    [TENSOR_O] = "o",
    [TENSOR_Q_BIAS] = "q_bias",
    [TENSOR_K_BIAS] = "k_bias",
    [TENSOR_V_BIAS] = "v_bias",
    [TENSOR_Q_NORM] = "q_norm",
    [TENSOR_K_NORM] = "k_norm",
    [TENSOR_FFN_NORM] = "ffn_norm",
    [TENSOR_GATE] = "gate",
    [TENSOR_UP] = "up",
    [TENSOR_DOWN] = "down",
};

static float round_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) &
           0xffff0000; /* ties to even; no value is near overflow */
    memcpy(&value, &bits, sizeof value);
    return value;
}

void synthetic_row(const struct checkpoint_tensor *tensor, int64_t row, float *out)
{
    /* Four 16-bit uniforms from one hash: their sum has mean 2 * 65535 and this deviation. */
    const double deviation = 65536 * sqrt(4.0 / 12.0);
    float scale = (float)((double)tensor->gain / sqrt((double)tensor->cols) / deviation);
    uint64_t counter = (uint64_t)row * (uint64_t)tensor->cols;
    for (int64_t i = 0; i < tensor->cols; i++) {
        uint64_t bits = mix64(tensor->seed + (counter + (uint64_t)i + 1) * 0x9e3779b97f4a7c15u);
        int32_t sum = (int32_t)(bits & 0xffff) + (int32_t)(bits >> 16 & 0xffff) +
                      (int32_t)(bits >> 32 & 0xffff) + (int32_t)(bits >> 48) - 2 * 65535;
        out[i] = tensor->mean + scale * (float)sum;
    }
    if (tensor->type == FILE_BF16)
        for (int64_t i = 0; i < tensor->cols; i++)
            out[i] = round_to_bf16(out[i]);
}

static void add_tensor(struct checkpoint *checkpoint, enum tensor_role role, int32_t layer,
                       uint64_t seed)
{
    int64_t rows, cols;
    role_shape(&checkpoint->config, role, &rows, &cols);
    enum file_type type = rows == 1 ? FILE_F32 : FILE_BF16;
    float gain = rows == 1 ? values[role].spread * sqrtf((float)cols) : values[role].gain;
    *checkpoint_slot(checkpoint, role, layer) = (struct checkpoint_tensor){
        .name = role_words[role],
        .type = type,
        .rows = rows,
        .cols = cols,
        .bytes = (size_t)rows * file_type_bytes(type, cols),
        .seed = rng_at(seed, (uint64_t)layer * TENSOR_ROLES + role),
        .gain = gain,
        .mean = values[role].mean,
    };
}

/* --- tokenizer */

#define SPECIALS 3
#define BYTES    256
#define TEXT     32 /* bytes reserved for a token's text */

/* The printable character that stands for a byte in GPT-2's alphabet, as UTF-8; returns its length.
 */
static uint32_t byte_text(int byte, char *text)
{
    int code = byte;
    bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    if (!printable) /* the others follow 255 in order */
        code = 256 + (byte < 33 ? byte : byte < 161 ? byte - 127 + 33 : 33 + 34);
    if (code < 0x80) {
        text[0] = (char)code;
        return 1;
    }
    text[0] = (char)(0xc0 | code >> 6);
    text[1] = (char)(0x80 | (code & 0x3f));
    return 2;
}

/* A word of its own for every index: a space and the index in syllables, base 80 without a zero. */
static uint32_t word_text(uint32_t index, char *text)
{
    static const char consonants[] = "bdfghklmnprstvwz", vowels[] = "aeiou";
    uint32_t length = byte_text(' ', text);
    for (uint32_t rest = index + 1; rest; rest = (rest - 1) / 80) {
        uint32_t digit = (rest - 1) % 80;
        text[length++] = consonants[digit / 5];
        text[length++] = vowels[digit % 5];
    }
    return length;
}

void synthetic_tokenizer(int32_t count, enum pretokenizer pretokenizer, struct tokenizer_spec *spec)
{
    static const char *const specials[SPECIALS] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    char *texts = must_alloc((size_t)count * TEXT);
    *spec = (struct tokenizer_spec){
        .tokens = must_alloc((size_t)count * sizeof *spec->tokens),
        .token_count = count,
        .pretokenizer = pretokenizer,
        .bos = -1,
        .eos = 2,
        .chat_template =
            "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
            "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    };
    for (int32_t id = 0; id < count; id++) {
        struct tokenizer_token *token = &spec->tokens[id];
        char *text = texts + (size_t)id * TEXT;
        if (id < SPECIALS) {
            token->kind = TOKEN_SPECIAL;
            token->length = (uint32_t)strlen(strcpy(text, specials[id]));
        } else if (id < SPECIALS + BYTES) {
            token->length = byte_text(id - SPECIALS, text);
        } else {
            token->length = word_text((uint32_t)(id - SPECIALS - BYTES), text);
        }
        token->text = text;
    }
}

void synthetic_tokenizer_free(struct tokenizer_spec *spec)
{
    if (spec->tokens) free((char *)spec->tokens[0].text); /* all texts are one allocation */
    free(spec->tokens);
    *spec = (struct tokenizer_spec){0};
}

/* --- */

enum status checkpoint_open_synthetic(struct checkpoint *checkpoint, const char *shape,
                                      struct error *err)
{
    uint64_t seed;
    const struct shape *known = find_shape(shape, &seed);
    if (!known)
        return fail(err, ST_NOT_FOUND,
                    "synthetic:%.64s is not known; there are " SYNTHETIC_SHAPES
                    ", each also with a seed as in synthetic:tiny:7",
                    shape);
    struct model_config *config = &checkpoint->config;
    checkpoint->format = "synthetic";
    *config = known->config;
    config->bos = -1;
    model_config_add_eos(config, 2);
    checkpoint->tensors =
        must_alloc((size_t)config->layers * TENSOR_ROLES * sizeof *checkpoint->tensors);
    for (int32_t layer = 0; layer < config->layers; layer++)
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++)
            if (role_in_model(config, role) && (!layer || role_per_layer(role)))
                add_tensor(checkpoint, role, layer, seed);
    synthetic_tokenizer(config->vocab, known->pretokenizer, &checkpoint->tokenizer);
    checkpoint->tokenizer_release = synthetic_tokenizer_free;
    return ST_OK;
}
