/* A whole server on a scripted executor, and a plain socket to talk to it.
 *
 * The executor's token at position p is the letter 'a' + p % 26, so an answer tells where it began.
 * It can be made to wait before each step (a gate), to fail a step, or to end every sequence with
 * EOS.
 */
#ifndef SUPPORT_SERVER_H
#define SUPPORT_SERVER_H

#include "server/server.h"
#include "support_tokenizer.h"

#include <semaphore.h>
#include <stdatomic.h>

struct script {
    struct executor_capacity capacity;
    _Atomic bool gated; /* each step waits for one post of `gate` */
    sem_t gate;
    _Atomic int64_t fail_at; /* this step fails; 0: none */
    _Atomic int32_t eos_at;  /* position that samples EOS; 0: none */
    _Atomic int64_t steps;   /* collected */
    _Atomic int64_t submitted;
    int32_t tokens[64], row_count; /* of the step in flight */
};

struct world {
    struct script script;
    struct tokenizer *tokenizer;
    struct engine *engine;
    struct server *server;
    struct server_options options;
    struct scheduler_options scheduling;
    struct request_slo slo; /* of requests that name none */
    int32_t eos;
    bool attach;
};

/* Defaults that a test may change before world_start. */
void world_init(struct world *world);
void world_start(struct world *world);
/* Ends the server, then the engine; dies when a block is still held. */
void world_end(struct world *world);
struct served_model world_model(struct world *world);

/* Lets `steps` gated steps run. */
void world_steps(struct world *world, int steps);
/* Waits until the condition holds, at most ten seconds; false: it never did. */
bool eventually(bool (*holds)(struct world *world), struct world *world);
struct scheduler_counters world_counters(struct world *world);

/* --- HTTP by hand */
int http_connect(struct world *world);
void http_send(int fd, const char *text);
void http_post(int fd, const char *path, const char *body);
/* Until the other side closes, `until` was seen (may be NULL) or ten seconds; caller frees. */
char *http_read(int fd, const char *until);
/* One whole request on a connection of its own; caller frees the answer. */
char *http_ask(struct world *world, const char *path, const char *body);
int http_status(const char *answer);

#endif
