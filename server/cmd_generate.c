/* espalier generate: one prompt through the same scheduler that serves, printed as it comes. */
#include "server/commands.h"
#include "model/load_options.h"
#include "scheduler/scheduler.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct generate_options {
    struct load_words load;
    const char *prompt, *system, *chat_template;
    bool chat, json, ignore_eos;
    int64_t max_tokens, seed, top_k;
    double temperature, top_p, min_p;
};

/* What the request's events write to. */
struct output {
    const struct tokenizer *tokenizer;
    struct detokenizer detokenizer;
    struct strbuf piece, text;
    struct token_list tokens;
    struct request_stats stats;
    enum finish_reason reason;
    bool quiet, done;
};

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct output *out = context;
    int32_t token = sampled->token;
    (void)index;
    token_list_append(&out->tokens, token);
    if (ends) return TOKEN_KEEP; /* the EOS itself is not part of the text */
    strbuf_clear(&out->piece);
    detokenizer_push(&out->detokenizer, out->tokenizer, token, false, &out->piece);
    strbuf_append(&out->text, strbuf_cstr(&out->piece), out->piece.length);
    if (!out->quiet) {
        fwrite(strbuf_cstr(&out->piece), 1, out->piece.length, stdout);
        fflush(stdout);
    }
    return TOKEN_KEEP;
}

static void on_finish(void *context, int32_t index, struct sequence_ending *ending)
{
    struct output *out = context;
    (void)index;
    out->reason = ending->reason;
    strbuf_clear(&out->piece);
    detokenizer_finish(&out->detokenizer, &out->piece);
    strbuf_append(&out->text, strbuf_cstr(&out->piece), out->piece.length);
    if (!out->quiet) fwrite(strbuf_cstr(&out->piece), 1, out->piece.length, stdout);
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct output *out = context;
    out->stats = *stats;
    out->done = true;
}

static char *read_all(FILE *in, struct error *err)
{
    struct strbuf text = {0};
    char chunk[4096];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, in)) > 0)
        strbuf_append(&text, chunk, got);
    if (ferror(in)) {
        strbuf_free(&text);
        fail(err, ST_IO, "cannot read the prompt from standard input");
        return NULL;
    }
    return strbuf_take(&text);
}

static enum status encode_prompt(const struct generate_options *o, const struct model *model,
                                 const char *text, struct token_list *ids, struct error *err)
{
    const struct tokenizer *tokenizer = model_tokenizer(model);
    if (!o->chat) {
        enum status status =
            tokenizer_encode_text(tokenizer, text, strlen(text), true, true, ids, err);
        if (!status && ids->count == 0)
            return fail(err, ST_INVALID, "--prompt is empty and this model starts with no token");
        return status;
    }
    struct chat_message messages[2];
    size_t count = 0;
    if (o->system)
        messages[count++] = (struct chat_message){.role = "system",
                                                  .role_length = 6,
                                                  .content = o->system,
                                                  .content_length = strlen(o->system)};
    messages[count++] = (struct chat_message){
        .role = "user", .role_length = 4, .content = text, .content_length = strlen(text)};
    struct chat chat = {.family = model_chat_template(model),
                        .messages = messages,
                        .count = count,
                        .add_generation_prompt = true};
    return chat_render_tokens(&chat, tokenizer, ids, err);
}

static json_t *tokens_json(const int32_t *ids, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static void print_json(const struct output *out, const struct token_list *prompt,
                       const struct model *model)
{
    const struct request_stats *s = &out->stats;
    int64_t decode_us = s->finish_us - s->first_token_us;
    double tpot_ms = s->output_tokens > 1 ? (double)decode_us / 1e3 / (s->output_tokens - 1) : 0;
    json_t *doc =
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:{s:i, s:i}, s:{s:f, s:f, s:f}}", "command",
                  "generate", "model", model_config(model)->name, "text",
                  json_stringn(strbuf_cstr(&out->text), out->text.length), "prompt_token_ids",
                  tokens_json(prompt->ids, prompt->count), "token_ids",
                  tokens_json(out->tokens.ids, out->tokens.count), "finish_reason",
                  out->reason == FINISH_STOP ? "stop" : "length", "usage", "prompt_tokens",
                  (int)prompt->count, "completion_tokens", (int)out->tokens.count, "timings",
                  "ttft_ms", (double)(s->first_token_us - s->arrival_us) / 1e3, "tpot_ms", tpot_ms,
                  "e2e_ms", (double)(s->finish_us - s->arrival_us) / 1e3);
    invariant(doc, "the answer's JSON could not be made");
    json_dumpf(doc, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(doc);
}

static void print_summary(const struct output *out, const struct token_list *prompt)
{
    const struct request_stats *s = &out->stats;
    double seconds = (double)(s->finish_us - s->first_token_us) / 1e6;
    double rate = seconds > 0 ? (s->output_tokens - 1) / seconds : 0;
    putchar('\n');
    fflush(stdout);
    log_info("%zu prompt tokens, first token after %.0f ms, then %zu tokens at %.1f tokens/s",
             prompt->count, (double)(s->first_token_us - s->arrival_us) / 1e3, out->tokens.count,
             rate);
}

