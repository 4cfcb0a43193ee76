/* Ends: of a sequence, of a stage, of a request.
 *
 * A sequence that ended leaves its tokens to the stages behind (keep_tokens). When the last one of
 * a stage has ended, the next stage begins: at once, with sequences that are absent until they are
 * admitted. The request's last event comes with its last sequence, the memory goes with the last
 * row in flight.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <string.h>

/* What a plan needs room for (core.h). */
void count_stage(struct scheduler *s, const struct stage *stage, int32_t sign)
{
    int32_t pieces = stage->context ? stage->context->count : 0;
    s->sequence_count += sign * stage->count;
    s->span_count += sign * stage->count * (pieces + 1);
}

static void request_unlink(struct scheduler *s, struct request *request)
{
    for (const struct stage *stage = request->first_stage; stage; stage = stage->next)
        count_stage(s, stage, -1);
    if (request->previous)
        request->previous->next = request->next;
    else
        s->first = request->next;
    if (request->next)
        request->next->previous = request->previous;
    else
        s->last = request->previous;
}

void request_hold(struct request *request)
{
    request->holds++;
}

void request_release(struct scheduler *s, struct request *request)
{
    if (--request->holds > 0 || request->state != REQUEST_ENDED || request->in_flight > 0) return;
    request_release_blocks(s, request);
    request_unlink(s, request);
    request_free(request);
}

static void request_done(struct scheduler *s, struct request *request, enum finish_reason reason)
{
    const struct request_events *events = &request->params.events;
    if (request->state == REQUEST_RUNNING) running_remove(s, request);
    if (request->state == REQUEST_WAITING) request_queue_remove(&s->waiting, request);
    request->state = REQUEST_ENDED;
    request->stats.finish_us = clock_now(&s->clock);
    request->stats.reason = reason;
    note_residence(s, request);
    events->done(events->context, &request->stats);
}

/* --- stages */

static void start_stage(struct scheduler *s, struct request *request, struct stage *stage)
{
    stage_append(&s->limits.hasher, request, stage);
    count_stage(s, stage, 1);
    for (int32_t i = 0; i < stage->count; i++)
        stage->sequences[i].name = ++s->last_sequence;
}

/* The prompts alone are longer than the positions that are left. */
static bool too_long(const struct request *request, const struct stage *stage)
{
    for (int32_t i = 0; i < stage->count; i++)
        if (stage->context->position + stage->sequences[i].given > request->params.extent.positions)
            return true;
    return false;
}

/* Its sequences end before they begin. */
static void refuse_stage(struct scheduler *s, struct request *request,
                         const struct stage_params *params, enum finish_reason reason)
{
    const struct request_events *events = &request->params.events;
    for (int32_t i = 0; i < params->count; i++) {
        struct sequence_ending ending = {.reason = reason};
        s->counters.finished[reason]++;
        events->finish(events->context, params->first_index + i, &ending);
    }
    request_done(s, request, reason);
}

/* Behind a stage whose sequences have all ended. */
static void next_stage(struct scheduler *s, struct request *request, enum finish_reason reason)
{
    const struct request_events *events = &request->params.events;
    struct stage_params params = {0};
    if (request->stage->last || !events->next || !events->next(events->context, &params)) {
        request_done(s, request, reason);
        return;
    }
    struct stage *stage = stage_create(request, &params);
    if (stage && !too_long(request, stage)) {
        start_stage(s, request, stage);
        s->unfinished_count += stage->count;
        return;
    }
    if (!stage)
        log_warn("request %llu ends: no memory for a stage of %d branches",
                 (unsigned long long)request->id, params.count);
    refuse_stage(s, request, &params, stage ? FINISH_LENGTH : FINISH_ERROR);
    stage_free(stage);
}

void stage_pass_trunk(struct scheduler *s, struct request *request)
{
    struct sequence *trunk = &request->stage->sequences[0];
    if (trunk->index >= 0 || trunk->finished || trunk->landed < sequence_target(trunk)) return;
    trunk->finished = true;
    trunk->needed = trunk->same = trunk->length - 1;
    request->stage->unfinished--;
    start_stage(s, request, request->answers);
    request->answers = NULL;
}

/* --- sequences */

