#include "server/render.h"
#include "base/alloc.h"
#include "model/utf8.h"
#include "server/choice_text.h"
#include "server/logprobs.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    struct choice_text text;
    struct strbuf shown;           /* the whole text (no stream), or one event's (stream) */
    struct token_list tokens;      /* as `shown`, when token ids were asked for */
    struct logprobs_text logprobs; /* as `shown`, when they were asked for */
    bool begun;                    /* its first event has left (stream) */
    bool finished;
    enum finish_reason reason;
};

struct renderer {
    struct render_options options;
    struct choice *choices;
    int64_t completion_tokens;
    size_t read; /* records of the log */
};

/* --- JSON pieces */

static void escape(struct strbuf *out, unsigned char c)
{
    switch (c) {
    case '"':
        strbuf_text(out, "\\\"");
        break;
    case '\\':
        strbuf_text(out, "\\\\");
        break;
    case '\n':
        strbuf_text(out, "\\n");
        break;
    case '\r':
        strbuf_text(out, "\\r");
        break;
    case '\t':
        strbuf_text(out, "\\t");
        break;
    default:
        strbuf_format(out, "\\u%04x", c);
    }
}

void render_json_string(struct strbuf *out, const char *text, size_t length)
{
    strbuf_char(out, '"');
    size_t plain = 0; /* where the run of bytes that need no change began */
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        struct utf8_step step = utf8_step(text + i, length - i);
        bool as_is = step.kind == UTF8_WHOLE && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
        if (!as_is) {
            strbuf_append(out, text + plain, i - plain);
            if (step.kind == UTF8_WHOLE)
                escape(out, c);
            else
                strbuf_text(out, "\xef\xbf\xbd");
        }
        i += step.length;
        if (!as_is) plain = i;
    }
    strbuf_append(out, text + plain, length - plain);
    strbuf_char(out, '"');
}

const char *finish_reason_name(enum finish_reason reason)
{
    switch (reason) {
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_ABORT:
        return "abort";
    default:
        return "error";
    }
}

static void render_ids(struct strbuf *out, const struct token_list *list)
{
    strbuf_char(out, '[');
    for (size_t i = 0; i < list->count; i++)
        strbuf_format(out, i ? ",%d" : "%d", list->ids[i]);
    strbuf_char(out, ']');
}

static void render_usage(struct strbuf *out, const struct usage *usage)
{
    strbuf_format(out,
                  "\"usage\":{\"prompt_tokens\":%" PRId64 ",\"completion_tokens\":%" PRId64
                  ",\"total_tokens\":%" PRId64
                  ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRId64 "}}",
                  usage->prompt_tokens, usage->completion_tokens,
                  usage->prompt_tokens + usage->completion_tokens, usage->cached_tokens);
}

/* {"id":...,"object":...,"created":...,"model":..., */
static void render_head(const struct renderer *renderer, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    const char *object = !o->chat    ? "text_completion"
                         : o->stream ? "chat.completion.chunk"
                                     : "chat.completion";
    strbuf_format(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", o->id,
                  object, o->created);
    render_json_string(out, o->model, strlen(o->model));
    strbuf_char(out, ',');
}

/* The prompt's ids: of a choice (completions) or of the answer (chat), as vLLM places them. */
static void render_prompt_ids(const struct renderer *renderer, int32_t choice, struct strbuf *out)
{
    strbuf_text(out, ",\"prompt_token_ids\":");
    render_ids(out, &renderer->options.prompts[choice / renderer->options.n]);
}

/* "logprobs":..., of what was taken since the last time */
static void render_logprobs(const struct renderer *renderer, struct choice *choice,
                            struct strbuf *out)
{
    strbuf_text(out, "\"logprobs\":");
    if (renderer->options.logprobs)
        logprobs_render(&choice->logprobs, renderer->options.chat, out);
    else
        strbuf_text(out, "null");
    strbuf_char(out, ',');
}

static void render_reason(struct strbuf *out, const struct choice *choice)
{
    if (choice->finished) {
        strbuf_format(out, "\"finish_reason\":\"%s\"", finish_reason_name(choice->reason));
    } else {
        strbuf_text(out, "\"finish_reason\":null");
    }
}

/* --- one choice's progress */

static bool is_stop_id(const struct render_options *o, int32_t token)
{
    for (size_t i = 0; i < o->stop_id_count; i++)
        if (o->stop_ids[i] == token) return true;
    return false;
}

