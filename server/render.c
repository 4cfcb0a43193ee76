#include "base/alloc.h"
#include "server/render_private.h"

#include <stdlib.h>

/* --- life */

static void echo_prompt(const struct render_options *o, int32_t index, struct choice *choice)
{
    const struct token_list *prompt = &o->prompts[index / o->n];
    tokenizer_decode(o->tokenizer, prompt->ids, prompt->count, false, &choice->shown);
    if (o->logprobs) logprobs_add_given(&choice->logprobs, o->tokenizer, prompt->ids[0]);
}

struct renderer *renderer_create(const struct render_options *options)
{
    struct renderer *renderer = must_alloc(sizeof *renderer);
    renderer->options = *options;
    renderer->options.branch_events &= options->stream;
    renderer->choices = must_alloc((size_t)options->choices * sizeof *renderer->choices);
    for (int32_t i = 0; i < options->choices; i++) {
        struct choice *choice = &renderer->choices[i];
        choice_text_init(&choice->text, options->stops, options->stop_count);
        /* A stream's are one event's, a whole answer's all of it. */
        choice->shown.may_fail = choice->tokens.may_fail = !options->stream;
        if (options->echo) echo_prompt(options, i, choice);
    }
    render_prepare_head(renderer);
    return renderer;
}

void renderer_free(struct renderer *renderer)
{
    if (!renderer) return;
    for (int32_t i = 0; i < renderer->options.choices; i++) {
        struct choice *choice = &renderer->choices[i];
        choice_text_release(&choice->text);
        stage_release(&choice->stage);
        strbuf_free(&choice->shown);
        logprobs_release(&choice->logprobs);
        free(choice->tokens.ids);
    }
    strbuf_free(&renderer->piece);
    strbuf_free(&renderer->head);
    free(renderer->choices);
    free(renderer);
}

/* --- one choice's progress */

static bool is_stop_id(const struct render_options *o, int32_t token)
{
    for (size_t i = 0; i < o->stop_id_count; i++)
        if (o->stop_ids[i] == token) return true;
    return false;
}

static void flat_event(struct renderer *renderer, struct choice *choice, struct strbuf *out)
{
    static const struct event_label label = {0, 0, "token"};
    if (renderer->options.stream)
        render_event(renderer, choice, renderer->options.branch_events ? &label : NULL, out);
}

static void take_token(struct renderer *renderer, struct choice *choice,
                       const struct token_record *record, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    /* The token that only says "end" has no text: its id leaves with the finish event. */
    bool silent_end = record->ends && is_stop_id(o, record->token);
    renderer->completion_tokens++;
    if (o->return_token_ids) token_list_append(&choice->tokens, record->token);
    if (!silent_end || o->include_stop)
        choice_text_push(&choice->text, o->tokenizer, record->token, o->min_tokens, o->include_stop,
                         &choice->shown);
    if (!silent_end) flat_event(renderer, choice, out);
}

static void take_finish(struct renderer *renderer, struct choice *choice, enum finish_reason reason,
                        struct strbuf *out)
{
    choice->finished = true;
    choice->reason = reason;
    choice_text_finish(&choice->text, &choice->shown);
    /* A stop string completed by the very last token allowed is a stop. */
    if (choice->text.stopped && reason == FINISH_LENGTH) choice->reason = FINISH_STOP;
    /* A failed choice gets no last chunk: the stream ends with an error event instead. */
    if (choice->reason < FINISH_ABORT) flat_event(renderer, choice, out);
}

enum finish_reason renderer_failure(const struct renderer *renderer)
{
    for (int32_t i = 0; i < renderer->options.choices; i++) {
        const struct choice *choice = &renderer->choices[i];
        if (choice->finished && choice->reason >= FINISH_ABORT) return choice->reason;
    }
    return FINISH_STOP;
}

static void take_record(struct renderer *renderer, const struct token_record *record,
                        const struct token_logprob *top, struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    struct choice *choice = &renderer->choices[record->choice];
    if (record->kind == RECORD_PROMPT) { /* leaves with the first token */
        if (o->logprobs) logprobs_add(&choice->logprobs, o->tokenizer, o->chat, record, top);
        choice->stage.characters = choice->logprobs.offset;
        return;
    }
    if (record->kind == RECORD_STAGE || choice->stage.sequences) {
        stage_record(renderer, record, top, out);
        return;
    }
    if (record->kind == RECORD_FINISH) {
        take_finish(renderer, choice, (enum finish_reason)record->reason, out);
        return;
    }
    invariant(record->kind == RECORD_TOKEN, "record of kind %d without a stage", record->kind);
    if (o->logprobs) logprobs_add(&choice->logprobs, o->tokenizer, o->chat, record, top);
    take_token(renderer, choice, record, out);
}

/* --- the order of records */

bool renderer_has_news(const struct renderer *renderer, struct token_log *log)
{
    return renderer->behind || token_log_count(log) > renderer->read;
}

/* The record to be taken next; false: there is none among the first `count`. */
static bool next_record(struct renderer *renderer, struct token_log *log, size_t count,
                        size_t *index)
{
    if (renderer->behind) {
        *index = stage_resume(renderer, log);
        return true;
    }
    while (renderer->read < count) {
        *index = renderer->read++;
        if (!stage_defers(renderer, &log->records[*index])) return true;
        stage_defer(renderer, log, *index);
    }
    return false;
}

bool renderer_read(struct renderer *renderer, struct token_log *log, size_t enough,
                   struct strbuf *out)
{
    size_t index, count = token_log_count(log);
    while (!out || out->length < enough) {
        if (!next_record(renderer, log, count, &index)) return true;
        take_record(renderer, &log->records[index], token_log_top(log, index), out);
    }
    return !renderer->behind && renderer->read == count;
}
