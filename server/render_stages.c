#include "base/alloc.h"
#include "server/render_private.h"

#include <stdlib.h>
#include <string.h>

/* --- sequences */

static bool in_reading_order(const struct renderer *renderer)
{
    return !renderer->options.branch_events;
}

/* Its records are read from here on. */
static void open_sequence(const struct stage *stage, struct sequence *sequence)
{
    choice_text_init(&sequence->text, stage->stops.stops, stage->stops.count);
    choice_text_keep(&sequence->text);
}

static void release_sequence(struct sequence *sequence)
{
    choice_text_release(&sequence->text);
    free(sequence->waiting.ids);
    sequence->text = (struct choice_text){0};
    sequence->waiting = (struct token_list){0};
}

void stage_release(struct stage *stage)
{
    for (int32_t i = 0; stage->sequences && i < stage->count; i++)
        release_sequence(&stage->sequences[i]);
    free(stage->sequences);
    stage->sequences = NULL;
}

/* --- reading order: what has to wait stays in the log, as a list for each branch */

bool stage_defers(const struct renderer *renderer, const struct token_record *record)
{
    const struct stage *stage = &renderer->choices[record->choice].stage;
    return in_reading_order(renderer) && stage->sequences && record->branch > stage->turn &&
           (record->kind == RECORD_TOKEN || record->kind == RECORD_GIVEN ||
            record->kind == RECORD_END);
}

void stage_defer(struct renderer *renderer, struct token_log *log, size_t index)
{
    struct token_record *record = &log->records[index];
    struct stage *stage = &renderer->choices[record->choice].stage;
    invariant(record->branch < stage->count, "branch %d of %d", record->branch, stage->count);
    struct sequence *sequence = &stage->sequences[record->branch];
    record->link = 0;
    if (sequence->last)
        log->records[sequence->last - 1].link = (uint32_t)(index + 1);
    else
        sequence->first = index + 1;
    sequence->last = index + 1;
}

size_t stage_resume(struct renderer *renderer, struct token_log *log)
{
    struct stage *stage = &renderer->behind->stage;
    struct sequence *sequence = &stage->sequences[stage->turn];
    size_t index = sequence->first - 1;
    sequence->first = log->records[index].link;
    if (!sequence->first) renderer->behind = NULL;
    return index;
}

/* A branch has ended: the next one's turn. */
static void pass_turn(struct renderer *renderer, struct choice *choice)
{
    struct stage *stage = &choice->stage;
    if (++stage->turn == stage->count) return;
    struct sequence *next = &stage->sequences[stage->turn];
    open_sequence(stage, next);
    if (next->first) renderer->behind = choice;
}

/* --- events */

static void branch_event(struct renderer *renderer, struct choice *choice, int32_t branch,
                         const char *event, struct strbuf *out)
{
    struct event_label label = {choice->stage.number, branch, event};
    render_event(renderer, choice, &label, out);
}

/* The forks of the branches before `branch`: what is gathered was given to the first of them. */
static void fork_events(struct renderer *renderer, struct choice *choice, int32_t branch,
                        struct strbuf *out)
{
    struct stage *stage = &choice->stage;
    if (in_reading_order(renderer) || !stage->parallel) return;
    for (; stage->forks < branch; stage->forks++)
        branch_event(renderer, choice, stage->forks, "fork", out);
}

static bool has_gathered(const struct choice *choice)
{
    return choice->shown.length || choice->tokens.count || choice->logprobs.tokens.length;
}

/* --- text */

/* Whatever is shown goes through here: text_offset goes on from how much it is. */
static void show(struct renderer *renderer, struct choice *choice, const char *text, size_t length)
{
    if (renderer->options.logprobs) choice->stage.characters += logprobs_characters(text, length);
    strbuf_append(&choice->shown, text, length);
}

static void show_piece(struct renderer *renderer, struct choice *choice)
{
    show(renderer, choice, strbuf_cstr(&renderer->piece), renderer->piece.length);
}

