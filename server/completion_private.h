/* A completion from inside, shared by the files that are its three parts:
 *
 *   completion_prepare.c  from a parsed request to prompts, limits, memory and a renderer
 *   completion_events.c   what the engine's thread does with each token
 *   completion.c          submit, cancel, and the way from the log to the client
 */
#ifndef SERVER_COMPLETION_PRIVATE_H
#define SERVER_COMPLETION_PRIVATE_H

#include "server/choice_text.h"
#include "server/completion.h"
#include "server/render.h"
#include "server/server_internal.h"

/* One prompt: a request to the engine. */
struct part {
    struct completion *completion;
    _Atomic uint64_t id; /* the engine's; 0 until submitted */
    int32_t first_choice;
    int32_t max_tokens;
};

/* What the engine's thread knows of a choice. */
struct sequence_watch {
    struct choice_text text; /* only where stop strings were given */
    int64_t first_us, last_us;
    int32_t tokens;
};

struct completion {
    struct exchange *exchange; /* its owner */
    struct api_request request;
    char id[64];
    struct part *parts;
    struct token_list *prompts; /* [part_count] */
    int32_t part_count, choices;
    int32_t *stop_ids; /* the model's EOS ids, then the request's */
    int32_t stop_count, eos_count;
    struct token_log log;
    int64_t reserved; /* its part of server.answer_bytes */
    _Atomic int32_t parts_left;

    /* engine's thread, until parts_left is 0 */
    struct sequence_watch *watches; /* [choices] */
    struct strbuf scratch;
    int64_t first_token_us, scheduled_us, finish_us;
    int64_t output_tokens, cached_tokens;
    enum finish_reason worst;

    /* the reader's side */
    struct renderer *renderer;
    int64_t prompt_tokens;
    bool ended;
};

/* Front-end thread: everything the answer will need, before anything is submitted. false: refused,
 * `error` says why. */
bool completion_prepare(struct completion *c, struct api_error *error);

/* The prompt's own log probabilities: what evaluators ask for with echo. */
static inline bool completion_scores_prompt(const struct api_request *r)
{
    return r->echo && r->sample.want_logprob;
}

/* What the client called it. */
static inline const char *completion_prompt_field(const struct completion *c)
{
    return c->request.endpoint == API_CHAT ? "messages" : "prompt";
}

/* The events of a part: they run on the engine's thread. */
struct request_events completion_events(struct part *part);

#endif
