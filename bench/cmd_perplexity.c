/* espalier perplexity: how well a model predicts a text, scored as llama-perplexity does.
 *
 * The text is cut into windows of C tokens that do not overlap; each starts on an empty context,
 * with BOS in place of its first token where the model asks for one. Logits at positions C/2 .. C-2
 * predict tokens C/2+1 .. C-1, so every scored token has at least half a window before it.
 */
#include "bench/commands.h"
#include "base/progress.h"
#include "model/load_options.h"
#include "model/sampling.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tokens of a window computed in one step: bounds the memory for logits (128 x vocabulary). The
 * results do not depend on it (kernels.h, "One numeric definition"). */
#define STEP_TOKENS 128

struct perplexity_options {
    struct load_words load;
    const char *text;
    int64_t window, windows;
    bool json;
};

struct score {
    double sum, sum_squares; /* of negative log probabilities */
    int64_t tokens;
    int32_t windows;
};

static double score_perplexity(const struct score *s)
{
    return exp(s->sum / (double)s->tokens);
}

/* Standard error of the perplexity, from the spread of the tokens' log probabilities. */
static double score_stderr(const struct score *s)
{
    if (s->tokens < 2) return 0;
    double n = (double)s->tokens, mean = s->sum / n;
    double variance = s->sum_squares / n - mean * mean;
    return variance > 0 ? sqrt(variance / (n - 1)) * score_perplexity(s) : 0;
}

static char *read_file(const char *path, size_t *length, struct error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        fail(err, ST_IO, "--text %s: %m", path);
        return NULL;
    }
    struct strbuf text = {0};
    char chunk[65536];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0)
        strbuf_append(&text, chunk, got);
    bool broken = ferror(file) != 0;
    fclose(file);
    *length = text.length;
    if (broken) {
        strbuf_free(&text);
        fail(err, ST_IO, "--text %s: reading failed", path);
        return NULL;
    }
    return strbuf_take(&text);
}

/* The step's arrays for one window on blocks 0, 1, 2, ... */
struct window_plan {
    int32_t positions[STEP_TOKENS], logit_rows[STEP_TOKENS];
    int64_t slots[STEP_TOKENS];
    int32_t *blocks;
};

static void score_step(struct model *model, struct window_plan *plan, const int32_t *tokens,
                       int32_t begin, int32_t end, int32_t window, float *logits,
                       struct score *score)
{
    struct attention_span span = {plan->blocks, 0, end};
    struct attention_sequence sequence = {
        .rows = end - begin, .context = begin + 1, .spans = &span, .span_count = 1};
    struct step_input input = {.rows = end - begin,
                               .tokens = tokens + begin,
                               .positions = plan->positions,
                               .slots = plan->slots,
                               .sequences = &sequence,
                               .sequence_count = 1,
                               .logit_rows = plan->logit_rows};
    for (int32_t i = 0; i < input.rows; i++) {
        plan->positions[i] = begin + i;
        plan->slots[i] = begin + i;
        if (begin + i >= window / 2 && begin + i < window - 1)
            plan->logit_rows[input.logit_count++] = i;
    }
    model_forward(model, &input);
    int32_t vocab = model_config(model)->vocab;
    for (int32_t i = 0; i < input.logit_count; i++) {
        model_logits(model, i, logits);
        int32_t next = tokens[begin + plan->logit_rows[i] + 1];
        double nll = logits_logsumexp(logits, vocab) - (double)logits[next];
        score->sum += nll;
        score->sum_squares += nll * nll;
        score->tokens++;
    }
}

static void score_windows(struct model *model, const struct perplexity_options *o,
                          struct token_list *tokens, int32_t windows, struct score *score)
{
    int32_t window = (int32_t)o->window;
    struct window_plan *plan = must_alloc(sizeof *plan);
    int32_t block_count = (window + BLOCK_SLOTS - 1) / BLOCK_SLOTS;
    float *logits = must_alloc((size_t)model_config(model)->vocab * sizeof *logits);
    struct progress bar;
    plan->blocks = must_alloc((size_t)block_count * sizeof *plan->blocks);
    for (int32_t i = 0; i < block_count; i++)
        plan->blocks[i] = i;
    progress_begin(&bar, "windows", windows);
    for (int32_t w = 0; w < windows; w++) {
        int32_t *ids = tokens->ids + (int64_t)w * window;
        if (tokenizer_adds_bos(model_tokenizer(model)))
            ids[0] = tokenizer_bos(model_tokenizer(model));
        for (int32_t at = 0; at < window; at += STEP_TOKENS)
            score_step(model, plan, ids, at, min_i32(at + STEP_TOKENS, window), window, logits,
                       score);
        score->windows++;
        progress_update(&bar, w + 1);
    }
    progress_end(&bar);
    free(logits);
    free(plan->blocks);
    free(plan);
}

static void print_score(const struct perplexity_options *o, const struct model *model,
                        const struct model_options *options, const struct score *score)
{
    double bits = 8.0 * (double)model_weight_bytes(model) / (double)model_weight_count(model);
    if (!o->json) {
        printf("perplexity %.4f +- %.4f over %lld tokens in %d windows of %lld\n",
               score_perplexity(score), score_stderr(score), (long long)score->tokens,
               score->windows, (long long)o->window);
        printf("weights    %s, %.3f bits a weight, %zu bytes; KV %s; %s\n",
               weight_format_name(options->weights), bits, model_weight_bytes(model),
               dtype_name(options->kv_type), model_backend_name(model));
        return;
    }
    json_t *doc = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:I, s:i, s:I, s:f, s:I}", "command", "perplexity",
        "model", model_config(model)->name, "weights", weight_format_name(options->weights),
        "kv_type", dtype_name(options->kv_type), "backend", model_backend_name(model), "perplexity",
        score_perplexity(score), "stderr", score_stderr(score), "tokens", (json_int_t)score->tokens,
        "windows", score->windows, "context", (json_int_t)o->window, "bits_per_weight", bits,
        "weight_bytes", (json_int_t)model_weight_bytes(model));
    invariant(doc, "the result's JSON could not be made");
    json_dumpf(doc, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(doc);
}

static enum status perplexity(const struct perplexity_options *o, struct error *err)
{
    struct model_options options = model_options_default();
    struct model *model = NULL;
    struct token_list tokens = {0};
    struct score score = {0};
    size_t length = 0;
    enum status status = load_options_resolve(&o->load, &options, err);
    if (status) return status;
    char *text = read_file(o->text, &length, err);
    if (!text) return err->status;
    options.context = (int32_t)o->window;
    options.max_rows = 1;
    options.max_tokens = options.max_logits = STEP_TOKENS;
    options.progress = true;
    status = model_load(&options, &model, err);
    if (!status && tokenizer_adds_bos(model_tokenizer(model)))
        token_list_append(&tokens, tokenizer_bos(model_tokenizer(model)));
    if (!status)
        status = tokenizer_encode(model_tokenizer(model), text, length, true, &tokens, err);
    int64_t windows = (int64_t)tokens.count / o->window;
    if (!status && windows == 0)
        status = fail(err, ST_INVALID, "--text %s has %zu tokens, one window needs %lld", o->text,
                      tokens.count, (long long)o->window);
    if (!status) {
        if (o->windows && o->windows < windows) windows = o->windows;
        score_windows(model, o, &tokens, (int32_t)windows, &score);
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
    for (size_t i = 0; i < loads; i++) /* --context is the window here */
        if (strcmp(table[i].name, "context") != 0) table[count++] = table[i];
    table[count++] = (struct option_spec){"text", OPT_STRING, &o.text, "FILE", "the text", 0, 0};
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