/* The sequence's prompt is complete: ids may end it within a character. */
static void end_prompt(struct renderer *renderer, struct choice *choice, struct sequence *sequence)
{
    if (sequence->sampled) return;
    sequence->sampled = true;
    strbuf_clear(&renderer->piece);
    detokenizer_finish(&sequence->given, &renderer->piece);
    show_piece(renderer, choice);
}

/* Ids that stay in the context leave those that wait. */
static void release_ids(struct choice *choice, struct sequence *sequence)
{
    size_t count = (size_t)(sequence->text.kept - sequence->released);
    if (!sequence->waiting.count || !count) return;
    for (size_t i = 0; i < count; i++)
        token_list_append(&choice->tokens, sequence->waiting.ids[i]);
    sequence->waiting.count -= count;
    memmove(sequence->waiting.ids, sequence->waiting.ids + count,
            sequence->waiting.count * sizeof *sequence->waiting.ids);
    sequence->released = sequence->text.kept;
}

/* Nothing will be sampled any more. */
static void end_text(struct renderer *renderer, struct choice *choice, struct sequence *sequence)
{
    end_prompt(renderer, choice, sequence);
    strbuf_clear(&renderer->piece);
    choice_text_end(&sequence->text, &renderer->piece);
    show_piece(renderer, choice);
    release_ids(choice, sequence);
}

/* --- records */

static void begin_stage(struct renderer *renderer, struct choice *choice,
                        const struct token_record *record)
{
    const struct render_options *o = &renderer->options;
    struct stage *stage = &choice->stage;
    invariant(stage->ended == stage->count, "%d of %d branches ended", stage->ended, stage->count);
    invariant(record->branch > 0, "a stage without branches");
    stage_release(stage);
    *stage = (struct stage){
        .number = record->stage,
        .count = record->branch,
        .parallel = record->parallel,
        .stops = record->stops < 0 ? (struct stop_set){o->stops, o->stop_count}
                                   : o->stop_sets[record->stops],
        .characters = choice->logprobs.offset,
    };
    stage->sequences = must_alloc((size_t)stage->count * sizeof *stage->sequences);
    int32_t open = in_reading_order(renderer) ? 1 : stage->count;
    for (int32_t i = 0; i < open; i++)
        open_sequence(stage, &stage->sequences[i]);
}

/* A token that has no probability. The text of which `skipped` bytes are has its entries already;
 * chats have no place for one without a number. */
static void add_given(struct renderer *renderer, struct choice *choice, int32_t token,
                      size_t skipped, bool hidden)
{
    const struct render_options *o = &renderer->options;
    if (!o->logprobs || o->chat || hidden) return;
    choice->logprobs.offset -= logprobs_characters(strbuf_cstr(&renderer->piece), skipped);
    logprobs_add_given(&choice->logprobs, o->tokenizer, token);
}

static void take_given(struct renderer *renderer, struct choice *choice, struct sequence *sequence,
                       const struct token_record *record)
{
    const struct render_options *o = &renderer->options;
    struct strbuf *piece = &renderer->piece;
    if (sequence->sampled) end_text(renderer, choice, sequence);
    strbuf_clear(piece);
    detokenizer_push(&sequence->given, o->tokenizer, record->token, false, piece);
    sequence->skip += record->skip;
    size_t skipped = sequence->skip < piece->length ? sequence->skip : piece->length;
    bool hidden = sequence->skip > 0 && skipped == piece->length;
    sequence->skip -= skipped;
    add_given(renderer, choice, record->token, skipped, hidden);
    if (o->return_token_ids) token_list_append(&choice->tokens, record->token);
    show(renderer, choice, strbuf_cstr(piece) + skipped, piece->length - skipped);
}

