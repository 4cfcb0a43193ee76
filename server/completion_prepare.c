/* From a parsed request to what the engine takes: tokens, a checked length for each prompt, memory
 * for every token that can come, and the renderer. */
#include "base/alloc.h"
#include "base/checked.h"
#include "server/completion_private.h"

#include "base/base.h"
#include "server/request_content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

bool request_tokens(const struct api_request *request, size_t index,
                    const struct served_model *model, struct token_list *out,
                    struct api_error *error)
{
    struct error err = {0};
    out->may_fail = true;
    enum status status = ST_OK;
    if (request->message_count) {
        if (model->chat == CHAT_NONE)
            return refuse(error, REFUSAL_UNSUPPORTED, "messages",
                          "model %s has no chat template that this server knows: start it with "
                          "--chat-template NAME, or use /v1/completions",
                          model->name);
        struct chat chat = request_chat(request, model->chat);
        status = chat_render_tokens(&chat, model->tokenizer, out, &err);
    } else if (request->prompts[index].text) {
        const struct api_prompt *prompt = &request->prompts[index];
        status = tokenizer_encode_text(model->tokenizer, prompt->text, prompt->length, true,
                                       request->add_special_tokens, out, &err);
    } else {
        const struct api_prompt *prompt = &request->prompts[index];
        for (size_t i = 0; i < prompt->id_count; i++)
            token_list_append(out, prompt->ids[i]);
    }
    if (status == ST_NO_MEMORY || out->failed) return refuse_memory(error);
    if (status)
        return refuse(error, REFUSAL_INVALID_VALUE, request->message_count ? "messages" : "prompt",
                      "%s", err.text);
    return true;
}

/* Decides part->max_tokens. A number the client named is a wish to keep; a default is cut to the
 * room. */
static bool fit_context(struct completion *c, int32_t index, struct api_error *error)
{
    const struct served_model *model = &c->exchange->server->model;
    size_t count = c->prompts[index].count;
    int32_t wanted = c->request.max_tokens;
    bool named = wanted != MAX_TOKENS_DEFAULT;
    if (count == 0)
        return refuse(error, REFUSAL_INVALID_VALUE, completion_prompt_field(c), "%s is empty",
                      completion_prompt_field(c));
    int32_t context = min_i32(model->context, engine_max_length(model->engine, c->request.n));
    int64_t room = (int64_t)context - (int64_t)count;
    if (room < (named ? wanted : 1))
        return refuse(
            error, REFUSAL_CONTEXT_LENGTH, completion_prompt_field(c),
            "This model's maximum context length is %d tokens. However, you requested %zu "
            "tokens (%zu in the %s, %d in the completion). Please reduce the length of "
            "the %s or the completion.",
            context, count + (size_t)(named ? wanted : 1), count, completion_prompt_field(c),
            named ? wanted : 1, completion_prompt_field(c));
    if (!named) {
        wanted = (int32_t)room;
        if (c->request.endpoint == API_COMPLETIONS && wanted > MAX_TOKENS_COMPLETIONS)
            wanted = MAX_TOKENS_COMPLETIONS;
    }
    if (c->request.min_tokens > wanted)
        return refuse(error, REFUSAL_INVALID_VALUE, "min_tokens",
                      "min_tokens must be at most max_tokens (%d), not %d", wanted,
                      c->request.min_tokens);
    c->parts[index].max_tokens = wanted;
    return true;
}

static bool fit(struct completion *c, int32_t index, struct api_error *error)
{
    size_t count = c->prompts[index].count;
    /* Each stage has its own max_tokens. */
    if (!c->request.stage_count && !fit_context(c, index, error)) return false;
    if (count == 0)
        return refuse(error, REFUSAL_INVALID_VALUE, completion_prompt_field(c), "%s is empty",
                      completion_prompt_field(c));
    return !c->stages || completion_fit_stages(c, &c->parts[index], count, error);
}

