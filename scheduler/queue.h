/* The requests that wait for blocks and rows, in the order of request_before: a binary heap.
 *
 * Its size is fixed when it is made, because the number of requests that can wait is: new ones
 * come only while fewer than max_queue wait, and the rest were running.
 */
#ifndef SCHEDULER_QUEUE_H
#define SCHEDULER_QUEUE_H

#include "scheduler/sequence.h"

struct request_queue {
    struct request *
        *heap; /* [capacity], the first `count` are used; no entry stands before its parent */
    int32_t count;
    int32_t capacity;
};

bool request_queue_init(struct request_queue *queue, int32_t capacity); /* false: out of memory */
void request_queue_release(struct request_queue *queue);

/* The one that stands before all others, or NULL. */
struct request *request_queue_first(const struct request_queue *queue);

void request_queue_push(struct request_queue *queue, struct request *request);
void request_queue_remove(struct request_queue *queue, struct request *request);
void request_queue_check(const struct request_queue *queue);

#endif
