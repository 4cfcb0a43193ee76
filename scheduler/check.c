/* scheduler_check: every promise between blocks, sequences and queues, as code. Linear in all of
 * them; tests call it after every tick. */
#include "scheduler/core.h"

#include "base/base.h"

#include <stdlib.h>

struct tally {
    int32_t waiting, running, leaving;
    int32_t rows_in_flight;
    int32_t *holders; /* [block_count], counted from the sequences' tables */
};

static void tally_sequence(struct tally *tally, const struct sequence *seq)
{
    sequence_check(seq);
    tally->waiting += seq->state == SEQUENCE_WAITING;
    tally->running += seq->state == SEQUENCE_RUNNING;
    tally->leaving += seq->state == SEQUENCE_LEAVING;
    tally->rows_in_flight += seq->in_flight;
    for (int32_t i = 0; i < seq->table.count; i++)
        tally->holders[seq->table.blocks[i]]++;
}

static void tally_request(struct tally *tally, const struct request *request)
{
    int32_t unfinished = 0, unsettled = 0;
    for (int32_t i = 0; i < request->params.n; i++) {
        tally_sequence(tally, &request->sequences[i]);
        unfinished += request->sequences[i].state != SEQUENCE_ENDED;
        unsettled += !request->sequences[i].settled;
    }
    invariant(unfinished == request->unfinished && unsettled == request->uses && unsettled > 0,
              "request %llu: %d sequences unfinished, %d counted; %d not settled, %d counted",
              (unsigned long long)request->id, unfinished, request->unfinished, unsettled,
              request->uses);
}

static void check_running(const struct scheduler *s)
{
    invariant(s->running_count <= s->max_rows, "%d sequences run, %d may", s->running_count,
              s->max_rows);
    for (int32_t i = 0; i < s->running_count; i++) {
        invariant(s->running[i]->state == SEQUENCE_RUNNING, "place %d of running is in state %d", i,
                  s->running[i]->state);
        invariant(i == 0 || sequence_before(s->running[i - 1], s->running[i]),
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
    invariant(tally.waiting == s->waiting.count && tally.running == s->running_count &&
                  tally.leaving == s->leaving,
              "sequences waiting %d, running %d, leaving %d; counted %d, %d, %d", tally.waiting,
              tally.running, tally.leaving, s->waiting.count, s->running_count, s->leaving);
    invariant(tally.rows_in_flight == rows_in_flight(s), "%d rows are in flight, %d are awaited",
              rows_in_flight(s), tally.rows_in_flight);
    sequence_queue_check(&s->waiting);
    check_running(s);
    check_blocks(s, &tally);
    free(tally.holders);
}
