/* espalier perplexity: how well a model predicts a text (model/score_text.h). */
#include "bench/commands.h"
#include "model/load_options.h"
#include "model/score_text.h"
#include "model/text_input.h"
#include "quant/checkpoint/load_cache.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct perplexity_options {
    struct load_words load;
    struct vsq_format simulated; /* --weights vsq4:V,M; else V is 0 */
    const char *text;
    int64_t window, windows;
    bool json;
};

/* --weights vsq4:V,M is nothing that is kept or served: its layers' matrices are rounded to that
 * format and multiplied as f32. */
static enum status resolve(struct perplexity_options *o, struct model_options *options,
                           struct error *err)
{
    struct load_words words = o->load;
    if (!strncmp(words.weights, "vsq4:", 5)) {
        struct error why = {0};
        if (vsq_parse(words.weights, &o->simulated, &why))
            return fail(err, ST_USAGE, "--weights %s", why.text);
        words.weights = "native";
        options->simulated = &o->simulated;
    }
    return load_options_resolve(&words, options, err);
}

/* The matrices as a file holds them: all of them, or, simulated, the layers' in the format they
 * only pass through. */
struct footprint {
    const char *name;
    double bits;
    int64_t bytes;
};

static struct footprint footprint_of(const struct perplexity_options *o, const struct model *model)
{
    if (!o->simulated.vector) {
        int64_t bytes = (int64_t)model_matrix_bytes(model);
        double bits = 8.0 * (double)bytes / (double)model_weight_count(model);
        return (struct footprint){weight_format_name(model_weights(model)), bits, bytes};
    }
    struct model_weight_sizes sizes = model_weight_sizes(model);
    size_t weights = (sizes.qkv + sizes.output + sizes.gate_up + sizes.down) / sizeof(float);
    double bits = vsq_bits(&o->simulated);
    return (struct footprint){o->load.weights, bits, (int64_t)((double)weights * bits / 8)};
}

static void print_score(const struct perplexity_options *o, const struct model *model,
                        const struct model_options *options, const struct text_score *score)
{
    struct footprint footprint = footprint_of(o, model);
    bool simulated = o->simulated.vector;
    if (!o->json) {
        printf("perplexity %.4f +- %.4f over %lld tokens in %d windows of %lld\n",
               text_perplexity(score), text_perplexity_stderr(score), (long long)score->tokens,
               score->windows, (long long)o->window);
        printf("weights    %s%s, %.3f bits a weight, %.1f MB of matrices%s "
               "(%.1f MB packed in memory); KV %s; %s\n",
               simulated ? "simulated " : "", footprint.name, footprint.bits,
               (double)footprint.bytes / 1e6,
               simulated ? " in the layers, embedding and head native, products in f32" : "",
               (double)model_weight_bytes(model) / 1e6, dtype_name(options->kv_type),
               model_backend_name(model));
        return;
    }
    json_t *doc = json_pack(
        "{s:s, s:s, s:s, s:b, s:s, s:s, s:f, s:f, s:I, s:i, s:I, s:f, s:I, s:I}", "command",
        "perplexity", "model", model_config(model)->name, "weights", footprint.name, "simulated",
        simulated, "kv_type", dtype_name(options->kv_type), "backend", model_backend_name(model),
        "perplexity", text_perplexity(score), "stderr", text_perplexity_stderr(score), "tokens",
        (json_int_t)score->tokens, "windows", score->windows, "context", (json_int_t)o->window,
        "bits_per_weight", footprint.bits, "matrix_bytes", (json_int_t)footprint.bytes,
        "weight_bytes", (json_int_t)model_weight_bytes(model));
    invariant(doc, "the result's JSON could not be made");
    json_dumpf(doc, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(doc);
}

static enum status perplexity(struct perplexity_options *o, struct error *err)
{
    struct model_options options = model_options_default();
    struct model *model = NULL;
    struct token_list tokens = {0};
    struct text_score score = {0};
    size_t length = 0;
    enum status status = resolve(o, &options, err);
    if (status) return status;
    char *text;
    if ((status = text_input_read(o->text, SIZE_MAX, &text, &length, err)))
        return fail_prefix(err, "--text");
    options.context = (int32_t)o->window;
    options.max_rows = 1;
    options.max_tokens = options.max_logits = SCORE_STEP_TOKENS;
    options.progress = true;
    status = load_cache_model(&options, &model, err);
    if (!status && tokenizer_adds_bos(model_tokenizer(model)))
        token_list_append(&tokens, tokenizer_bos(model_tokenizer(model)));
    if (!status)
        status = tokenizer_encode(model_tokenizer(model), text, length, true, &tokens, err);
    int64_t windows = (int64_t)tokens.count / o->window;
    if (!status && windows == 0)
        status = fail(err, ST_INVALID, "--text %s has %zu tokens, one window needs %lld",
                      text_input_label(o->text), tokens.count, (long long)o->window);
    if (!status) {
        if (o->windows && o->windows < windows) windows = o->windows;
        score_text_windows(model, tokens.ids, (int32_t)o->window, (int32_t)windows, true, &score);
        print_score(o, model, &options, &score);
    }
    free(text);
    free(tokens.ids);
    model_free(model);
    return status;
}

int command_perplexity(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier perplexity",
        "espalier perplexity --model models/SmolLM2-135M-Instruct.Q4_1.gguf --weights native "
        "--text wikitext2_valid.txt --windows 24",
        "Scores a text with the windows and the scoring of llama-perplexity: lower is better."};
    struct perplexity_options o = {.load = load_words_default(), .window = 512};
    struct option_spec table[8 + LOAD_OPTION_COUNT];
    size_t count = 0, loads = load_options_table(&o.load, table);
    for (size_t i = 0; i < loads; i++) { /* --context is the window here */
        if (!strcmp(table[i].name, "context")) continue;
        if (!strcmp(table[i].name, "weights"))
            table[i].help =
                "auto, native (exact, f32 arithmetic), w8 (int8) or vsq4z (4 bits); auto keeps\n"
                "what a directory of `espalier quantize` has, else w8; vsq4:V,M[,CLIP]\n"
                "simulates the VS-Quant paper's format: scales of M bits for V weights";
        table[count++] = table[i];
    }
    table[count++] = (struct option_spec){
        "text", OPT_STRING, &o.text, "FILE", "the text; - is standard input", 0, 0};
    table[count++] = (struct option_spec){
        "context", OPT_INT, &o.window, "C", "tokens of a window (default 512)", 4, 1 << 24};
    table[count++] = (struct option_spec){
        "windows", OPT_INT, &o.windows, "N", "score the first N windows (default: all)",
        1,         1 << 30};
    table[count++] =
        (struct option_spec){"json", OPT_FLAG, &o.json, NULL, "print one JSON document", 0, 0};
    int parsed = options_parse(&help, table, count, argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    if (!o.text) {
        log_error("--text is missing: a file to score");
        return 2;
    }
    struct error err = {0};
    enum status status = perplexity(&o, &err);
    if (status) log_error("%s", err.text);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
