/* espalier inspect: what is in a model file, without loading its weights. */
#include "model/commands.h"
#include "base/base.h"
#include "base/options.h"
#include "model/chat.h"
#include "model/checkpoint.h"
#include "model/load_options.h"
#include "model/memory_plan.h"
#include "model/pretokenizer_names.h"
#include "model/rope.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct type_total {
    int64_t tensors, weights, bytes;
};

/* A way to load: --weights, and KV as it comes by default with it. */
struct way {
    enum weight_format weights;
    enum dtype kv_type;
    struct memory_plan plan;
};
#define WAYS 3

struct summary {
    const struct model_config *config;
    const struct tokenizer_spec *tokenizer;
    const json_t *quantization; /* of a quantized directory */
    const char *format, *chat_template;
    int32_t files;
    struct way ways[WAYS];
    int64_t available;
    const char *chat_known_by;                          /* "fingerprint", "markers" or "" */
    struct type_total types[FILE_TYPES], all, matrices; /* matrices: all but norms and biases */
    int32_t kinds[TOKEN_UNUSED + 1];                    /* tokens by kind */
};

static const char *const scaling_names[] = {
    [ROPE_NONE] = "none", [ROPE_LINEAR] = "linear",   [ROPE_LLAMA3] = "llama3",
    [ROPE_YARN] = "yarn", [ROPE_FACTORS] = "factors",
};

static void add_to(struct type_total *total, const struct checkpoint_tensor *tensor)
{
    total->tensors++;
    total->weights += tensor->rows * tensor->cols;
    total->bytes += (int64_t)tensor->bytes;
}

static double bits_of(const struct type_total *total)
{
    return 8.0 * (double)total->bytes / (double)total->weights;
}

/* What --weights auto does comes first. */
static void plan_ways(const struct checkpoint *checkpoint, struct summary *s)
{
    bool coded = checkpoint_has_type(checkpoint, FILE_VSQ4Z);
    const struct way ways[WAYS] = {
        {.weights = coded ? WEIGHT_VSQ4Z : WEIGHT_W8, .kv_type = DT_BF16},
        {.weights = WEIGHT_NATIVE, .kv_type = DT_F32},
        {.weights = coded ? WEIGHT_W8 : WEIGHT_VSQ4Z, .kv_type = DT_BF16}};
    for (size_t i = 0; i < WAYS; i++) {
        struct model_options options = model_options_default();
        struct way *way = &s->ways[i];
        *way = ways[i];
        options.weights = way->weights;
        options.kv_type = way->kv_type;
        options.as_stored = way->weights == WEIGHT_VSQ4Z;
        if (memory_plan_make(&options, checkpoint, &way->plan, NULL))
            way->plan = (struct memory_plan){.total = INT64_MAX}; /* no KV block fits */
    }
}

static struct summary summarize(const struct checkpoint *checkpoint)
{
    struct summary s = {
        .config = checkpoint_config(checkpoint),
        .tokenizer = checkpoint_tokenizer(checkpoint),
        .format = checkpoint_format(checkpoint),
        .files = checkpoint_file_count(checkpoint),
        .quantization = checkpoint_quantization(checkpoint),
        .available = memory_available(),
    };
    const char *source = s.tokenizer->chat_template;
    bool exact;
    enum chat_template family = chat_template_detect(source, &exact);
    s.chat_template = source ? chat_template_name(family) : "absent";
    s.chat_known_by = !source || family == CHAT_NONE ? "" : exact ? "fingerprint" : "markers";
    for (int32_t layer = 0; layer < s.config->layers; layer++)
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++) {
            bool once = role <= TENSOR_FINAL_NORM;
            const struct checkpoint_tensor *tensor = checkpoint_tensor(checkpoint, role, layer);
            if (!tensor || (once && layer)) continue;
            add_to(&s.types[tensor->type], tensor);
            add_to(&s.all, tensor);
            if (tensor_role_is_matrix(role)) add_to(&s.matrices, tensor);
        }
    for (int32_t id = 0; id < s.tokenizer->token_count; id++)
        s.kinds[s.tokenizer->tokens[id].kind]++;
    plan_ways(checkpoint, &s);
    return s;
}

/* --- for people */