/* Its part of what all answers may grow to: a client that reads slowly keeps it until it has read
 * everything. */
static bool reserve_answer(struct completion *c, uint64_t records, struct api_error *error)
{
    struct server *server = c->exchange->server;
    int64_t most = server->options.limits.max_answers;
    uint64_t each = sizeof(struct token_record) +
                    (uint64_t)c->request.sample.top_logprobs * sizeof(struct token_logprob);
    uint64_t copies = c->stages ? 2 : 1; /* of the prompts */
    uint64_t bytes = records * each + copies * (uint64_t)c->prompt_tokens * sizeof(int32_t);
    if (bytes > (uint64_t)most)
        return refuse(error, REFUSAL_INVALID_VALUE, "max_tokens",
                      "the answer may grow to %llu bytes of tokens; at most %lld are allowed for "
                      "all answers: give a smaller max_tokens, n or number of logprobs",
                      (unsigned long long)bytes, (long long)most);
    if (!budget_take(&server->answer_bytes, (int64_t)bytes, most))
        return refuse(error, REFUSAL_QUEUE_FULL, NULL,
                      "the answers of other requests take all memory for answers; try again in a "
                      "moment");
    c->reserved = (int64_t)bytes;
    return true;
}

/* Room for every record that can come, and for the alternatives beside each. */
static bool make_log(struct completion *c, uint64_t records, struct api_error *error)
{
    const struct sample_spec *sample = &c->request.sample;
    uint64_t top = (uint64_t)sample->top_logprobs;
    int64_t most = c->exchange->server->options.limits.max_logprob_total;
    if (sample->want_logprob && records * (top + 1) > (uint64_t)most)
        return refuse(error, REFUSAL_INVALID_VALUE, "logprobs",
                      "%llu tokens with %llu log probabilities each are asked for; at most %lld in "
                      "all are allowed: give a smaller max_tokens, n or number of logprobs",
                      (unsigned long long)records, (unsigned long long)(top + 1), (long long)most);
    if (!reserve_answer(c, records, error)) return false;
    if (!token_log_init(&c->log, records, top)) return refuse_memory(error);
    return true;
}

/* At most 2^31 tokens each, n, the prompts and the sequences are limited: no overflow. */
static uint64_t records_of(const struct completion *c, int32_t index)
{
    if (c->stages) return (uint64_t)c->parts[index].need.records;
    uint64_t each = (uint64_t)c->parts[index].max_tokens + 1;
    if (completion_scores_prompt(&c->request)) each += c->prompts[index].count;
    return (uint64_t)c->request.n * each;
}

static bool prepare_parts(struct completion *c, struct api_error *error)
{
    const struct server *server = c->exchange->server;
    uint64_t records = 0;
    for (int32_t i = 0; i < c->part_count; i++) {
        c->parts[i].completion = c;
        c->parts[i].first_choice = i * c->request.n;
        if (!request_tokens(&c->request, (size_t)i, &server->model, &c->prompts[i], error) ||
            !fit(c, i, error))
            return false;
        c->prompt_tokens += (int64_t)c->prompts[i].count;
        records += records_of(c, i);
    }
    return make_log(c, records, error);
}

static void gather_stop_ids(struct completion *c)
{
    const struct served_model *model = &c->exchange->server->model;
    size_t own = c->request.stop_id_count;
    c->eos_count = model->eos_count;
    c->stop_count = model->eos_count + (int32_t)own;
    c->stop_ids = must_alloc((size_t)c->stop_count * sizeof *c->stop_ids);
    for (int32_t i = 0; i < c->eos_count; i++)
        c->stop_ids[i] = model->eos[i];
    if (own) memcpy(c->stop_ids + c->eos_count, c->request.stop_ids, own * sizeof *c->stop_ids);
}

