#include "server/completion.h"
#include "base/alloc.h"
#include "base/checked.h"
#include "server/choice_text.h"
#include "server/render.h"
#include "server/request_content.h"
#include "server/server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define DEFAULT_MAX_TOKENS 16 /* of /v1/completions, as OpenAI's */

/* One prompt: a request to the engine. */
struct part {
    struct completion *completion;
    _Atomic uint64_t id; /* the engine's; 0 until submitted */
    int32_t first_choice;
    int32_t max_tokens;
};

/* What the engine's thread knows of a choice. */
struct sequence_watch {
    struct choice_text text; /* only where stop strings were given */
    int64_t first_us, last_us;
    int32_t tokens;
};

struct completion {
    struct exchange *exchange; /* its owner */
    struct api_request request;
    char id[64];
    struct part *parts;
    struct token_list *prompts; /* [part_count] */
    int32_t part_count, choices;
    int32_t *stop_ids; /* the model's EOS ids, then the request's */
    int32_t stop_count, eos_count;
    struct token_log log;
    int64_t reserved; /* its part of server.answer_bytes */
    _Atomic int32_t parts_left;

    /* engine's thread, until parts_left is 0 */
    struct sequence_watch *watches; /* [choices] */
    struct strbuf scratch;
    int64_t first_token_us, scheduled_us, finish_us;
    int64_t output_tokens, cached_tokens;
    enum finish_reason worst;

    /* the reader's side */
    struct renderer *renderer;
    size_t read;
    int64_t prompt_tokens;
    bool ended;
};

/* --- events, on the engine's thread: short, no locks held by anyone who waits */

static struct metrics *metrics_of(struct completion *c)
{
    return &c->exchange->server->metrics;
}

static void time_token(struct completion *c, struct sequence_watch *watch)
{
    struct metrics *metrics = metrics_of(c);
    int64_t now_us = clock_now(&c->exchange->server->options.clock);
    if (watch->tokens++ == 0)
        watch->first_us = now_us;
    else
        metrics_observe(metrics, &metrics->itl, now_us - watch->last_us);
    watch->last_us = now_us;
    if (c->first_token_us) return;
    c->first_token_us = now_us;
    metrics_observe(metrics, &metrics->ttft, now_us - c->exchange->received_us);
}

static void log_score(struct completion *c, int32_t choice, enum record_kind kind,
                      const struct token_score *score, bool ends)
{
    struct token_record record = {.token = score->token,
                                  .logprob = score->logprob,
                                  .choice = choice,
                                  .kind = (uint8_t)kind,
                                  .ends = ends,
                                  .top_count = (uint8_t)score->top_count};
    token_log_append(&c->log, record, score->top);
}

static void on_score(void *context, int32_t index, int32_t position,
                     const struct token_score *score)
{
    struct part *part = context;
    (void)position; /* they come in order, each once */
    log_score(part->completion, part->first_choice + index, RECORD_PROMPT, score, false);
}

static enum token_verdict on_token(void *context, int32_t index, const struct token_score *sampled,
                                   bool ends)
{
    struct part *part = context;
    struct completion *c = part->completion;
    int32_t choice = part->first_choice + index;
    struct sequence_watch *watch = &c->watches[choice];
    time_token(c, watch);

    enum token_verdict verdict = TOKEN_KEEP;
    if (c->request.stop_count && !ends) {
        strbuf_clear(&c->scratch);
        if (choice_text_push(&watch->text, c->exchange->server->model.tokenizer, sampled->token,
                             c->request.min_tokens, false, &c->scratch))
            verdict = TOKEN_STOP;
    }
    log_score(c, choice, RECORD_TOKEN, sampled, ends);
    if (c->request.stream) exchange_notify(c->exchange);
    return verdict;
}

static void on_finish(void *context, int32_t index, enum finish_reason reason)
{
    struct part *part = context;
    struct completion *c = part->completion;
    struct sequence_watch *watch = &c->watches[part->first_choice + index];
    struct metrics *metrics = metrics_of(c);
    if (reason < FINISH_ABORT && watch->tokens > 1)
        metrics_observe(metrics, &metrics->tpot,
                        (watch->last_us - watch->first_us) / (watch->tokens - 1));
    if (reason > c->worst) c->worst = reason;
    struct token_record record = {
        .choice = part->first_choice + index, .kind = RECORD_FINISH, .reason = (uint8_t)reason};
    token_log_append(&c->log, record, NULL);
    if (c->request.stream) exchange_notify(c->exchange);
}