static enum status run_request(const struct generate_options *o, struct model *model,
                               const struct token_list *prompt, struct output *out,
                               struct error *err)
{
    const struct model_config *config = model_config(model);
    int32_t room = model_context(model) - (int32_t)prompt->count;
    struct request_params params = {
        .prompt = prompt->ids,
        .prompt_count = (int32_t)prompt->count,
        .n = 1,
        .max_tokens = o->max_tokens ? (int32_t)o->max_tokens : max_i32(room, 1),
        .ignore_eos = o->ignore_eos,
        .stop_ids = config->eos,
        .stop_count = config->eos_count,
        .eos_count = config->eos_count,
        .sample = {.temperature = (float)o->temperature,
                   .top_p = (float)o->top_p,
                   .min_p = (float)o->min_p,
                   .top_k = (int32_t)o->top_k,
                   .seed = (uint64_t)o->seed},
        .events = {out, NULL, on_token, on_finish, NULL, on_done},
    };
    struct scheduler_options options = scheduler_options_default();
    struct scheduler *scheduler;
    uint64_t id;
    enum status status =
        scheduler_create(&options, model_executor(model), clock_monotonic(), &scheduler, err);
    if (status) return status;
    status = scheduler_add(scheduler, &params, &id, err);
    while (!status && !out->done)
        scheduler_tick(scheduler);
    scheduler_free(scheduler);
    if (!status && out->reason == FINISH_ERROR)
        return fail(err, ST_INTERNAL, "the engine failed while generating");
    return status;
}

static enum status generate(const struct generate_options *o, struct error *err)
{
    struct model_options options = model_options_default();
    struct model *model = NULL;
    struct token_list prompt = {0};
    struct output out = {.quiet = o->json};
    enum status status = load_options_resolve(&o->load, &options, err);
    if (!status) status = chat_template_option(o->chat_template, &options.chat, err);
    if (status) return status;
    char *text = strcmp(o->prompt, "-") ? must_strdup(o->prompt) : read_all(stdin, err);
    if (!text) return err->status;
    options.max_rows = 1;
    options.max_tokens = 512 + 1;
    options.progress = true;
    options.chats = o->chat;
    status = model_load(&options, &model, err);
    if (!status) status = encode_prompt(o, model, text, &prompt, err);
    if (!status) {
        out.tokenizer = model_tokenizer(model);
        status = run_request(o, model, &prompt, &out, err);
    }
    if (!status && o->json) print_json(&out, &prompt, model);
    if (!status && !o->json) print_summary(&out, &prompt);
    free(text);
    free(prompt.ids);
    free(out.tokens.ids);
    strbuf_free(&out.piece);
    strbuf_free(&out.text);
    model_free(model);
    return status;
}

int command_generate(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier generate",
        "espalier generate --model models/SmolLM2-135M-Instruct.Q4_1.gguf --chat "
        "--prompt \"Name three trees.\" --max-tokens 40",
        "Answers one prompt; tokens go to standard output as they come."};
    struct generate_options o = {.load = load_words_default(), .top_p = 1};
    struct option_spec table[16 + LOAD_OPTION_COUNT] = {
        {"prompt", OPT_STRING, &o.prompt, "TEXT|-", "the prompt, or - for standard input", 0, 0},
        {"chat", OPT_FLAG, &o.chat, NULL, "wrap the prompt in the model's chat template", 0, 0},
        {"system", OPT_STRING, &o.system, "TEXT", "system message, with --chat", 0, 0},
        CHAT_TEMPLATE_OPTION(&o.chat_template),
        {"max-tokens", OPT_INT, &o.max_tokens, "N", "stop after N tokens (default: the context)", 1,
         1 << 24},
        {"ignore-eos", OPT_FLAG, &o.ignore_eos, NULL, "go on after the model's end token", 0, 0},
        {"temperature", OPT_REAL, &o.temperature, "T", "0 is greedy (default 0)", 0, 100},
        {"top-k", OPT_INT, &o.top_k, "K", "keep the K most likely (default 0: off; -1 too)", -1,
         1 << 24},
        {"top-p", OPT_REAL, &o.top_p, "P", "keep the most likely up to P (default 1: off)", 0, 1},
        {"min-p", OPT_REAL, &o.min_p, "P", "drop tokens under P times the best (default 0: off)", 0,
         1},
        {"seed", OPT_INT, &o.seed, "N", "seed of the sampling (default 0)", INT64_MIN, INT64_MAX},
        {"json", OPT_FLAG, &o.json, NULL, "print one JSON document", 0, 0},
    };
    size_t count = 12;
    count += load_options_table(&o.load, table + count);
    int parsed = options_parse(&help, table, count, argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    if (!o.prompt) {
        log_error("--prompt is missing: a text, or - for standard input");
        return 2;
    }
    if (o.system && !o.chat) {
        log_error("--system is a message of a chat: give --chat too");
        return 2;
    }
    if (o.top_p == 0) {
        log_error("--top-p: found 0, allowed is above 0, to 1");
        return 2;
    }
    struct error err = {0};
    enum status status = generate(&o, &err);
    if (status) log_error("%s", err.text);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
