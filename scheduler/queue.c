#include "scheduler/queue.h"
#include "base/base.h"

#include <stdlib.h>

bool request_queue_init(struct request_queue *queue, int32_t capacity)
{
    *queue = (struct request_queue){.capacity = capacity};
    queue->heap = try_alloc((size_t)capacity, sizeof *queue->heap);
    return queue->heap != NULL;
}

void request_queue_release(struct request_queue *queue)
{
    free(queue->heap);
}

struct request *request_queue_first(const struct request_queue *queue)
{
    return queue->count ? queue->heap[0] : NULL;
}

static void place(struct request_queue *queue, int32_t at, struct request *request)
{
    queue->heap[at] = request;
    request->queue_index = at;
}

static void sift_up(struct request_queue *queue, int32_t at, struct request *request)
{
    while (at > 0 && request_before(request, queue->heap[(at - 1) / 2])) {
        place(queue, at, queue->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(queue, at, request);
}

static void sift_down(struct request_queue *queue, int32_t at, struct request *request)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child >= queue->count) break;
        if (child + 1 < queue->count && request_before(queue->heap[child + 1], queue->heap[child]))
            child++;
        if (!request_before(queue->heap[child], request)) break;
        place(queue, at, queue->heap[child]);
        at = child;
    }
    place(queue, at, request);
}

void request_queue_push(struct request_queue *queue, struct request *request)
{
    invariant(queue->count < queue->capacity, "%d requests wait in a queue of %d", queue->count,
              queue->capacity);
    sift_up(queue, queue->count++, request);
}

void request_queue_remove(struct request_queue *queue, struct request *request)
{
    int32_t at = request->queue_index;
    invariant(at >= 0 && at < queue->count && queue->heap[at] == request,
              "request %llu is not at place %d of the queue", (unsigned long long)request->id, at);
    struct request *last = queue->heap[--queue->count];
    if (last == request) return;
    /* `last` comes from another part of the heap, so it may have to go either way. */
    if (at > 0 && request_before(last, queue->heap[(at - 1) / 2]))
        sift_up(queue, at, last);
    else
        sift_down(queue, at, last);
}

void request_queue_check(const struct request_queue *queue)
{
    for (int32_t i = 0; i < queue->count; i++) {
        const struct request *request = queue->heap[i];
        invariant(request->queue_index == i && request->state == REQUEST_WAITING,
                  "place %d of the queue holds a request of place %d, state %d", i,
                  request->queue_index, request->state);
        invariant(i == 0 || request_before(queue->heap[(i - 1) / 2], request),
                  "place %d of the queue stands before its parent", i);
    }
}
