/* espalier generate: one prompt through the same scheduler that serves, printed as it comes. */
#include "server/commands.h"
#include "quant/checkpoint/load_cache.h"
#include "server/generate.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static enum status encode_prompt(struct generation *g, const char *text, struct error *err)
{
    const struct tokenizer *tokenizer = model_tokenizer(g->model);
    const struct generate_options *o = g->options;
    struct token_list *ids = &g->prompt;
    if (!g->chat) {
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
    struct chat chat = {.family = model_chat_template(g->model),
                        .messages = messages,
                        .count = count,
                        .add_generation_prompt = true};
    return chat_render_tokens(&chat, tokenizer, ids, err);
}

json_t *generation_ids(const struct token_list *tokens)
{
    json_t *list = json_array();
    for (size_t i = 0; i < tokens->count; i++)
        json_array_append_new(list, json_integer(tokens->ids[i]));
    return list;
}

json_t *generation_json(const struct generation *g, const struct request_stats *s,
                        const struct strbuf *text, const struct token_list *tokens,
                        enum finish_reason reason)
{
    int64_t decode_us = s->finish_us - s->first_token_us;
    double tpot_ms = s->output_tokens > 1 ? (double)decode_us / 1e3 / (s->output_tokens - 1) : 0;
    json_t *doc =
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:{s:i, s:i}, s:{s:f, s:f, s:f}}", "command",
                  "generate", "model", model_config(g->model)->name, "text",
                  json_stringn(strbuf_cstr(text), text->length), "prompt_token_ids",
                  generation_ids(&g->prompt), "token_ids", generation_ids(tokens), "finish_reason",
                  reason == FINISH_STOP ? "stop" : "length", "usage", "prompt_tokens",
                  (int)g->prompt.count, "completion_tokens", s->output_tokens, "timings", "ttft_ms",
                  s->first_token_us ? (double)(s->first_token_us - s->arrival_us) / 1e3 : 0,
                  "tpot_ms", tpot_ms, "e2e_ms", (double)(s->finish_us - s->arrival_us) / 1e3);
    invariant(doc, "the answer's JSON could not be made");
    return doc;
}