static void make_watches(struct completion *c)
{
    const struct api_request *r = &c->request;
    size_t count = 0;
    for (int32_t i = 0; i < c->part_count; i++)
        count += (size_t)(c->stages ? c->parts[i].need.width : r->n);
    c->watches = must_alloc(count * sizeof *c->watches);
    for (int32_t i = 0, at = 0; i < c->part_count; i++) {
        c->parts[i].watches = c->watches + at;
        at += c->stages ? c->parts[i].need.width : r->n;
    }
    for (int32_t i = 0; !c->stages && r->stop_count && i < c->choices; i++)
        choice_text_init(&c->watches[i].text, r->stops, r->stop_count);
}

static void random_bytes(void *bytes, size_t count)
{
    if (getrandom(bytes, count, 0) != (ssize_t)count) die("getrandom failed");
}

static void make_renderer(struct completion *c)
{
    const struct api_request *r = &c->request;
    const struct served_model *model = &c->exchange->server->model;
    int32_t hidden = r->ignore_eos ? c->eos_count : 0; /* an ignored EOS ends nothing */
    struct render_options options = {
        .tokenizer = model->tokenizer,
        .id = c->id,
        .model = model->name,
        .created = time(NULL),
        .chat = r->endpoint == API_CHAT,
        .stream = r->stream,
        .include_usage = r->include_usage,
        .continuous_usage = r->include_usage && r->continuous_usage,
        .return_token_ids = r->return_token_ids,
        .echo = r->echo,
        .branch_events = r->branch_events,
        .logprobs = r->sample.want_logprob,
        .include_stop = r->include_stop,
        .choices = c->choices,
        .n = r->n,
        .min_tokens = r->min_tokens,
        .stops = r->grammar ? stage_plan_stops(c->stages) : r->stops,
        .stop_count = r->stage_count ? 0 : r->stop_count, /* else the stages' own */
        .stop_sets = c->stop_sets,
        .stop_ids = c->stop_ids + hidden,
        .stop_id_count = (size_t)(c->stop_count - hidden),
        .prompts = c->prompts,
        .prompt_tokens = c->prompt_tokens,
    };
    c->renderer = renderer_create(&options);
}

bool completion_prepare(struct completion *c, struct api_error *error)
{
    const struct server *server = c->exchange->server;
    c->part_count = c->request.endpoint == API_CHAT ? 1 : (int32_t)c->request.prompt_count;
    int64_t choices = (int64_t)c->part_count * c->request.n;
    if (choices > server->options.limits.max_sequences)
        return refuse(error, REFUSAL_INVALID_VALUE, "n",
                      "%d prompts with n = %d are %lld sequences; at most %d are allowed",
                      c->part_count, c->request.n, (long long)choices,
                      server->options.limits.max_sequences);
    if (choices > engine_max_queue(server->model.engine))
        return refuse(error, REFUSAL_INVALID_VALUE,
                      c->request.n > 1 ? "n" : completion_prompt_field(c),
                      "%lld sequences are asked for; at most %d may wait here", (long long)choices,
                      engine_max_queue(server->model.engine));
    c->choices = (int32_t)choices;
    c->parts = must_alloc((size_t)c->part_count * sizeof *c->parts);
    c->prompts = must_alloc((size_t)c->part_count * sizeof *c->prompts);
    if (completion_in_stages(c) && !completion_plan_stages(c, error)) return false;
    if (!prepare_parts(c, error)) return false;
    make_watches(c);
    gather_stop_ids(c);
    uint64_t words[2];
    random_bytes(words, sizeof words);
    snprintf(c->id, sizeof c->id, "%s-%016llx%016llx",
             c->request.endpoint == API_CHAT ? "chatcmpl" : "cmpl", (unsigned long long)words[0],
             (unsigned long long)words[1]);
    if (!c->request.has_seed) random_bytes(&c->request.sample.seed, sizeof(uint64_t));
    make_renderer(c);
    if (completion_in_stages(c) && !completion_drive_stages(c, error)) return false;
    api_request_drop_document(&c->request); /* from here on only numbers are needed */
    atomic_store(&c->parts_left, c->part_count);
    return true;
}
