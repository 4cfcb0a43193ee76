#include "server/render.h"
#include "base/alloc.h"
#include "server/choice_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    struct choice_text text;
    struct strbuf shown;      /* the whole text (no stream), or one event's (stream) */
    struct token_list tokens; /* as `shown`, when token ids were asked for */
    bool begun;               /* its first event has left (stream) */
    bool finished;
    enum finish_reason reason;
};

struct renderer {
    struct render_options options;
    struct choice *choices;
    int64_t completion_tokens;
};

/* --- JSON pieces */

/* Bytes of the UTF-8 character at `text`, 0 when it is none (overlong and surrogates included). */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = text[0];
    size_t length = first < 0x80   ? 1
                    : first < 0xc2 ? 0
                    : first < 0xe0 ? 2
                    : first < 0xf0 ? 3
                    : first < 0xf5 ? 4
                                   : 0;
    if (length <= 1) return length;
    if (length > left) return 0;
    uint32_t point = first & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        point = point << 6 | (text[i] & 0x3f);
    }
    bool surrogate = point >= 0xd800 && point < 0xe000;
    return point < least[length] || surrogate || point > 0x10ffff ? 0 : length;
}

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
    const unsigned char *bytes = (const unsigned char *)text;
    strbuf_char(out, '"');
    size_t plain = 0; /* where the run of bytes that need no change began */
    for (size_t i = 0; i < length;) {
        size_t step = utf8_length(bytes + i, length - i);
        bool as_is = step > 1 || (step == 1 && bytes[i] >= 0x20 && bytes[i] != '"' &&
                                  bytes[i] != '\\' && bytes[i] != 0x7f);
        if (as_is) {
            i += step;
            continue;
        }
        strbuf_append(out, text + plain, i - plain);
        if (step) {
            escape(out, bytes[i]);
        } else {
            strbuf_text(out, "\xef\xbf\xbd");
        }
        plain = ++i;
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

static void begin_choice(const struct renderer *renderer, int32_t index, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    if (!o->echo) return;
    const struct token_list *prompt = &o->prompts[index / o->n];
    tokenizer_decode(o->tokenizer, prompt->ids, prompt->count, false, out);
}

struct renderer *renderer_create(const struct render_options *options)
{
    struct renderer *renderer = must_alloc(sizeof *renderer);
    renderer->options = *options;
    renderer->choices = must_alloc((size_t)options->choices * sizeof *renderer->choices);
    for (int32_t i = 0; i < options->choices; i++) {
        struct choice *choice = &renderer->choices[i];
        choice_text_init(&choice->text, options->stops, options->stop_count);
        begin_choice(renderer, i, &choice->shown);
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
    strbuf_text(out, ",\"logprobs\":null,");
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

void renderer_record(struct renderer *renderer, const struct token_record *record,
                     struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    struct choice *choice = &renderer->choices[record->choice];
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

void renderer_stream_end(struct renderer *renderer, const struct usage *usage,
                         const struct api_error *error, struct strbuf *out)
{
    if (error) {
        strbuf_text(out, "data: ");
        api_error_render(error, out);
        strbuf_text(out, "\n\n");
    } else if (renderer->options.include_usage) {
        strbuf_text(out, "data: ");
        render_head(renderer, out);
        strbuf_text(out, "\"choices\":[],");
        render_usage(out, usage);
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
    strbuf_text(out, o->chat ? "},\"logprobs\":null," : ",\"logprobs\":null,");
    render_reason(out, choice);
    if (o->return_token_ids) {
        strbuf_text(out, ",\"token_ids\":");
        render_ids(out, &choice->tokens);
        if (!o->chat) render_prompt_ids(renderer, index, out);
    }
    strbuf_char(out, '}');
}

void renderer_answer(struct renderer *renderer, const struct usage *usage, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    render_head(renderer, out);
    strbuf_text(out, "\"choices\":[");
    for (int32_t i = 0; i < o->choices; i++)
        render_choice(renderer, i, out);
    strbuf_text(out, "],");
    render_usage(out, usage);
    if (o->return_token_ids && o->chat) render_prompt_ids(renderer, 0, out);
    strbuf_char(out, '}');
}