static void print_row(const char *label, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void print_row(const char *label, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%-16s ", label);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static void print_rope(const struct model_config *c)
{
    double scale = (double)model_rope_scale(c);
    bool factor = c->rope.scaling != ROPE_NONE && c->rope.scaling != ROPE_FACTORS;
    char more[96] = "";
    if (factor) snprintf(more, sizeof more, " by %g", c->rope.factor);
    print_row("rope", "theta %g, scaling %s%s", c->rope.theta, scaling_names[c->rope.scaling],
              more);
    if (scale != 1) print_row("", "cos and sin times %g", scale);
}

static bool fits(const struct summary *s, const struct memory_plan *plan)
{
    return s->available < 0 || plan->total <= s->available;
}

static void print_shape(const struct model_config *c)
{
    print_row("layers", "%d", c->layers);
    print_row("hidden", "%d, intermediate %d", c->hidden, c->intermediate);
    print_row("attention", "%d heads, %d key-value heads, dimension %d%s%s", c->heads, c->kv_heads,
              c->head_dim, c->qkv_bias ? ", biases" : "", c->qk_norm ? ", QK norm" : "");
    print_row("vocabulary", "%d rows, %s head", c->vocab, c->tied ? "tied" : "untied");
    print_row("context", "%d positions%s", c->max_context,
              c->window == c->max_context ? ", the sliding window" : "");
    print_rope(c);
}

static void print_memory(const struct summary *s)
{
    const double gib = 1 << 30;
    for (size_t i = 0; i < WAYS; i++) {
        const struct memory_plan *plan = &s->ways[i].plan;
        print_row(i ? "" : "memory", "%-6s %.2f GiB (packed weights %.2f, KV %.2f for %d tokens)%s",
                  weight_format_name(s->ways[i].weights), (double)plan->total / gib,
                  (double)plan->weights / gib, (double)plan->kv / gib,
                  plan->kv_blocks * BLOCK_SLOTS, fits(s, plan) ? "" : ": more than there is");
    }
    if (s->available >= 0) print_row("", "%.2f GiB available", (double)s->available / gib);
}

static void print_weights(const struct summary *s)
{
    print_row("weights", "%lld in %lld tensors, %.1f MB, %.3f bits each", (long long)s->all.weights,
              (long long)s->all.tensors, (double)s->all.bytes / 1e6, bits_of(&s->all));
    print_row("  matrices", "%lld in %lld tensors, %.1f MB, %.3f bits each",
              (long long)s->matrices.weights, (long long)s->matrices.tensors,
              (double)s->matrices.bytes / 1e6, bits_of(&s->matrices));
    for (enum file_type type = 0; type < FILE_TYPES; type++) {
        const struct type_total *total = &s->types[type];
        if (!total->tensors) continue;
        char label[32];
        snprintf(label, sizeof label, "  %s", file_type_name(type));
        print_row(label, "%lld in %lld tensors, %.1f MB", (long long)total->weights,
                  (long long)total->tensors, (double)total->bytes / 1e6);
    }
}

/* Error and bits of the matrices of a record, by weights. */
static double mean_of(const json_t *records, const char *key)
{
    const char *name;
    json_t *record;
    double sum = 0, weights = 0;
    json_object_foreach((json_t *)records, name, record)
    {
        const json_t *shape = json_object_get(record, "shape");
        double count = json_number_value(json_array_get(shape, 0)) *
                       json_number_value(json_array_get(shape, 1));
        sum += count * json_number_value(json_object_get(record, key));
        weights += count;
    }
    return weights > 0 ? sum / weights : 0;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

/* How `espalier quantize` made it, in the words of its options. */
static void print_quantization(const json_t *quantization)
{
    const json_t *options = json_object_get(quantization, "options");
    const json_t *source = json_object_get(quantization, "source"), *kept, *file;
    const json_t *text = json_object_get(options, "calibrate");
    size_t i;
    print_row("quantized", "--format %s --method %s --clip %s", text_of(options, "format"),
              text_of(options, "method"), text_of(options, "clip"));
    json_array_foreach(json_object_get(options, "keep"), i, kept)
        print_row("", "--keep %s", json_string_value(kept) ? json_string_value(kept) : "?");
    if (json_is_object(text))
        print_row("", "--calibrate %s, %lld tokens", text_of(text, "path"),
                  (long long)json_integer_value(json_object_get(text, "tokens")));
    print_row("", "from %s (%s)", text_of(source, "path"), text_of(source, "format"));
    json_array_foreach(json_object_get(source, "files"), i, file) print_row(
        "", "  %s, %lld bytes, xxh3_128 %s", text_of(file, "name"),
        (long long)json_integer_value(json_object_get(file, "bytes")), text_of(file, "xxh3_128"));
    print_row("", "by %s, version %lld of the format; every checksum is right",
              text_of(quantization, "made_by"),
              (long long)json_integer_value(json_object_get(quantization, "version")));
    bool moved = strcmp(text_of(options, "method"), "rtn") != 0;
    print_row("", "relative error of rounding %.5f%s, %.3f %% clipped",
              mean_of(json_object_get(quantization, "tensors"), "error"),
              moved ? " (of the weights that the method made, not the source's)" : "",
              100 * mean_of(json_object_get(quantization, "tensors"), "clipped"));
}

static void print_tokenizer(const struct summary *s)
{
    const struct tokenizer_spec *t = s->tokenizer;
    print_row("tokenizer", "byte-level BPE, pre-tokenizer %s, %d tokens, %d merges",
              pretokenizer_name(t->pretokenizer), t->token_count, t->merge_count);
    print_row("special tokens", "%d special, %d added, BOS %d (%s), EOS %d",
              s->kinds[TOKEN_SPECIAL], s->kinds[TOKEN_ADDED], t->bos,
              t->add_bos ? "added" : "not added", t->eos);
    print_row("chat template", "%s%s%s", s->chat_template, *s->chat_known_by ? ", by its " : "",
              s->chat_known_by);
}

/* --- for programs */

static json_t *matrices_json(const struct type_total *matrices)
{
    return json_pack("{s:I, s:I, s:I, s:f}", "tensors", (json_int_t)matrices->tensors, "weights",
                     (json_int_t)matrices->weights, "bytes", (json_int_t)matrices->bytes, "bits",
                     bits_of(matrices));
}

static json_t *types_json(const struct summary *s)
{
    json_t *list = json_array();
    for (enum file_type type = 0; type < FILE_TYPES; type++) {
        const struct type_total *total = &s->types[type];
        if (!total->tensors) continue;
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I}", "type", file_type_name(type),
                                              "tensors", (json_int_t)total->tensors, "weights",
                                              (json_int_t)total->weights, "bytes",
                                              (json_int_t)total->bytes));
    }
    return list;
}