static void count_ended(struct completion *c)
{
    struct metrics *m = metrics_of(c);
    atomic_fetch_add_explicit(&m->outcomes[c->worst], 1, memory_order_relaxed);
    metrics_observe(m, &m->prompt_tokens, c->prompt_tokens);
    metrics_observe(m, &m->generated_tokens, c->output_tokens);
    metrics_observe(m, &m->request_n, c->choices);
    if (c->worst >= FINISH_ABORT || !c->first_token_us) return;
    metrics_observe(m, &m->e2e, c->finish_us - c->exchange->received_us);
    metrics_observe(m, &m->queue, c->scheduled_us - c->exchange->received_us);
    metrics_observe(m, &m->prefill, c->first_token_us - c->scheduled_us);
    metrics_observe(m, &m->decode, c->finish_us - c->first_token_us);
}

static void on_done(void *context, const struct request_stats *stats)
{
    struct part *part = context;
    struct completion *c = part->completion;
    struct exchange *exchange = c->exchange;
    if (!c->scheduled_us || (stats->scheduled_us && stats->scheduled_us < c->scheduled_us))
        c->scheduled_us = stats->scheduled_us;
    if (stats->finish_us > c->finish_us) c->finish_us = stats->finish_us;
    c->output_tokens += stats->output_tokens;
    c->cached_tokens += stats->cached_tokens;
    if (atomic_load(&c->parts_left) == 1) count_ended(c);
    if (atomic_fetch_sub(&c->parts_left, 1) == 1) {
        if (c->request.stream)
            exchange_notify(exchange);
        else
            frontend_finish(exchange->server->frontend, exchange);
    }
    exchange_unref(exchange);
}

/* --- from the request to the engine */

bool request_tokens(const struct api_request *request, size_t index,
                    const struct served_model *model, struct token_list *out,
                    struct api_error *error)
{
    struct error err = {0};
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
    if (status == ST_NO_MEMORY) return refuse_memory(error);
    if (status)
        return refuse(error, REFUSAL_INVALID_VALUE, request->message_count ? "messages" : "prompt",
                      "%s", err.text);
    return true;
}

static const char *prompt_field(const struct completion *c)
{
    return c->request.endpoint == API_CHAT ? "messages" : "prompt";
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
        return refuse(error, REFUSAL_INVALID_VALUE, prompt_field(c), "%s is empty",
                      prompt_field(c));
    int64_t room = (int64_t)model->context - (int64_t)count;
    if (room < (named ? wanted : 1))
        return refuse(
            error, REFUSAL_CONTEXT_LENGTH, prompt_field(c),
            "This model's maximum context length is %d tokens. However, you requested %zu "
            "tokens (%zu in the %s, %d in the completion). Please reduce the length of "
            "the %s or the completion.",
            model->context, count + (size_t)(named ? wanted : 1), count, prompt_field(c),
            named ? wanted : 1, prompt_field(c));
    if (!named) {
        wanted = (int32_t)room;
        if (c->request.endpoint == API_COMPLETIONS && wanted > DEFAULT_MAX_TOKENS)
            wanted = DEFAULT_MAX_TOKENS;
    }
    if (c->request.min_tokens > wanted)
        return refuse(error, REFUSAL_INVALID_VALUE, "min_tokens",
                      "min_tokens must be at most max_tokens (%d), not %d", wanted,
                      c->request.min_tokens);
    c->parts[index].max_tokens = wanted;
    return true;
}

/* The prompt's own log probabilities: what evaluators ask for with echo. */
static bool scores_prompt(const struct api_request *r)
{
    return r->echo && r->sample.want_logprob;
}

/* Its part of what all answers may grow to: a client that reads slowly keeps it until it has read
 * everything. */
