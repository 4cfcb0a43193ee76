/* The sequences that wait for blocks and a row, in the order of sequence_before: a binary heap.
 *
 * Its size is fixed when it is made, because the number of sequences that can wait is: new ones
 * come only while fewer than max_queue wait, and the rest were running.
 */
#ifndef SCHEDULER_QUEUE_H
#define SCHEDULER_QUEUE_H

#include "scheduler/sequence.h"

struct sequence_queue {
    struct sequence *
        *heap; /* [capacity], the first `count` are used; no entry stands before its parent */
    int32_t count;
    int32_t capacity;
};

bool sequence_queue_init(struct sequence_queue *queue, int32_t capacity); /* false: out of memory */
void sequence_queue_release(struct sequence_queue *queue);

/* The one that stands before all others, or NULL. */
struct sequence *sequence_queue_first(const struct sequence_queue *queue);

void sequence_queue_push(struct sequence_queue *queue, struct sequence *seq);
void sequence_queue_remove(struct sequence_queue *queue, struct sequence *seq);
void sequence_queue_check(const struct sequence_queue *queue);

#endif
