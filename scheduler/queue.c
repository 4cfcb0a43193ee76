#include "scheduler/queue.h"
#include "base/base.h"

#include <stdlib.h>

bool sequence_queue_init(struct sequence_queue *queue, int32_t capacity)
{
    *queue = (struct sequence_queue){.capacity = capacity};
    queue->heap = try_alloc((size_t)capacity, sizeof *queue->heap);
    return queue->heap != NULL;
}

void sequence_queue_release(struct sequence_queue *queue)
{
    free(queue->heap);
}

struct sequence *sequence_queue_first(const struct sequence_queue *queue)
{
    return queue->count ? queue->heap[0] : NULL;
}

static void place(struct sequence_queue *queue, int32_t at, struct sequence *seq)
{
    queue->heap[at] = seq;
    seq->queue_index = at;
}

static void sift_up(struct sequence_queue *queue, int32_t at, struct sequence *seq)
{
    while (at > 0 && sequence_before(seq, queue->heap[(at - 1) / 2])) {
        place(queue, at, queue->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(queue, at, seq);
}

static void sift_down(struct sequence_queue *queue, int32_t at, struct sequence *seq)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= queue->count) break;
        if (child + 1 < queue->count && sequence_before(queue->heap[child + 1], queue->heap[child]))
            child++;
        if (!sequence_before(queue->heap[child], seq)) break;
        place(queue, at, queue->heap[child]);
        at = child;
    }
    place(queue, at, seq);
}

void sequence_queue_push(struct sequence_queue *queue, struct sequence *seq)
{
    invariant(queue->count < queue->capacity, "%d sequences wait in a queue of %d", queue->count,
              queue->capacity);
    sift_up(queue, queue->count++, seq);
}

void sequence_queue_remove(struct sequence_queue *queue, struct sequence *seq)
{
    int32_t at = seq->queue_index;
    invariant(at >= 0 && at < queue->count && queue->heap[at] == seq,
              "sequence %llu.%d is not at place %d of the queue",
              (unsigned long long)seq->request->id, seq->index, at);
    struct sequence *last = queue->heap[--queue->count];
    if (last == seq) return;
    /* `last` comes from another part of the heap, so it may have to go either way. */
    if (at > 0 && sequence_before(last, queue->heap[(at - 1) / 2]))
        sift_up(queue, at, last);
    else
        sift_down(queue, at, last);
}

void sequence_queue_check(const struct sequence_queue *queue)
{
    for (int32_t i = 0; i < queue->count; i++) {
        const struct sequence *seq = queue->heap[i];
        invariant(seq->queue_index == i && seq->state == SEQUENCE_WAITING,
                  "place %d of the queue holds a sequence of place %d, state %d", i,
                  seq->queue_index, seq->state);
        invariant(i == 0 || sequence_before(queue->heap[(i - 1) / 2], seq),
                  "place %d of the queue stands before its parent", i);
    }
}
