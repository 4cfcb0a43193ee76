/* The server's own members, for the files of this room. */
#ifndef SERVER_SERVER_INTERNAL_H
#define SERVER_SERVER_INTERNAL_H

#include "base/strbuf.h"
#include "server/acceptor.h"
#include "server/auth.h"
#include "server/frontend.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/watcher.h"

#include <microhttpd.h>
#include <stdatomic.h>

struct server {
    struct server_options options;
    struct served_model model; /* complete once `loaded` is true */
    int64_t created;           /* seconds since 1970, of the model's attachment */
    struct strbuf openapi;     /* the document at /openapi.json, from the attachment on */
    _Atomic bool loaded, draining, stopping;

    int listener, port;
    struct acceptor *acceptor;
    struct MHD_Daemon *daemon;
    struct watcher *watcher;
    struct frontend *frontend;
    struct auth *auth; /* NULL: no keys are asked for */
    struct metrics metrics;

    _Atomic int64_t body_bytes;   /* of requests being read or parsed; at most limits.max_bodies */
    _Atomic int64_t answer_bytes; /* what answers may grow to; at most limits.max_answers */
    _Atomic int32_t exchanges;    /* that are not freed */
    _Atomic int32_t active;       /* exchanges handed to the front-end whose answer has not left */
};

/* Takes `bytes` of a budget of `most`; false, and nothing taken, where so many are not left. They
 * are given back by atomic_fetch_sub. */
bool budget_take(_Atomic int64_t *used, int64_t bytes, int64_t most);

/* MHD's callbacks (connection.c). */
enum MHD_Result connection_handle(void *server, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **exchange);
void connection_completed(void *server, struct MHD_Connection *connection, void **exchange,
                          enum MHD_RequestTerminationCode why);
void connection_changed(void *server, struct MHD_Connection *connection, void **slot,
                        enum MHD_ConnectionNotificationCode what);

#endif
