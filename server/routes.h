/* The table of endpoints: who may call them, how, and what answers. */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "server/request_parse.h"

#include <stdbool.h>

struct exchange;
struct server;

struct route {
    const char *path;
    const char *method; /* GET (HEAD too) or POST */
    /* GET: writes the answer on MHD's thread, from snapshots only. Returns the HTTP status. */
    int (*get)(struct server *server, struct strbuf *out, struct api_error *error);
    enum api_endpoint endpoint; /* POST: what the body is */
    const char *content_type;
    bool public; /* without a key */
};

const struct route *routes_all(size_t *count);

/* NULL: no such path. */
const struct route *route_find(const char *path);

/* Whether a key is asked for here: the router decides, never a second look at the URL. */
bool route_needs_key(const struct server *server, const struct route *route);

/* The front-end's two kinds of work (frontend.h). */
void route_start(struct exchange *exchange);
void route_finish(struct exchange *exchange);

#endif
