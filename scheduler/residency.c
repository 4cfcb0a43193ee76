/* Who holds blocks: admission, growth, preemption, and giving back.
 *
 * Admission is strict: the first in the queue waits until the pool has room for everything it knows
 * (its prompt, or prompt and answer so far when it was preempted), and nobody overtakes it. So a
 * big request is not starved by small ones: while it waits, those that run come to their end and
 * nobody takes their room. Beside others it also leaves one free block for each of them, or the
 * next few tokens of those would preempt the newcomer again.
 *
 * When the pool is dry, a running sequence takes room from the one that stands last: the least
 * urgent, latest arrival. It goes back to the queue with its tokens and computes them again later.
 * So the first sequence can always grow: it is never a victim while another runs, and alone the
 * whole pool is its own, which is enough because requests that are longer than the pool are
 * refused.
 *
 * Blocks are given back only when no step in flight can still write them; until then a sequence
 * that needs some waits a step instead of preempting another.
 */
#include "scheduler/core.h"

#include "base/base.h"

#include <string.h>

static void running_insert(struct scheduler *s, struct sequence *seq)
{
    int32_t at = s->running_count++;
    for (; at > 0 && sequence_before(seq, s->running[at - 1]); at--)
        s->running[at] = s->running[at - 1];
    s->running[at] = seq;
    seq->state = SEQUENCE_RUNNING;
}

static void running_remove(struct scheduler *s, const struct sequence *seq)
{
    int32_t at = s->running_count - 1; /* victims stand at the back */
    while (at >= 0 && s->running[at] != seq)
        at--;
    invariant(at >= 0, "sequence %llu.%d does not run", (unsigned long long)seq->request->id,
              seq->index);
    size_t after = (size_t)(s->running_count - 1 - at);
    memmove(&s->running[at], &s->running[at + 1], after * sizeof s->running[0]);
    s->running_count--;
}

static bool has_room_for(const struct scheduler *s, const struct sequence *seq)
{
    int32_t need = block_table_missing(&seq->table, sequence_known(seq));
    return (int64_t)need + s->running_count <= block_pool_available(s->pool);
}

static void release_blocks(struct scheduler *s, struct sequence *seq)
{
    block_table_clear(&seq->table, s->pool);
    seq->computed = 0;
    prefix_reset(seq);
}

void admit_waiting(struct scheduler *s)
{
    int64_t now_us = 0;
    struct sequence *seq;
    while (s->running_count < s->max_rows && (seq = sequence_queue_first(&s->waiting))) {
        prefix_take(s, seq);
        if (!has_room_for(s, seq) || !block_table_grow(&seq->table, s->pool, sequence_known(seq))) {
            release_blocks(s, seq);
            return;
        }
        prefix_taken(s, seq);
        sequence_queue_remove(&s->waiting, seq);
        running_insert(s, seq);
        if (now_us == 0) now_us = clock_now(&s->clock);
        struct request_stats *stats = &seq->request->stats;
        if (stats->scheduled_us == 0) stats->scheduled_us = now_us;
    }
}

/* Back to the queue, empty-handed but for its tokens. */
static void requeue(struct scheduler *s, struct sequence *seq)
{
    release_blocks(s, seq);
    seq->state = SEQUENCE_WAITING;
    sequence_queue_push(&s->waiting, seq);
}

static void preempt(struct scheduler *s, struct sequence *seq)
{
    running_remove(s, seq);
    seq->request->stats.preemptions++;
    s->counters.preemptions++;
    if (seq->in_flight == 0) {
        requeue(s, seq);
    } else {
        seq->state = SEQUENCE_LEAVING;
        s->leaving++;
    }
}

/* Blocks that come back when the steps in flight are collected. A sequence has at most one row in a
 * step, and while a step is planned at most one other is in flight, so nothing counts twice. */
static int32_t blocks_returning(const struct scheduler *s)
{
    int32_t count = 0;
    for (int32_t i = 0; i < s->in_flight; i++) {
        const struct step *step = &s->steps[(s->oldest + i) % s->capacity.depth];
        for (int32_t row = 0; row < step->plan.row_count; row++) {
            const struct sequence *seq = step->owners[row];
            if (seq->state == SEQUENCE_LEAVING || seq->state == SEQUENCE_ENDED)
                count += seq->table.count;
        }
    }
    return count;
}

bool make_room(struct scheduler *s, struct sequence *seq, int32_t slots)
{
    while (!block_table_grow(&seq->table, s->pool, slots)) {
        if (blocks_returning(s) > 0) return false;
        struct sequence *victim = s->running[s->running_count - 1];
        preempt(s, victim);
        if (victim == seq) return false;
    }
    return true;
}

static void request_unlink(struct scheduler *s, struct request *request)
{
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
    request->uses++;
}

void request_release(struct scheduler *s, struct request *request)
{
    if (--request->uses > 0) return;
    request_unlink(s, request);
    request_free(request);
}

/* The last thing that happens to a sequence. */
static void settle(struct scheduler *s, struct sequence *seq)
{
    release_blocks(s, seq);
    seq->settled = true;
    request_release(s, seq->request);
}

static void leave_place(struct scheduler *s, struct sequence *seq)
{
    switch (seq->state) {
    case SEQUENCE_WAITING:
        sequence_queue_remove(&s->waiting, seq);
        break;
    case SEQUENCE_RUNNING:
        running_remove(s, seq);
        break;
    case SEQUENCE_LEAVING:
        s->leaving--;
        break;
    case SEQUENCE_ENDED:
        die("sequence %llu.%d ends twice", (unsigned long long)seq->request->id, seq->index);
    }
}

void sequence_end(struct scheduler *s, struct sequence *seq, enum finish_reason reason)
{
    struct request *request = seq->request;
    const struct request_events *events = &request->params.events;
    leave_place(s, seq);
    seq->state = SEQUENCE_ENDED;
    s->counters.finished[reason]++;
    struct sequence_ending ending = {
        .reason = reason, .generated = seq->generated_count, .kept = seq->generated_count};
    events->finish(events->context, seq->index, &ending);
    if (--request->unfinished == 0) {
        request->stats.finish_us = clock_now(&s->clock);
        request->stats.reason = reason;
        events->done(events->context, &request->stats);
    }
    if (seq->in_flight == 0) settle(s, seq);
}

void request_end(struct scheduler *s, struct request *request, enum finish_reason reason)
{
    request_hold(request); /* the last sequence to settle would free it under the loop */
    for (int32_t i = 0; i < request->params.n; i++)
        if (request->sequences[i].state != SEQUENCE_ENDED)
            sequence_end(s, &request->sequences[i], reason);
    request_release(s, request);
}

void row_landed(struct scheduler *s, struct sequence *seq)
{
    if (seq->in_flight > 0) return;
    if (seq->state == SEQUENCE_ENDED && !seq->settled) {
        settle(s, seq);
    } else if (seq->state == SEQUENCE_LEAVING) {
        s->leaving--;
        requeue(s, seq);
    }
}