/* The shortest decimal that is this f32: 1e-05, not 9.9999997e-06. */
static double decimal_of(float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    return strtod(text, NULL);
}

static json_t *shapes_json(const struct model_config *c)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:b, s:b, s:f, s:f, s:s}",
                     "layers", c->layers, "hidden", c->hidden, "intermediate", c->intermediate,
                     "heads", c->heads, "kv_heads", c->kv_heads, "head_dim", c->head_dim, "vocab",
                     c->vocab, "context", c->max_context, "sliding_window", c->window, "tied",
                     c->tied, "qkv_bias", c->qkv_bias, "qk_norm", c->qk_norm, "rms_eps",
                     decimal_of(c->rms_eps), "rope_theta", c->rope.theta, "rope_scaling",
                     scaling_names[c->rope.scaling]);
}

static json_t *rope_json(const struct model_config *c)
{
    json_t *json = json_pack("{s:s, s:f, s:f}", "scaling", scaling_names[c->rope.scaling], "theta",
                             c->rope.theta, "attention_factor", decimal_of(model_rope_scale(c)));
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"factor", c->rope.factor},
        {"original_context", c->rope.original_context},
        {"low_freq_factor", c->rope.low_freq_factor},
        {"high_freq_factor", c->rope.high_freq_factor},
        {"beta_fast", c->rope.beta_fast},
        {"beta_slow", c->rope.beta_slow},
    };
    for (size_t i = 0; c->rope.scaling != ROPE_NONE && i < COUNT_OF(numbers); i++)
        if (numbers[i].value != 0)
            json_object_set_new(json, numbers[i].name, json_real(numbers[i].value));
    return json;
}

