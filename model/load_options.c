#include "model/load_options.h"
#include "model/synthetic.h"

#include <string.h>

struct load_words load_words_default(void)
{
    return (struct load_words){.weights = "auto", .kv_type = "auto", .backend = "auto"};
}

size_t load_options_table(struct load_words *w, struct option_spec *table)
{
    const struct option_spec rows[LOAD_OPTION_COUNT] = {
        {"model", OPT_STRING, &w->model, "PATH",
         "GGUF file, directory of Hugging Face or espalier quantize, or synthetic:SHAPE "
         "(" SYNTHETIC_SHAPES ")",
         0, 0},
        {"weights", OPT_STRING, &w->weights, "FORMAT",
         "auto, native (exact, f32 arithmetic), w8 (int8) or vsq4z (4 bits); auto keeps what a\n"
         "directory of `espalier quantize` has, else w8",
         0, 0},
        {"kv-type", OPT_STRING, &w->kv_type, "TYPE",
         "auto, f32 or bf16; auto is f32 with native weights, else bf16", 0, 0},
        {"backend", OPT_STRING, &w->backend, "NAME", "auto or cpu", 0, 0},
        {"threads", OPT_INT, &w->threads, "N", "threads of the engine (default: one per core)", 0,
         1024},
        {"context", OPT_INT, &w->context, "N",
         "longest context in tokens (default: the model's, or what --kv-memory holds)", 1, 1 << 24},
        {"kv-memory", OPT_SIZE, &w->kv_memory, "SIZE",
         "memory of the KV cache (default: four contexts, at most 512MiB)", 1, (int64_t)1 << 50},
        {"no-hugepages", OPT_FLAG, &w->no_hugepages, NULL, "do not ask for 2 MB pages", 0, 0},
    };
    memcpy(table, rows, sizeof rows);
    return LOAD_OPTION_COUNT;
}

static enum status unknown_word(struct error *err, const char *option, const char *found,
                                const char *allowed)
{
    return fail(err, ST_USAGE, "--%s %s: allowed are %s", option, found, allowed);
}

enum status load_options_resolve(const struct load_words *w, struct model_options *options,
                                 struct error *err)
{
    if (!w->model)
        return fail(err, ST_USAGE,
                    "--model is missing: a GGUF file, a Hugging Face directory, or synthetic:tiny");
    if (!strcmp(w->backend, "cuda"))
        return fail(err, ST_USAGE, "--backend cuda: this build has no CUDA kernels yet; use cpu");
    if (strcmp(w->backend, "auto") && strcmp(w->backend, "cpu"))
        return unknown_word(err, "backend", w->backend, "auto, cpu");
    options->as_stored = !strcmp(w->weights, "auto") || !strcmp(w->weights, "vsq4z");
    if (!strcmp(w->weights, "native"))
        options->weights = WEIGHT_NATIVE;
    else if (!strcmp(w->weights, "w8") || !strcmp(w->weights, "auto"))
        options->weights = WEIGHT_W8;
    else if (!strcmp(w->weights, "vsq4z"))
        options->weights = WEIGHT_VSQ4Z;
    else if (!strncmp(w->weights, "vsq4:", 5))
        return fail(err, ST_USAGE,
                    "--weights %s is the VS-Quant paper's own format, which is simulated, by "
                    "`espalier perplexity` alone: allowed here are auto, native, w8, vsq4z",
                    w->weights);
    else
        return unknown_word(err, "weights", w->weights, "auto, native, w8, vsq4z");
    if (!strcmp(w->kv_type, "auto"))
        options->kv_type = options->weights == WEIGHT_NATIVE ? DT_F32 : DT_BF16;
    else if (!strcmp(w->kv_type, "f32"))
        options->kv_type = DT_F32;
    else if (!strcmp(w->kv_type, "bf16"))
        options->kv_type = DT_BF16;
    else
        return unknown_word(err, "kv-type", w->kv_type, "auto, f32, bf16");
    options->path = w->model;
    options->threads = (int)w->threads;
    options->context = (int32_t)w->context;
    options->kv_bytes = w->kv_memory;
    options->hugepages = !w->no_hugepages;
    return ST_OK;
}

enum status chat_template_option(const char *name, enum chat_template *out, struct error *err)
{
    *out = name ? chat_template_by_name(name) : CHAT_NONE;
    if (!name || *out != CHAT_NONE) return ST_OK;
    struct strbuf names = {0};
    chat_template_names(&names);
    unknown_word(err, "chat-template", name, strbuf_cstr(&names));
    strbuf_free(&names);
    return ST_USAGE;
}

const char *weight_format_name(enum weight_format format)
{
    return format == WEIGHT_NATIVE ? "native" : format == WEIGHT_W8 ? "w8" : "vsq4z";
}