static void take_token(struct renderer *renderer, struct choice *choice, struct sequence *sequence,
                       const struct token_record *record, const struct token_logprob *top)
{
    const struct render_options *o = &renderer->options;
    struct strbuf *piece = &renderer->piece;
    end_prompt(renderer, choice, sequence);
    renderer->completion_tokens++;
    if (o->logprobs) logprobs_add(&choice->logprobs, o->tokenizer, o->chat, record, top);
    if (record->ends) return; /* it leaves the context, so it is no part of the text */
    strbuf_clear(piece);
    choice_text_push(&sequence->text, o->tokenizer, record->token, o->min_tokens, o->include_stop,
                     piece);
    if (record->skip) {
        size_t cut = record->skip < piece->length ? record->skip : piece->length;
        choice_text_cut(&sequence->text, cut);
        strbuf_truncate(piece, piece->length - cut);
    }
    choice_text_settle(&sequence->text);
    if (o->return_token_ids) token_list_append(&sequence->waiting, record->token);
    release_ids(choice, sequence);
    show_piece(renderer, choice);
}

static void take_end(struct renderer *renderer, struct choice *choice, struct sequence *sequence,
                     const struct token_record *record, struct strbuf *out)
{
    struct stage *stage = &choice->stage;
    end_text(renderer, choice, sequence);
    /* A stop string completed by the very last token allowed is a stop. */
    bool stopped = record->reason == FINISH_LENGTH && sequence->text.stopped;
    if (!stopped && record->reason > stage->reason) stage->reason = record->reason;
    release_sequence(sequence);
    stage->ended++;
    choice->logprobs.offset = stage->characters;
    if (in_reading_order(renderer)) {
        pass_turn(renderer, choice);
        return;
    }
    if (stage->reason >= FINISH_ABORT) return; /* a prompt without a token, a held back half stop */
    if (has_gathered(choice)) branch_event(renderer, choice, record->branch, "token", out);
    if (stage->parallel && stage->ended == stage->count)
        branch_event(renderer, choice, 0, "join", out);
}

static void take_finish(struct renderer *renderer, struct choice *choice, enum finish_reason reason,
                        struct strbuf *out)
{
    const struct stage *stage = &choice->stage;
    invariant(reason >= FINISH_ABORT || stage->ended == stage->count, "%d of %d branches ended",
              stage->ended, stage->count);
    choice->finished = true;
    choice->reason = reason < FINISH_ABORT ? stage->reason : reason;
    if (renderer->options.stream && choice->reason < FINISH_ABORT)
        render_event(renderer, choice, NULL, out);
}

static void take_of_sequence(struct renderer *renderer, struct choice *choice,
                             const struct token_record *record, const struct token_logprob *top,
                             struct strbuf *out)
{
    const struct render_options *o = &renderer->options;
    struct stage *stage = &choice->stage;
    invariant(record->branch < stage->count, "branch %d of %d", record->branch, stage->count);
    struct sequence *sequence = &stage->sequences[record->branch];
    bool prompt = record->kind == RECORD_GIVEN && !sequence->sampled;
    fork_events(renderer, choice, prompt ? record->branch : stage->count, out);
    /* Among branches that come as they were sampled each counts its own text. */
    if (o->branch_events) choice->logprobs.offset = sequence->offset;
    if (record->kind == RECORD_GIVEN) {
        take_given(renderer, choice, sequence, record);
    } else if (record->kind == RECORD_TOKEN) {
        take_token(renderer, choice, sequence, record, top);
        if (o->branch_events && (!record->ends || has_gathered(choice)))
            branch_event(renderer, choice, record->branch, "token", out);
        else if (o->stream && !record->ends)
            render_event(renderer, choice, NULL, out);
    } else {
        take_end(renderer, choice, sequence, record, out);
    }
    sequence->offset = choice->logprobs.offset;
}

void stage_record(struct renderer *renderer, const struct token_record *record,
                  const struct token_logprob *top, struct strbuf *out)
{
    struct choice *choice = &renderer->choices[record->choice];
    if (record->kind == RECORD_STAGE)
        begin_stage(renderer, choice, record);
    else if (record->kind == RECORD_FINISH)
        take_finish(renderer, choice, (enum finish_reason)record->reason, out);
    else
        take_of_sequence(renderer, choice, record, top, out);
}