static json_t *memory_json(const struct summary *s)
{
    json_t *plans = json_array();
    for (size_t i = 0; i < WAYS; i++) {
        const struct way *way = &s->ways[i];
        const struct memory_plan *plan = &way->plan;
        json_array_append_new(
            plans, json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:b}", "weights",
                             weight_format_name(way->weights), "kv_type", dtype_name(way->kv_type),
                             "context", plan->context, "kv_bytes_per_token",
                             (json_int_t)kv_token_bytes(s->config, way->kv_type), "weight_bytes",
                             (json_int_t)plan->weights, "kv_bytes", (json_int_t)plan->kv,
                             "activation_bytes", (json_int_t)plan->activations, "total_bytes",
                             (json_int_t)plan->total, "fits", fits(s, plan)));
    }
    return json_pack("{s:o, s:o}", "available",
                     s->available < 0 ? json_null() : json_integer(s->available), "plans", plans);
}

static json_t *tokenizer_json(const struct summary *s)
{
    const struct tokenizer_spec *t = s->tokenizer;
    json_t *ends = json_array();
    for (int32_t i = 0; i < s->config->eos_count; i++)
        json_array_append_new(ends, json_integer(s->config->eos[i]));
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:b, s:o}", "model", "gpt2",
                     "pretokenizer", pretokenizer_name(t->pretokenizer), "tokens", t->token_count,
                     "merges", t->merge_count, "special", s->kinds[TOKEN_SPECIAL], "added",
                     s->kinds[TOKEN_ADDED], "bos", t->bos, "add_bos", t->add_bos, "eos", ends);
}

/* quantization.json but for its checksums; null for other models. */
static json_t *quantization_json(const struct summary *s)
{
    if (!s->quantization) return json_null();
    json_t *json = json_copy((json_t *)s->quantization);
    json_object_del(json, "checksums");
    json_object_del(json, "checksum");
    return json;
}

static int print_json(const struct summary *s, const char *path)
{
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:s, s:s, s:o, s:o, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:s, s:s, s:o}",
        "model", path, "format", s->format, "files", s->files, "name", s->config->name,
        "architecture", s->config->architecture, "shapes", shapes_json(s->config), "rope",
        rope_json(s->config), "weights", (json_int_t)s->all.weights, "bytes",
        (json_int_t)s->all.bytes, "bits_per_weight", bits_of(&s->all), "matrices",
        matrices_json(&s->matrices), "tensors", types_json(s), "quantization", quantization_json(s),
        "tokenizer", tokenizer_json(s), "chat_template", s->chat_template, "chat_template_known_by",
        s->chat_known_by, "memory", memory_json(s));
    if (!json) { /* a name that is no UTF-8 */
        fprintf(stderr, "espalier inspect: a name in %s is no UTF-8 text\n", path);
        return 1;
    }
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
    return 0;
}

int command_inspect(int argc, char **argv)
{
    const char *path = NULL;
    bool json = false;
    struct command_help help = {
        "espalier inspect",
        "espalier inspect --model models/SmolLM2-135M-Instruct.Q4_1.gguf",
        "What is in a model file: shape, weights by type, tokenizer, chat template.",
    };
    struct option_spec table[] = {
        {"model", OPT_STRING, &path, "PATH", "GGUF file, directory or synthetic:SHAPE", 0, 0},
        {"json", OPT_FLAG, &json, NULL, "one JSON document on standard output", 0, 0},
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed < 0 ? 2 : 0;
    if (!path) {
        fputs("espalier inspect: --model is missing\n", stderr);
        return 2;
    }
    struct checkpoint *checkpoint;
    struct error err = {0};
    if (checkpoint_open(path, &checkpoint, &err)) {
        fprintf(stderr, "espalier inspect: %s\n", err.text);
        return 1;
    }
    struct summary summary = summarize(checkpoint);
    int status = 0;
    if (json) {
        status = print_json(&summary, path);
    } else {
        print_row("model", "%s (%s, %s)", summary.config->name, summary.format,
                  summary.config->architecture);
        if (summary.files > 1) print_row("files", "%d", summary.files);
        print_shape(summary.config);
        print_weights(&summary);
        if (summary.quantization) print_quantization(summary.quantization);
        print_tokenizer(&summary);
        print_memory(&summary);
    }
    checkpoint_close(checkpoint);
    return status;
}
