/* A client of the scheduler that remembers everything it was told and knows what it should have
 * been.
 *
 * Its prompt and stop ids are freed as soon as the request was added, so that a use of what should
 * have been copied is caught.
 */
#ifndef SUPPORT_CLIENT_H
#define SUPPORT_CLIENT_H

#include "support_simulated_executor.h"

struct client_stream {
    int32_t *tokens; /* [max_tokens] */
    int32_t count;
    float *scores; /* [prompt_count - 1] of the prompt's second token and so on */
    int32_t scored;
    bool finished;
    enum finish_reason reason;
};

struct client {
    struct request_params params; /* the prompt and stop ids are the client's until it is added */
    int32_t *prompt, *stop_ids;
    int32_t
        verdict_stop; /* the verdict on this token (of those that do not end) is stop; -1: none */
    uint64_t id;
    bool accepted, done, cancelled;
    struct request_stats stats;
    struct client_stream *streams; /* [n] */
};

/* params.prompt and params.stop_ids are copied. */
struct client *client_create(const struct request_params *params, int32_t verdict_stop);
void client_free(struct client *client);
enum status client_add(struct client *client, struct scheduler *s, struct error *err);
void client_forget(struct client *client); /* what client_add does to what it gave */

/* NULL, or what is wrong with what the client was told (a static buffer). `prompt` and `stop_ids`
 * as they were given: the client's own are gone. After an abort or error a stream is the beginning
 * of the right one. */
const char *client_mistake(const struct client *client, int32_t vocab, const int32_t *prompt,
                           const int32_t *stop_ids);

/* Events that fill a client, for whoever submits it otherwise. */
struct request_events client_events(struct client *client);

#endif