static void echo_prompt(const struct render_options *o, int32_t index, struct choice *choice)
{
    const struct token_list *prompt = &o->prompts[index / o->n];
    tokenizer_decode(o->tokenizer, prompt->ids, prompt->count, false, &choice->shown);
    if (o->logprobs) logprobs_add_first(&choice->logprobs, o->tokenizer, prompt->ids[0]);
}

struct renderer *renderer_create(const struct render_options *options)
{
    struct renderer *renderer = must_alloc(sizeof *renderer);
    renderer->options = *options;
    renderer->choices = must_alloc((size_t)options->choices * sizeof *renderer->choices);
    for (int32_t i = 0; i < options->choices; i++) {
        struct choice *choice = &renderer->choices[i];
        choice_text_init(&choice->text, options->stops, options->stop_count);
        /* A stream's are one event's, a whole answer's all of it. */
        choice->shown.may_fail = choice->tokens.may_fail = !options->stream;
        if (options->echo) echo_prompt(options, i, choice);
    }
    return renderer;
}

void renderer_free(struct renderer *renderer)
{
    if (!renderer) return;
    for (int32_t i = 0; i < renderer->options.choices; i++) {
        struct choice *choice = &renderer->choices[i];
        choice_text_release(&choice->text);
        strbuf_free(&choice->shown);
        logprobs_release(&choice->logprobs);
        free(choice->tokens.ids);
    }
    free(renderer->choices);
    free(renderer);
}

static void take_token(struct renderer *renderer, struct choice *choice, int32_t token, bool ends)
{
    const struct render_options *o = &renderer->options;
    renderer->completion_tokens++;
    if (o->return_token_ids) token_list_append(&choice->tokens, token);
    if (ends && is_stop_id(o, token) && !o->include_stop) return;
    choice_text_push(&choice->text, o->tokenizer, token, o->min_tokens, o->include_stop,
                     &choice->shown);
}

static void take_finish(struct choice *choice, enum finish_reason reason)
{
    choice->finished = true;
    choice->reason = reason;
    choice_text_finish(&choice->text, &choice->shown);
    /* A stop string completed by the very last token allowed is a stop. */
    if (choice->text.stopped && reason == FINISH_LENGTH) choice->reason = FINISH_STOP;
}

enum finish_reason renderer_failure(const struct renderer *renderer)
{
    for (int32_t i = 0; i < renderer->options.choices; i++) {
        const struct choice *choice = &renderer->choices[i];
        if (choice->finished && choice->reason >= FINISH_ABORT) return choice->reason;
    }
    return FINISH_STOP;
}

/* --- streams */

static void render_delta(const struct renderer *renderer, struct choice *choice, struct strbuf *out)
{
    if (!renderer->options.chat) {
        strbuf_text(out, "\"text\":");
        render_json_string(out, strbuf_cstr(&choice->shown), choice->shown.length);
        return;
    }
    strbuf_text(out, "\"delta\":{");
    if (!choice->begun) strbuf_text(out, "\"role\":\"assistant\",");
    if (choice->finished && choice->begun && choice->shown.length == 0) {
        strbuf_char(out, '}');
        return;
    }
    strbuf_text(out, "\"content\":");
    render_json_string(out, strbuf_cstr(&choice->shown), choice->shown.length);
    strbuf_char(out, '}');
}

/* One event of one choice: what it gathered since the last. */
static void render_event(struct renderer *renderer, int32_t index, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    struct choice *choice = &renderer->choices[index];
    strbuf_text(out, "data: ");
    render_head(renderer, out);
    strbuf_format(out, "\"choices\":[{\"index\":%d,", index);
    render_delta(renderer, choice, out);
    strbuf_char(out, ',');
    render_logprobs(renderer, choice, out);
    render_reason(out, choice);
    if (o->return_token_ids) {
        strbuf_text(out, ",\"token_ids\":");
        render_ids(out, &choice->tokens);
        if (!choice->begun && !o->chat) render_prompt_ids(renderer, index, out);
    }
    strbuf_text(out, "}]");
    if (o->return_token_ids && !choice->begun && o->chat) render_prompt_ids(renderer, index, out);
    if (o->continuous_usage) {
        struct usage usage = {o->prompt_tokens, renderer->completion_tokens, 0};
        strbuf_char(out, ',');
        render_usage(out, &usage);
    }
    strbuf_text(out, "}\n\n");
    choice->begun = true;
    strbuf_clear(&choice->shown);
    choice->tokens.count = 0;
}