static bool reserve_answer(struct completion *c, uint64_t records, struct api_error *error)
{
    struct server *server = c->exchange->server;
    int64_t most = server->options.limits.max_answers;
    uint64_t each = sizeof(struct token_record) +
                    (uint64_t)c->request.sample.top_logprobs * sizeof(struct token_logprob);
    uint64_t bytes = records * each + (uint64_t)c->prompt_tokens * sizeof(int32_t);
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

static bool prepare_parts(struct completion *c, struct api_error *error)
{
    const struct server *server = c->exchange->server;
    uint64_t records = 0;
    for (int32_t i = 0; i < c->part_count; i++) {
        c->parts[i].completion = c;
        c->parts[i].first_choice = i * c->request.n;
        if (!request_tokens(&c->request, (size_t)i, &server->model, &c->prompts[i], error) ||
            !fit_context(c, i, error))
            return false;
        c->prompt_tokens += (int64_t)c->prompts[i].count;
        /* At most 2^31 tokens each, n and the prompts are limited: no overflow. */
        uint64_t each = (uint64_t)c->parts[i].max_tokens + 1;
        if (scores_prompt(&c->request)) each += c->prompts[i].count;
        records += (uint64_t)c->request.n * each;
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
        .logprobs = r->sample.want_logprob,
        .include_stop = r->include_stop,
        .choices = c->choices,
        .n = r->n,
        .min_tokens = r->min_tokens,
        .stops = r->stops,
        .stop_count = r->stop_count,
        .stop_ids = c->stop_ids + hidden,
        .stop_id_count = (size_t)(c->stop_count - hidden),
        .prompts = c->prompts,
        .prompt_tokens = c->prompt_tokens,
    };
    c->renderer = renderer_create(&options);
}

static bool prepare(struct completion *c, struct api_error *error)
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
        return refuse(error, REFUSAL_INVALID_VALUE, c->request.n > 1 ? "n" : prompt_field(c),
                      "%lld sequences are asked for; at most %d may wait here", (long long)choices,
                      engine_max_queue(server->model.engine));
    c->choices = (int32_t)choices;
    c->parts = must_alloc((size_t)c->part_count * sizeof *c->parts);
    c->prompts = must_alloc((size_t)c->part_count * sizeof *c->prompts);
    c->watches = must_alloc((size_t)choices * sizeof *c->watches);
    if (!prepare_parts(c, error)) return false;

    for (int32_t i = 0; c->request.stop_count && i < c->choices; i++)
        choice_text_init(&c->watches[i].text, c->request.stops, c->request.stop_count);
    gather_stop_ids(c);
    uint64_t words[2];
    random_bytes(words, sizeof words);
    snprintf(c->id, sizeof c->id, "%s-%016llx%016llx",
             c->request.endpoint == API_CHAT ? "chatcmpl" : "cmpl", (unsigned long long)words[0],
             (unsigned long long)words[1]);
    if (!c->request.has_seed) random_bytes(&c->request.sample.seed, sizeof(uint64_t));
    make_renderer(c);
    api_request_drop_document(&c->request); /* from here on only numbers are needed */
    atomic_store(&c->parts_left, c->part_count);
    return true;
}

static bool refuse_submission(enum status status, const struct error *err, struct completion *c,
                              struct api_error *error)
{
    switch (status) {
    case ST_FULL:
        return refuse(error, REFUSAL_QUEUE_FULL, NULL, "the queue is full; try again in a moment");
    case ST_CLOSED:
        return refuse(error, REFUSAL_DRAINING, NULL, "the server is shutting down");
    case ST_INVALID:
        return refuse(error, REFUSAL_TOO_LARGE_FOR_CACHE, prompt_field(c), "%s", err->text);
    case ST_NO_MEMORY:
        return refuse_memory(error);
    default:
        return refuse(error, REFUSAL_INTERNAL, NULL, "%s", err->text);
    }
}

static struct request_params params_of(struct completion *c, int32_t index)
{
    const struct api_request *r = &c->request;
    struct part *part = &c->parts[index];
    return (struct request_params){
        .prompt = c->prompts[index].ids,
        .prompt_count = (int32_t)c->prompts[index].count,
        .n = r->n,
        .max_tokens = part->max_tokens,
        .min_tokens = r->min_tokens,
        .ignore_eos = r->ignore_eos,
        .score_prompt = scores_prompt(r),
        .stop_ids = c->stop_ids,
        .stop_count = c->stop_count,
        .eos_count = c->eos_count,
        .sample = r->sample,
        .priority = r->priority,
        .events = {part, on_score, on_token, on_finish, on_done},
    };
}

