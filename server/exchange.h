/* One HTTP request and its answer.
 *
 * While somebody else works on it (a front-end thread, the engine) its connection is suspended and
 * costs no thread. "Parked" is that state, and one atomic flag decides who may end it:
 *
 *     MHD's thread:  suspend; parked = true; look again: is there news? if so, unpark
 *     anyone else:   make news; if parked, unpark
 *     unpark:        if exchange(parked, false) was true: MHD_resume_connection
 *
 * All of it sequentially consistent, so news and sleep cannot miss each other. Whoever wins the
 * flag must resume, and nobody else may: a suspended connection cannot close, so the winner's
 * pointer is alive. The engine's thread never resumes by itself, it asks the watcher
 * (watcher_wake): MHD takes a mutex.
 *
 * References: MHD's thread from creation to completion, each front-end job, each sequence group in
 * the engine, the response, the watcher's lists. The last one frees.
 */
#ifndef SERVER_EXCHANGE_H
#define SERVER_EXCHANGE_H

#include "base/strbuf.h"
#include "server/api_error.h"
#include "server/request_parse.h"
#include "server/server.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct completion;
struct route;

struct exchange {
    _Atomic int refs;
    struct server *server;
    const struct route *route;
    char request_id[129]; /* echoed as X-Request-Id: the client's own where it is clean */
    int64_t received_us;  /* when the body was complete */
    struct api_slo slo;   /* of the header; wins over the body's */

    /* MHD's thread only */
    struct MHD_Connection *connection;
    struct watch_slot *slot;
    struct strbuf body;    /* then the front-end's */
    int64_t body_reserved; /* its part of server.body_bytes */
    int64_t discarded;     /* bytes read after a refusal, so that the client hears of it */
    bool refused, dispatched;
    bool close;             /* no second request on this connection */
    bool counted;           /* in server.active */
    struct api_error error; /* why refused */

    /* between threads */
    _Atomic bool parked, answered, abandoned, linked;
    struct exchange *wake_next; /* watcher's list */
    struct exchange *job_next;  /* front-end's queue */
    struct completion *_Atomic completion;

    /* written before `answered` */
    int status;
    bool stream;
    int retry_after;
    struct strbuf text;
};

struct exchange *exchange_create(struct server *server);
void exchange_ref(struct exchange *exchange);
void exchange_unref(struct exchange *exchange);

/* Whoever has the body (MHD's thread, then the front-end's) needs it no more. */
void exchange_drop_body(struct exchange *exchange);

/* MHD's thread: suspend the connection unless `news` already says there is something to do. */
void exchange_park(struct exchange *exchange, bool (*news)(struct exchange *exchange));

/* Any thread but the engine's: end the park, if it is one. */
void exchange_unpark(struct exchange *exchange);

/* The engine's thread: there is news for HTTP. Lock-free. */
void exchange_notify(struct exchange *exchange);

/* A front-end thread: the answer is known. `text` is taken over; one that failed is refused. */
void exchange_answer(struct exchange *exchange, int status, struct strbuf *text);
void exchange_answer_stream(struct exchange *exchange);
void exchange_refuse(struct exchange *exchange, const struct api_error *error);

/* The client is gone: cancels what runs and lets MHD close the connection. */
void exchange_abandon(struct exchange *exchange);

/* Something an access handler should act on: an answer, or the need to close. */
bool exchange_has_answer(struct exchange *exchange);

#endif
