/* The threads that parse, render chats, tokenize and write whole answers, so that neither MHD's
 * thread nor the engine's does. Two queues: new requests, bounded (what does not fit is refused
 * with 503), and finished ones whose answer is to be written, which were accepted before and so
 * always fit. */
#ifndef SERVER_FRONTEND_H
#define SERVER_FRONTEND_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct exchange;
struct frontend;

struct frontend_work {
    void (*start)(struct exchange *exchange);  /* parse, tokenize, submit or answer */
    void (*finish)(struct exchange *exchange); /* write the answer */
};

enum status frontend_create(int threads, int32_t max_pending, struct frontend_work work,
                            struct frontend **out, struct error *err);

/* Both take a reference until the work is done. false: the queue is full. */
bool frontend_start(struct frontend *frontend, struct exchange *exchange);
void frontend_finish(struct frontend *frontend, struct exchange *exchange);

/* Does what is queued, then joins the threads. */
void frontend_free(struct frontend *frontend);

#endif