static void take_record(struct renderer *renderer, const struct token_record *record,
                        const struct token_logprob *top, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    struct choice *choice = &renderer->choices[record->choice];
    if (record->kind != RECORD_FINISH && o->logprobs)
        logprobs_add(&choice->logprobs, o->tokenizer, o->chat, record, top);
    if (record->kind == RECORD_PROMPT) return; /* leaves with the first token */
    if (record->kind == RECORD_FINISH) {
        take_finish(choice, (enum finish_reason)record->reason);
        /* A failed choice gets no last chunk: the stream ends with an error event instead. */
        if (o->stream && choice->reason < FINISH_ABORT) render_event(renderer, record->choice, out);
        return;
    }
    take_token(renderer, choice, record->token, record->ends);
    /* The token that only says "end" has no text: its id leaves with the finish event. */
    bool silent_end = record->ends && is_stop_id(o, record->token);
    if (o->stream && !silent_end) render_event(renderer, record->choice, out);
}

bool renderer_has_news(const struct renderer *renderer, struct token_log *log)
{
    return token_log_count(log) > renderer->read;
}

bool renderer_read(struct renderer *renderer, struct token_log *log, size_t enough,
                   struct strbuf *out)
{
    size_t count = token_log_count(log);
    for (; renderer->read < count && (!out || out->length < enough); renderer->read++)
        take_record(renderer, &log->records[renderer->read], token_log_top(log, renderer->read),
                    out);
    return renderer->read == count;
}

static void render_number(struct strbuf *out, const char *name, double ms)
{
    if (isfinite(ms))
        strbuf_format(out, "\"%s\":%.3f,", name, ms);
    else
        strbuf_format(out, "\"%s\":null,", name);
}

static void render_timings(struct strbuf *out, const struct timings *t)
{
    strbuf_text(out, "\"timings\":{");
    render_number(out, "queue_ms", t->queue_ms);
    render_number(out, "ttft_ms", t->ttft_ms);
    render_number(out, "tpot_ms", t->tpot_ms);
    render_number(out, "e2e_ms", t->e2e_ms);
    strbuf_format(out, "\"steps\":%" PRId64 ",\"deferred_branch_steps\":%" PRId64 ",\"slo_met\":%s",
                  t->steps, t->deferred_branch_steps,
                  !t->has_slo  ? "null"
                  : t->slo_met ? "true"
                               : "false");
    if (t->malformed_branching) strbuf_text(out, ",\"malformed_branching\":true");
    if (t->empty_outline) strbuf_text(out, ",\"empty_outline\":true");
    if (t->outline_beyond) strbuf_format(out, ",\"outline_beyond\":%d", t->outline_beyond);
    strbuf_char(out, '}');
}

void renderer_stream_end(struct renderer *renderer, const struct usage *usage,
                         const struct timings *timings, const struct api_error *error,
                         struct strbuf *out)
{
    if (error) {
        strbuf_text(out, "data: ");
        api_error_render(error, out);
        strbuf_text(out, "\n\n");
    } else if (renderer->options.include_usage || timings) {
        strbuf_text(out, "data: ");
        render_head(renderer, out);
        strbuf_text(out, "\"choices\":[]");
        if (renderer->options.include_usage) {
            strbuf_char(out, ',');
            render_usage(out, usage);
        }
        if (timings) {
            strbuf_char(out, ',');
            render_timings(out, timings);
        }
        strbuf_text(out, "}\n\n");
    }
    strbuf_text(out, "data: [DONE]\n\n");
}

/* --- whole answers */

static void render_choice(struct renderer *renderer, int32_t index, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    struct choice *choice = &renderer->choices[index];
    strbuf_format(out, "%s{\"index\":%d,", index ? "," : "", index);
    strbuf_text(out, o->chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    render_json_string(out, strbuf_cstr(&choice->shown), choice->shown.length);
    strbuf_text(out, o->chat ? "}," : ",");
    render_logprobs(renderer, choice, out);
    render_reason(out, choice);
    if (o->return_token_ids) {
        strbuf_text(out, ",\"token_ids\":");
        render_ids(out, &choice->tokens);
        if (!o->chat) render_prompt_ids(renderer, index, out);
    }
    strbuf_char(out, '}');
    out->failed |= choice->shown.failed || choice->tokens.failed;
}

void renderer_answer(struct renderer *renderer, const struct usage *usage,
                     const struct timings *timings, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    render_head(renderer, out);
    strbuf_text(out, "\"choices\":[");
    for (int32_t i = 0; i < o->choices; i++)
        render_choice(renderer, i, out);
    strbuf_text(out, "],");
    render_usage(out, usage);
    if (o->return_token_ids && o->chat) render_prompt_ids(renderer, 0, out);
    if (timings) {
        strbuf_char(out, ',');
        render_timings(out, timings);
    }
    strbuf_char(out, '}');
}