/* All parts or none: a request that is refused has started nothing. */
static bool submit(struct completion *c, struct api_error *error)
{
    struct request_params *params = must_alloc((size_t)c->part_count * sizeof *params);
    uint64_t *ids = must_alloc((size_t)c->part_count * sizeof *ids);
    for (int32_t i = 0; i < c->part_count; i++) {
        params[i] = params_of(c, i);
        exchange_ref(c->exchange); /* given back by on_done, which may come before submit returns */
    }
    struct error err = {0};
    enum status status =
        engine_submit_all(c->exchange->server->model.engine, params, c->part_count, ids, &err);
    for (int32_t i = 0; i < c->part_count; i++) {
        if (status)
            exchange_unref(c->exchange);
        else
            atomic_store(&c->parts[i].id, ids[i]);
    }
    free(params);
    free(ids);
    return status == ST_OK || refuse_submission(status, &err, c, error);
}

bool completion_start(struct exchange *exchange, struct api_request *request,
                      struct api_error *error)
{
    struct completion *c = must_alloc(sizeof *c);
    c->exchange = exchange;
    c->request = *request;
    *request = (struct api_request){0};
    if (!prepare(c, error)) {
        completion_free(c);
        return false;
    }
    atomic_store(&exchange->completion, c); /* from here on it can be cancelled */
    if (!submit(c, error)) return false;
    if (atomic_load(&exchange->abandoned)) completion_cancel(c);
    return true;
}

void completion_cancel(struct completion *c)
{
    for (int32_t i = 0; i < c->part_count; i++) {
        uint64_t id = atomic_load(&c->parts[i].id);
        if (id) engine_cancel(c->exchange->server->model.engine, id);
    }
}

/* --- from the log to the client */

bool completion_finished(struct completion *c)
{
    return atomic_load(&c->parts_left) == 0;
}

bool completion_has_news(struct completion *c)
{
    return completion_finished(c) || token_log_count(&c->log) > c->read;
}

/* true: the log was read to where it ends now. */
static bool read_log(struct completion *c, size_t enough, struct strbuf *out)
{
    size_t count = token_log_count(&c->log);
    for (; c->read < count && (!out || out->length < enough); c->read++)
        renderer_record(c->renderer, &c->log.records[c->read], token_log_top(&c->log, c->read),
                        out);
    return c->read == count;
}

static struct usage usage_of(const struct completion *c)
{
    return (struct usage){c->prompt_tokens, c->output_tokens, c->cached_tokens};
}

static bool failure_of(const struct completion *c, struct api_error *error)
{
    enum finish_reason reason = renderer_failure(c->renderer);
    if (reason < FINISH_ABORT) return false;
    if (reason == FINISH_ABORT)
        refuse(error, REFUSAL_DRAINING, NULL, "the server stopped before the answer was complete");
    else
        refuse(error, REFUSAL_INTERNAL, NULL, "the model failed while it wrote the answer");
    return true;
}

void completion_stream(struct completion *c, size_t enough, struct strbuf *out, bool *ended)
{
    bool finished = completion_finished(c); /* first this, then the log: it is complete if so */
    bool read = read_log(c, enough, out);
    *ended = finished && read;
    if (!*ended || c->ended) return;
    c->ended = true;
    struct usage usage = usage_of(c);
    struct api_error error = {0};
    bool failed = failure_of(c, &error);
    renderer_stream_end(c->renderer, &usage, failed ? &error : NULL, out);
}

void completion_answer(struct completion *c)
{
    struct exchange *exchange = c->exchange;
    struct api_error error = {0};
    read_log(c, 0, NULL);
    if (failure_of(c, &error)) {
        exchange_refuse(exchange, &error);
        return;
    }
    struct strbuf text = {0};
    struct usage usage = usage_of(c);
    renderer_answer(c->renderer, &usage, &text);
    exchange_answer(exchange, MHD_HTTP_OK, &text);
}

void completion_free(struct completion *c)
{
    if (!c) return;
    renderer_free(c->renderer);
    for (int32_t i = 0; c->watches && i < c->choices; i++)
        if (c->request.stop_count) choice_text_release(&c->watches[i].text);
    for (int32_t i = 0; c->prompts && i < c->part_count; i++)
        free(c->prompts[i].ids);
    free(c->watches);
    free(c->prompts);
    free(c->parts);
    free(c->stop_ids);
    strbuf_free(&c->scratch);
    token_log_release(&c->log);
    atomic_fetch_sub(&c->exchange->server->answer_bytes, c->reserved);
    api_request_release(&c->request);
    free(c);
}
