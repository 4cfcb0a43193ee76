/* A completion from inside, shared by the files that are its parts:
 *
 *   completion_prepare.c  from a parsed request to prompts, limits, memory and a renderer
 *   completion_stages.c   the same of an answer in stages, and its events
 *   completion_slo.c     what it is to keep to, and whether it did
 *   completion_events.c   what the engine's thread does with each token
 *   completion.c          submit, cancel, and the way from the log to the client
 */
#ifndef SERVER_COMPLETION_PRIVATE_H
#define SERVER_COMPLETION_PRIVATE_H

#include "server/branching/stages.h"
#include "server/choice_text.h"
#include "server/completion.h"
#include "server/render.h"
#include "server/server_internal.h"

/* What the engine's thread knows of a sequence. */
struct sequence_watch {
    struct choice_text text; /* only where stop strings were given, without stages */
    int64_t first_us, last_us;
    int32_t tokens;
};

/* One prompt: a request to the engine. */
struct part {
    struct completion *completion;
    _Atomic uint64_t id; /* the engine's; 0 until submitted */
    int32_t first_choice;
    int32_t max_tokens;             /* with stages: of a grammar */
    struct sequence_watch *watches; /* [n], or of the branches of the stage that runs */

    /* with stages: one choice */
    struct stage_need need;
    struct stage_driver *driver;
    enum finish_reason reason; /* of the stage that runs */
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
    struct stage_plan *stages;  /* NULL: an answer without stages */
    struct stop_set *stop_sets; /* [request.stage_count] */
    struct token_log log;
    int64_t reserved; /* its part of server.answer_bytes */
    struct request_slo slo;
    struct slo_class *slo_class; /* NULL: not judged */
    _Atomic int32_t parts_left;

    /* engine's thread, until parts_left is 0 */
    struct sequence_watch *watches; /* of all parts */
    struct strbuf scratch;
    int64_t first_token_us, last_token_us, scheduled_us, finish_us;
    int64_t output_tokens, cached_tokens;
    enum finish_reason worst;
    bool branching;         /* asked for, or by the model: several sequences beside each other */
    struct timings timings; /* complete when parts_left is 0 */

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

/* Whether the answer comes in stages: by the request or by the model. */
static inline bool completion_in_stages(const struct completion *c)
{
    return c->request.stage_count || c->request.grammar;
}

/* Its prompts as ids. */
bool completion_plan_stages(struct completion *c, struct api_error *error);
/* Sets part->need; refuses what could never fit. */
bool completion_fit_stages(struct completion *c, struct part *part, size_t prompt_count,
                           struct api_error *error);
/* The last thing before the parts are submitted: their drivers, and the first stages in the log. */
bool completion_drive_stages(struct completion *c, struct api_error *error);

/* Front-end thread: the SLO that its parts are given, before anything can refuse it; the class it
 * will be counted in, once nothing but the engine can; and the count of a refusal that is not the
 * client's fault. */
void completion_set_slo(struct completion *c);
void completion_find_class(struct completion *c);
void completion_count_refusal(struct completion *c, const struct api_error *error);
/* Engine's thread, at the end. */
void completion_judge(struct completion *c);

/* The events of a part: they run on the engine's thread. */
struct request_events completion_events(struct part *part);
struct request_events completion_stage_events(struct part *part);

/* What both have in common. `sequence`: of the part, or the branch. */
void completion_time_token(struct part *part, int32_t sequence);
void completion_time_finish(struct part *part, int32_t sequence, enum finish_reason reason);
void completion_log_score(struct completion *c, struct token_record record,
                          const struct token_score *score);
void completion_done(struct part *part, const struct request_stats *stats);

#endif
