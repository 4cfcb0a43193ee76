/* A server of known timing for load generators: OpenAI-style /v1/completions and
 * /v1/chat/completions as streams, /v1/models, /tokenize (a token a word), /version; no model. One
 * thread, one epoll set. It does wrong whatever it is told to.
 *
 *   main.c      options, sockets, the loop
 *   http.c      requests out of bytes, answers that are whole
 *   answer.c    streams: when which token goes, the bytes of it, and what goes wrong
 *   timers.c    which connection is due next
 */
#ifndef BENCH_STUB_SERVER_H
#define BENCH_STUB_SERVER_H

#include "base/base.h"

#include <jansson.h>

enum fault {
    FAULT_NONE,
    FAULT_429,
    FAULT_503,
    FAULT_500,
    FAULT_400,
    FAULT_STALL,     /* headers and half of the tokens, then nothing */
    FAULT_SILENT,    /* takes the request and says nothing */
    FAULT_BAD_JSON,  /* an event that is no JSON */
    FAULT_BAD_LINE,  /* a line that is no field of server-sent events */
    FAULT_LONG_LINE, /* a line of 3 MiB */
    FAULT_EARLY,     /* closes behind half of the tokens */
    FAULT_RESET,     /* resets the connection there */
    FAULT_NO_ANSWER, /* closes instead of answering */
    FAULT_ERROR,     /* an error event behind half of the tokens, then [DONE] */
    FAULT_HTML,      /* 200 with a page of HTML */
    FAULT_BAD_HTTP,  /* bytes that are no HTTP */
    FAULT_BAD_CHUNK, /* a chunk whose length is no number */
    FAULT_FLOOD,     /* tokens without end */
    FAULT_NO_DONE,   /* a finish reason, then the end without [DONE]: complete all the same */
    FAULT_NO_TOKEN,  /* [DONE] at once */
    FAULT_DIE,       /* the process ends */
    FAULT_COMMENTS,  /* half of the tokens, then comments without end */
    FAULT_OPEN,      /* [DONE], and then the answer does not end */
    FAULTS
};

extern const char *const fault_names[FAULTS];

struct stub_options {
    double ttft_ms, gap_ms;
    double jitter; /* each wait is drawn from 1 - jitter to 1 + jitter of itself */
    uint64_t seed;
    bool bos; /* counts one token more in each prompt */
    enum fault faults[64];
    size_t fault_count; /* request i has fault i modulo this; 0: none ever */
};

struct stub;

struct connection {
    struct stub *stub;
    int fd;
    bool wants_room; /* watched for writing */
    struct strbuf in, out;
    size_t heap_place; /* in the timers, from 1; 0: not there */
    int64_t due_us;
    /* the stream under way */
    bool streaming;
    bool chat, usage;
    enum fault fault;
    int64_t number;      /* of the request */
    int64_t sent, total; /* tokens, all answers together */
    int32_t answers;
    int64_t prompt_tokens;
    struct connection *next_closed;
};

struct stub {
    struct stub_options options;
    struct clock clock;
    int epoll_fd;
    int64_t requests;
    struct connection **heap; /* [heap_count] the earliest first */
    size_t heap_count, heap_room;
    struct connection *closed; /* to be freed behind the events of a round */
};

/* main.c */
void connection_close(struct connection *connection);
void connection_reset(struct connection *connection);
void connection_flush(struct connection *connection); /* writes what it can */

/* http.c */
void http_take(struct connection *connection);
void http_answer(struct connection *connection, int status, const char *type, const char *body);

/* answer.c */
void answer_begin(struct connection *connection, json_t *body, bool chat);
void answer_due(struct connection *connection); /* its time has come */
int64_t count_words(const char *text);

/* timers.c */
void timer_set(struct connection *connection, int64_t due_us);
void timer_clear(struct connection *connection);

#endif
