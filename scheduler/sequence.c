#include "scheduler/sequence.h"
#include "base/base.h"

bool sequence_ends_with(const struct sequence *seq, int32_t token)
{
    const struct request_params *params = &seq->request->params;
    if (seq->generated <= params->min_tokens) return false; /* the token is counted already */
    for (int32_t i = params->ignore_eos ? params->eos_count : 0; i < params->stop_count; i++)
        if (params->stop_ids[i] == token) return true;
    return false;
}

static void check_numbers(const struct sequence *seq)
{
    unsigned long long id = seq->request->id;
    int32_t slots = seq->table.count * KV_BLOCK_SLOTS;
    invariant(seq->given >= 1 && seq->length <= seq->capacity &&
                  (seq->finished || seq->length == seq->given + seq->generated),
              "sequence %llu.%d knows %d tokens, %d given and %d generated, of %d", id, seq->index,
              seq->length, seq->given, seq->generated, seq->capacity);
    invariant(seq->generated >= 0 && seq->generated <= seq->max_tokens,
              "sequence %llu.%d has %d of %d tokens", id, seq->index, seq->generated,
              seq->max_tokens);
    invariant(seq->pending >= 0 && seq->pending <= seq->in_flight,
              "sequence %llu.%d awaits %d tokens of %d rows", id, seq->index, seq->pending,
              seq->in_flight);
    invariant(seq->landed >= 0 && seq->landed <= seq->computed && seq->computed <= slots,
              "sequence %llu.%d: %d slots landed, %d computed, %d held", id, seq->index,
              seq->landed, seq->computed, slots);
    invariant(seq->chained >= 0 && seq->chained <= seq->table.count,
              "sequence %llu.%d: %d of %d blocks in the tree", id, seq->index, seq->chained,
              seq->table.count);
    invariant(!seq->finished || seq->needed <= seq->length,
              "sequence %llu.%d: %d of %d slots are needed", id, seq->index, seq->needed,
              seq->length);
}

void sequence_check(const struct sequence *seq)
{
    unsigned long long id = seq->request->id;
    check_numbers(seq);
    switch (seq->state) {
    case SEQUENCE_ABSENT:
    case SEQUENCE_GONE:
        invariant(seq->table.count == 0 && seq->in_flight == 0 && seq->computed == 0,
                  "sequence %llu.%d is away with %d blocks and %d rows in flight", id, seq->index,
                  seq->table.count, seq->in_flight);
        invariant(seq->state == SEQUENCE_ABSENT || seq->finished,
                  "sequence %llu.%d is gone and has not ended", id, seq->index);
        break;
    case SEQUENCE_RESIDENT:
        invariant(seq->finished ||
                      blocks_for_slots(seq->given - sequence_leaves_last(seq)) <= seq->table.count,
                  "sequence %llu.%d is resident with %d blocks for %d given tokens", id, seq->index,
                  seq->table.count, seq->given);
        break;
    case SEQUENCE_LEAVING:
        /* (When all of its request leaves, it waits for the rows of the others.) */
        invariant(seq->in_flight > 0 || seq->request->state != REQUEST_RUNNING,
                  "sequence %llu.%d leaves with no row in flight", id, seq->index);
        break;
    }
}
