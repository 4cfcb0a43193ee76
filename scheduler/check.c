/* scheduler_check: every promise between blocks, sequences and queues, as code. Linear in all of
 * them; tests call it after every tick. */
#include "scheduler/core.h"

#include "base/base.h"

#include <stdlib.h>

struct tally {
    int32_t waiting, running;
    int32_t rows_in_flight;
    int64_t sequences, spans;
    int32_t *holders; /* [block_count], counted from the sequences' tables */
};

static void tally_sequence(struct tally *tally, const struct sequence *seq)
{
    enum request_state state = seq->request->state;
    sequence_check(seq);
    invariant(seq->table.count == 0 || state != REQUEST_WAITING,
              "sequence %llu.%d holds %d blocks, its request waits",
              (unsigned long long)seq->request->id, seq->index, seq->table.count);
    /* Whoever is there can read what it attends to. */
    const struct context *context = seq->stage->context;
    bool reads = state == REQUEST_RUNNING && seq->state == SEQUENCE_RESIDENT && context;
    for (int32_t i = 0; reads && i < context->count; i++)
        invariant(context->pieces[i].sequence->state == SEQUENCE_RESIDENT,
                  "sequence %llu.%d attends to one in state %d",
                  (unsigned long long)seq->request->id, seq->index,
                  context->pieces[i].sequence->state);
    invariant(!context || !context->landed || context_pieces_landed(context),
              "sequence %llu.%d: its context is noted as landed and is not",
              (unsigned long long)seq->request->id, seq->index);
    invariant(!sequence_is_live(seq) || seq->state != SEQUENCE_ABSENT || seq->request->any_absent,
              "sequence %llu.%d is absent, which its request does not note",
              (unsigned long long)seq->request->id, seq->index);
    invariant(!sequence_lacks(seq) || seq->request->ended_want || state == REQUEST_ENDED,
              "sequence %llu.%d ended and lacks slots, which its request does not note",
              (unsigned long long)seq->request->id, seq->index);
    tally->sequences++;
    tally->spans += 1 + (context ? context->count : 0);
    for (int32_t i = 0; i < seq->table.count; i++)
        tally->holders[seq->table.blocks[i]]++;
}

static void tally_request(struct tally *tally, const struct request *request)
{
    unsigned long long id = request->id;
    int32_t unfinished = 0, in_flight = 0;
    for (struct sequence *seq = request_begin(request); seq; seq = sequence_next(seq)) {
        tally_sequence(tally, seq);
        unfinished += !seq->finished;
        in_flight += seq->in_flight;
    }
    invariant(unfinished == request->stage->unfinished && in_flight == request->in_flight,
              "request %llu: %d sequences unfinished, %d counted; %d rows in flight, %d counted",
              id, unfinished, request->stage->unfinished, in_flight, request->in_flight);
    invariant((request->state == REQUEST_ENDED) == (unfinished == 0) &&
                  (request->state < REQUEST_LEAVING || in_flight > 0) && request->holds == 0,
              "request %llu in state %d with %d sequences, %d rows in flight, %d holds", id,
              request->state, unfinished, in_flight, request->holds);
    tally->waiting += request->state == REQUEST_WAITING;
    tally->running += request->state == REQUEST_RUNNING;
    tally->rows_in_flight += in_flight;
}

static void check_running(const struct scheduler *s)
{
    invariant(s->running_count <= s->max_rows, "%d requests run, %d may", s->running_count,
              s->max_rows);
    for (int32_t i = 0; i < s->running_count; i++) {
        invariant(s->running[i]->state == REQUEST_RUNNING, "place %d of running is in state %d", i,
                  s->running[i]->state);
        invariant(i == 0 || request_before(s->running[i - 1], s->running[i]),
                  "running is out of order at %d", i);
    }
}

static void check_blocks(const struct scheduler *s, const struct tally *tally)
{
    block_pool_check(s->pool);
    for (int32_t block = 0; block < s->capacity.block_count; block++)
        invariant(tally->holders[block] == block_pool_holders(s->pool, block),
                  "block %d: %d tables name it, %d holders are counted", block,
                  tally->holders[block], block_pool_holders(s->pool, block));
}

static int32_t rows_in_flight(const struct scheduler *s)
{
    int32_t rows = 0;
    for (int32_t i = 0; i < s->in_flight; i++)
        rows += s->steps[(s->oldest + i) % s->capacity.depth].plan.row_count;
    return rows;
}

void scheduler_check(const struct scheduler *s)
{
    struct tally tally = {0};
    tally.holders = must_alloc((size_t)s->capacity.block_count * sizeof *tally.holders);
    for (const struct request *request = s->first; request; request = request->next) {
        invariant(request->next ? request->next->previous == request : s->last == request,
                  "the list of requests breaks after %llu", (unsigned long long)request->id);
        tally_request(&tally, request);
    }
    invariant(tally.waiting == s->waiting.count && tally.running == s->running_count,
              "requests waiting %d, running %d; counted %d, %d", tally.waiting, tally.running,
              s->waiting.count, s->running_count);
    invariant(tally.rows_in_flight == rows_in_flight(s), "%d rows are in flight, %d are awaited",
              rows_in_flight(s), tally.rows_in_flight);
    invariant(tally.sequences == s->sequence_count && tally.spans == s->span_count,
              "%lld sequences with %lld spans, %lld with %lld counted", (long long)tally.sequences,
              (long long)tally.spans, (long long)s->sequence_count, (long long)s->span_count);
    request_queue_check(&s->waiting);
    check_running(s);
    check_blocks(s, &tally);
    free(tally.holders);
}