void generation_print_json(json_t *doc)
{
    json_dumpf(doc, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(doc);
}

void generation_summary(const struct generation *g, const struct request_stats *s)
{
    double seconds = (double)(s->finish_us - s->first_token_us) / 1e6;
    double rate = seconds > 0 ? (s->output_tokens - 1) / seconds : 0;
    putchar('\n');
    fflush(stdout);
    if (!s->first_token_us)
        log_info("%zu prompt tokens, no tokens were asked for", g->prompt.count);
    else
        log_info("%zu prompt tokens, first token after %.0f ms, then %d tokens at %.1f tokens/s",
                 g->prompt.count, (double)(s->first_token_us - s->arrival_us) / 1e3,
                 s->output_tokens, rate);
}

struct request_params generation_params(const struct generation *g)
{
    const struct generate_options *o = g->options;
    const struct model_config *config = model_config(g->model);
    return (struct request_params){
        .prompt = g->prompt.ids,
        .prompt_count = (int32_t)g->prompt.count,
        .ignore_eos = o->ignore_eos,
        .stop_ids = config->eos,
        .stop_count = config->eos_count,
        .eos_count = config->eos_count,
        .sample = {.temperature = (float)o->temperature,
                   .top_p = (float)o->top_p,
                   .min_p = (float)o->min_p,
                   .top_k = (int32_t)o->top_k,
                   .seed = (uint64_t)o->seed},
    };
}

static bool has_stages(const struct generate_options *o)
{
    return o->stages || o->outline;
}

static enum status load(struct generation *g, const struct stage_file *file, struct error *err)
{
    const struct generate_options *o = g->options;
    struct model_options options = model_options_default();
    enum status status = load_options_resolve(&o->load, &options, err);
    if (!status) status = chat_template_option(o->chat_template, &options.chat, err);
    if (status) return status;
    options.max_rows = has_stages(o) ? stage_file_width(file) : 1;
    options.max_tokens = 512 + options.max_rows;
    options.progress = true;
    options.chats = o->chat;
    return load_cache_model(&options, &g->model, err);
}

static enum status answer(struct generation *g, const char *text, const struct stage_file *file,
                          int *interrupted, struct error *err)
{
    const struct generate_options *o = g->options;
    /* Models that were taught to answer write a list only when they are asked. */
    g->chat = o->chat || (o->outline && model_chat_template(g->model) != CHAT_NONE);
    struct strbuf asked = {0};
    strbuf_text(&asked, text);
    if (o->outline && !g->chat) strbuf_text(&asked, "\n\n");
    enum status status = encode_prompt(g, strbuf_cstr(&asked), err);
    strbuf_free(&asked);
    if (status) return status;
    if (!has_stages(o)) return generate_plain(g, err);
    status = stage_file_check_ids(file, model_config(g->model)->vocab, err);
    return status ? status : generate_stages(g, file, interrupted, err);
}

static enum status generate(const struct generate_options *o, int *interrupted, struct error *err)
{
    struct generation g = {.options = o};
    struct stage_file file = {0};
    char *text = NULL;
    enum status status = has_stages(o) ? stage_file_read(o, &file, err) : ST_OK;
    if (!status) {
        text = strcmp(o->prompt, "-") ? must_strdup(o->prompt) : read_all(stdin, err);
        status = text ? load(&g, &file, err) : err->status;
    }
    if (!status) status = answer(&g, text, &file, interrupted, err);
    free(text);
    free(g.prompt.ids);
    stage_file_release(&file);
    model_free(g.model);
    return status;
}

/* true: said what is wrong. */
static bool misused(const struct generate_options *o)
{
    if (!o->prompt)
        log_error("--prompt is missing: a text, or - for standard input");
    else if (o->system && !o->chat)
        log_error("--system is a message of a chat: give --chat too");
    else if (o->top_p == 0)
        log_error("--top-p: found 0, allowed is above 0, to 1");
    else if (o->stages && o->outline)
        log_error("--outline is a set of stages of its own: give --stages or --outline, not both");
    else
        return false;
    return true;
}

int command_generate(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier generate",
        "espalier generate --model models/SmolLM2-135M-Instruct.Q4_1.gguf --chat "
        "--prompt \"Name three trees.\" --max-tokens 40",
        "Answers one prompt; tokens go to standard output as they come. With --outline or --stages "
        "the answer branches:\n"
        "  espalier generate --outline --model models/SmolLM2-135M-Instruct.Q4_1.gguf "
        "--prompt \"Give five tips for a garden.\""};
    struct generate_options o = {.load = load_words_default(), .top_p = 1};
    struct option_spec table[14 + LOAD_OPTION_COUNT] = {
        {"prompt", OPT_STRING, &o.prompt, "TEXT|-", "the prompt, or - for standard input", 0, 0},
        {"chat", OPT_FLAG, &o.chat, NULL, "wrap the prompt in the model's chat template", 0, 0},
        {"system", OPT_STRING, &o.system, "TEXT", "system message, with --chat", 0, 0},
        CHAT_TEMPLATE_OPTION(&o.chat_template),
        {"stages", OPT_STRING, &o.stages, "FILE",
         "answer in the stages of a JSON file, the branches side by side on a terminal:\n"
         "a list as the API's \"stages\", or {\"stages\": ...} or {\"branching\": ...}, such as\n"
         "[{\"type\": \"parallel\", \"max_tokens\": 40, \"branches\":\n"
         "  [{\"prompt\": \"\\nFor:\"}, {\"prompt\": \"\\nAgainst:\"}]}]  (docs/branches.md)",
         0, 0},
        {"outline", OPT_FLAG, &o.outline, NULL,
         "first a list, then its items (8 at most) at the same time, then a summary;\n"
         "asked as --chat where the model has a chat template",
         0, 0},
        {"max-tokens", OPT_INT, &o.max_tokens, "N",
         "stop after N tokens (default: the context); with --stages in each sequence\n"
         "that has no max_tokens (default 16, none with --chat), with --outline in\n"
         "each item's (default 64)",
         1, 1 << 24},
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
    size_t count = 14;
    count += load_options_table(&o.load, table + count);
    int parsed = options_parse(&help, table, count, argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    if (misused(&o)) return 2;
    struct error err = {0};
    int interrupted = 0;
    enum status status = generate(&o, &interrupted, &err);
    if (status) log_error("%s", err.text);
    if (interrupted) { /* as whoever waits for us expects it to end */
        signal(interrupted, SIG_DFL);
        raise(interrupted);
    }
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
