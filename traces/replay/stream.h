/* One request on its way: the curl handle, the reading of its answer, and what it becomes. */
#ifndef TRACES_REPLAY_STREAM_H
#define TRACES_REPLAY_STREAM_H

#include "base/clock.h"
#include "traces/replay/event.h"
#include "traces/replay/flight.h"
#include "traces/replay/sse.h"
#include "traces/replay/target.h"

#include <curl/curl.h>

/* What all streams of a run share. */
struct stream_context {
    const struct target *target;
    struct clock clock;
    int64_t start_us;          /* the run's beginning */
    char *url;                 /* of the endpoint */
    struct stream_event event; /* the one being read: large, and one at a time */
};

struct stream {
    struct stream_context *context;
    struct stream *next, *previous; /* in the client's list */
    CURL *easy;
    struct curl_slist *headers;
    struct strbuf body;
    struct sse_reader sse;
    struct strbuf refusal; /* the body of an answer that is no stream */
    struct flight flight;
    int64_t last_byte_us;    /* or when it was sent */
    int64_t progress_us;     /* the last token, branch event or [DONE], or when it was sent */
    int http_status;         /* 0: nothing came */
    bool is_stream, done;    /* done: [DONE] came */
    bool cut, lengthened;    /* its prompt: to --max-prompt, to what the server's own tokens take */
    bool refused_descriptor; /* the system gave no socket */
    char failure[96];        /* found while reading; "": none */
};

/* Microseconds since the run's beginning. */
int64_t stream_now(const struct stream_context *context);

struct stream *stream_create(struct stream_context *context);
void stream_free(struct stream *stream);

/* Makes the handle ready for what stands in body and flight. */
void stream_prepare(struct stream *stream);

/* Bytes of the answer's stream, which came at last_byte_us. false: it has failed, `failure` says
 * how.
 */
bool stream_take(struct stream *stream, const char *bytes, size_t length);

/* The transfer ended with `code`, or the run gave it up (`given_up`: a reason, or "" for a run that
 * ended first): outcome, reason and times go into the flight. */
void stream_end(struct stream *stream, CURLcode code, const char *given_up);

#endif
