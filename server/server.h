/* server/: the OpenAI API over HTTP, in front of one engine.
 *
 *   limits.h         every limit a client can meet, with its small default
 *   api_error.h      what a refused client is told: status and the four fields of the contract
 *   request_head.h   a header: sizes, framing, ids, paths
 *   request_parse.h  a JSON body to a checked request; nothing reaches the engine unchecked
 *   outline.h        the items of a list that a model wrote, for stages
 *   tag_grammar.h    the tags with which a model branches by itself
 *   branching/       answers in stages: what their fields become for the scheduler
 *   token_log.h      the tokens of one answer, from the engine's thread to HTTP, without a lock
 *   render.h         tokens to the bytes of a JSON answer or of server-sent events
 *   completion.h     one completion: its sequences in the engine, its events, its answer
 *   acceptor.h       the thread that takes connections and hands them to MHD
 *   exchange.h       one HTTP request and its answer, on a connection that waits without a thread
 *   frontend.h       the bounded queue of threads that parse, tokenize and render
 *   watcher.h        the thread that resumes connections and notices clients that leave
 *   metrics.h        counters and histograms, and their Prometheus text
 *   auth.h           API keys, compared as digests in constant time
 *   slo_classes.h    requests that met their SLO, by class, among the metrics
 *   slo_options.h    --slo-ttft and --slo-tpot: the SLO of requests that name none
 *   serve_predictor.h  what steps take: measured at the start, learned, kept (predictor_file.h)
 *   commands.h       `espalier serve`
 *
 * Threads. MHD's own thread moves bytes: it collects a body up to its limit, suspends the
 * connection and passes the exchange to a front-end thread, which parses it, renders the chat,
 * tokenizes and submits to the engine. The engine's thread writes tokens into the exchange's log
 * and asks the watcher, through a lock-free list, to resume the connection; MHD's thread then
 * renders what the log holds. No step of the engine waits for a client, for MHD or for a lock that
 * either can hold for long.
 *
 * Life: server_create listens and answers 503 "loading"; server_attach opens the doors;
 * server_drain refuses new work (503) while what runs finishes; server_free ends what is left and
 * frees everything.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/clock.h"
#include "base/status.h"
#include "model/chat.h"
#include "scheduler/engine.h"
#include "server/limits.h"

#include <stdbool.h>
#include <stdint.h>

/* The server's whole knowledge of a model, so that tests can put anything behind it. */
struct served_model {
    const char *name;
    const struct tokenizer *tokenizer;
    enum chat_template chat;
    int32_t context; /* positions a sequence may take, prompt and answer */
    int32_t vocab;   /* ids a prompt may name: 0 .. vocab - 1 */
    const int32_t *eos;
    int32_t eos_count;
    struct engine *engine;
    struct request_slo slo; /* of requests that name none */
};

struct server_options {
    const char *host; /* a numeric address or a name; 127.0.0.1 by default */
    int port;         /* 0: any free one */
    struct server_limits limits;
    const char *api_key_file; /* NULL: no keys are asked for */
    bool metrics_public;      /* /metrics without a key even when keys are asked for */
    int frontends;            /* threads that parse and tokenize */
    struct clock clock;
};
struct server_options server_options_default(void);

struct server;

/* Binds and listens; every answer is 503 until server_attach. ST_IO with one line that says what to
 * do when the port is taken. */
enum status server_create(const struct server_options *options, struct server **out,
                          struct error *err);
int server_port(const struct server *server);

/* From now on requests are taken. `model` is copied; what it points at is borrowed until
 * server_free. */
void server_attach(struct server *server, const struct served_model *model);

/* From now on new work is refused with 503; what was accepted goes on. */
void server_drain(struct server *server);

/* Waits until every accepted answer has left (true) or the time is over (false). */
bool server_wait_idle(struct server *server, int64_t timeout_us);

/* Asks the engine to end every accepted completion now; their clients get an error and [DONE]. */
void server_cancel_all(struct server *server);

/* Stops the threads and closes every connection. The engine must still be alive. Call
 * server_cancel_all and server_wait_idle before, for a polite end. */
void server_free(struct server *server);

#endif