bool request_pass_stage(struct scheduler *s, struct request *request)
{
    struct sequence *seq = &request->stage->sequences[0];
    if (seq->finished || seq->state != SEQUENCE_RESIDENT || !sequence_leaves_last(seq) ||
        seq->landed < sequence_target(seq))
        return false;
    s->idle_ticks = 0; /* something moved, although nothing was computed */
    if (seq->index < 0)
        stage_pass_trunk(s, request);
    else
        sequence_end(s, seq, FINISH_LENGTH, false);
    return true;
}

/* What a sequence that ended leaves to the stages behind: its tokens, and how many of its slots. */
static void keep_tokens(struct sequence *seq, const struct sequence_ending *ending)
{
    int32_t last = seq->request->params.extent.positions - sequence_first_position(seq);
    seq->length = seq->given + max_i32(0, min_i32(ending->kept, seq->generated));
    int32_t room = min_i32(seq->capacity, last) - seq->length;
    int32_t appended = max_i32(0, min_i32(room, ending->appended_count));
    int32_t same = seq->length;
    if (appended) {
        int32_t *old = seq->tokens;
        seq->tokens = memcpy(seq->spare, old, (size_t)seq->length * sizeof *old);
        seq->spare = old;
    }
    for (int32_t i = 0; i < appended; i++)
        seq->tokens[seq->length++] = ending->appended[i];
    seq->needed = seq->stage->parallel ? seq->length : seq->length - 1;
    seq->same = min_i32(same, seq->needed);
    seq->landed = min_i32(seq->landed, seq->same);
    seq->request->ended_want = true; /* at least until somebody has looked */
}

static void report_end(struct scheduler *s, struct sequence *seq, enum finish_reason reason,
                       bool by_token)
{
    const struct request_events *events = &seq->request->params.events;
    struct sequence_ending ending = {
        .reason = reason, .generated = seq->generated, .kept = seq->generated - by_token};
    seq->finished = true;
    seq->stage->unfinished--;
    s->unfinished_count--;
    s->counters.finished[reason]++;
    events->finish(events->context, seq->index, &ending);
    if (seq->stage->last || reason >= FINISH_ABORT)
        seq->needed = seq->same = 0;
    else
        keep_tokens(seq, &ending);
}

void sequence_end(struct scheduler *s, struct sequence *seq, enum finish_reason reason,
                  bool by_token)
{
    struct request *request = seq->request;
    report_end(s, seq, reason, by_token);
    if (seq->stage->unfinished == 0) next_stage(s, request, reason);
}

void request_end(struct scheduler *s, struct request *request, enum finish_reason reason)
{
    struct stage *stage = request->answers ? request->answers : request->stage;
    request_hold(request);
    if (request->answers) { /* it ends with its trunk, which nobody hears of */
        request->stage->sequences[0].finished = true;
        request->stage->unfinished = 0;
    }
    if (request->state != REQUEST_ENDED) {
        for (int32_t i = 0; i < stage->count; i++)
            if (!stage->sequences[i].finished) report_end(s, &stage->sequences[i], reason, false);
        request_done(s, request, reason);
    }
    request_release(s, request);
}

/* Slots from `same` on hold the KV of tokens that were cut; blocks of them may be in the tree,
 * where nobody may write. Nothing of the sequence is in flight, so they can be given back. */
static void cut_tail(struct scheduler *s, struct sequence *seq)
{
    bool writes = seq->needed > seq->same;
    int32_t keep = writes && seq->chained * KV_BLOCK_SLOTS > seq->same
                       ? seq->same / KV_BLOCK_SLOTS
                       : blocks_for_slots(seq->needed);
    while (seq->table.count > keep)
        block_pool_drop(s->pool, seq->table.blocks[--seq->table.count]);
    if (seq->chained > keep) prefix_cut(s, seq, keep);
    int32_t slots = min_i32(seq->same, seq->table.count * KV_BLOCK_SLOTS);
    seq->computed = min_i32(seq->computed, slots);
    seq->landed = min_i32(seq->landed, slots);
    seq->same = seq->needed;
    seq->request->ended_want = true;
}

void row_landed(struct scheduler *s, struct sequence *seq)
{
    struct request *request = seq->request;
    if (request->state == REQUEST_LEAVING && request->in_flight == 0) request_requeue(s, request);
    if (request->state != REQUEST_RUNNING || seq->in_flight > 0) return;
    if (seq->finished && seq->needed > 0) {
        seq->state = SEQUENCE_RESIDENT; /* not leaving any more: others will attend to it */
        cut_tail(s, seq);
    } else if (seq->finished || seq->state == SEQUENCE_LEAVING) {
        sequence_release(s, seq);
    }
}
