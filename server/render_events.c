/* What was gathered of a choice becomes an event; all choices become a document. */
#include "server/render_private.h"

#include <inttypes.h>
#include <string.h>

/* {"id":...,"object":...,"created":...,"model":..., */
void render_prepare_head(struct renderer *renderer)
{
    struct strbuf *out = &renderer->head;
    const struct render_options *o = &renderer->options;
    const char *object = !o->chat    ? "text_completion"
                         : o->stream ? "chat.completion.chunk"
                                     : "chat.completion";
    strbuf_format(out, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":", o->id,
                  object, o->created);
    render_json_string(out, o->model, strlen(o->model));
    strbuf_char(out, ',');
}

static void render_head(const struct renderer *renderer, struct strbuf *out)
{
    strbuf_append(out, strbuf_cstr(&renderer->head), renderer->head.length);
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

void render_event(struct renderer *renderer, struct choice *choice, const struct event_label *label,
                  struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    int32_t index = (int32_t)(choice - renderer->choices);
    strbuf_text(out, "data: ");
    render_head(renderer, out);
    strbuf_text(out, "\"choices\":[{\"index\":");
    render_integer(out, index);
    strbuf_char(out, ',');
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
    if (label)
        strbuf_format(out, ",\"espalier\":{\"stage\":%d,\"branch\":%d,\"event\":\"%s\"}",
                      label->stage, label->branch, label->event);
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
