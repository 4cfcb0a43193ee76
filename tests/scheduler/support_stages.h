/* Requests in stages, written down before they run, and a client that plays them.
 *
 * A script says everything that is asked of the scheduler: each stage's sequences, their prompts,
 * and what their owner does when they end (tokens cut off, tokens put behind). The client drives it
 * through the scheduler's events, remembers every token, and stops the test at an event that must
 * not come: of a sequence that has not begun or has finished, in a stage that is over, after done.
 *
 * What the client gives the scheduler (prompts, stop ids, branches, appended tokens) is overwritten
 * and freed before the next event, so that a use of what should have been copied is caught.
 */
#ifndef SUPPORT_STAGES_H
#define SUPPORT_STAGES_H

#include "scheduler/scheduler.h"
#include "support_random.h"

#define SCRIPT_STAGES    8
#define SCRIPT_PROMPT    300 /* tokens of one prompt */
#define SCRIPT_SEQUENCES 80  /* of all stages together */

/* One sequence. */
struct script_branch {
    int32_t prompt[SCRIPT_PROMPT], prompt_count;
    int32_t max_tokens;
    uint64_t seed;
    int32_t cut; /* of the sampled tokens, as many leave the context when it ends */
    int32_t appended[SEQUENCE_APPENDED], appended_count; /* these follow what is kept */
};

struct script_stage {
    int32_t first, count; /* its sequences: branches[first, first + count) */
    bool parallel, last;
};

struct script {
    struct request_params params; /* what is common to all sequences; the rest is filled in later */
    bool staged;                  /* with events.next; else params.n sequences in one stage */
    int32_t stop_ids[4];
    int32_t verdict_stop; /* the verdict on this token (of those that do not end) is stop; -1 */
    int32_t stage_count, sequence_count;
    struct script_stage stages[SCRIPT_STAGES];
    struct script_branch *branches; /* [SCRIPT_SEQUENCES] */
};

/* One serial stage; prompts are made up, those of different sequences differ. */
void script_begin(struct script *script, int32_t vocab, int32_t prompt_count, int32_t max_tokens);
/* More of them; the script is staged then. Each returns its (first) sequence. */
struct script_branch *script_serial(struct script *script, int32_t vocab, int32_t prompt_count,
                                    int32_t max_tokens);
struct script_branch *script_parallel(struct script *script, int32_t vocab, int32_t count,
                                      int32_t prompt_count, int32_t max_tokens);
void script_copy(struct script *to, const struct script *from); /* `to` is new memory */
void script_free(struct script *script);

/* What it may need at most, not below what any scheduler that follows the design needs. */
struct request_extent script_extent(const struct script *script);

struct script_limits {
    int32_t vocab, positions, blocks; /* each request fits into these alone */
    int32_t width;                    /* branches of a stage, at most */
    int32_t length;                   /* tokens of a prompt or an answer, at most */
    bool long_answers;                /* rarely an early stop: the pool runs dry */
};
void script_random(struct script *script, struct rng *rng, const struct script_limits *limits);

struct stage_stream {
    int32_t *tokens; /* [max_tokens] */
    float *logprobs;
    int32_t count;
    bool ended_by_id; /* its last token is an EOS or stop token */
    bool begun, finished;
    enum finish_reason reason;
};

struct stage_client {
    const struct script *script;  /* the test's, for as long as the client lives */
    struct stage_stream *streams; /* [sequence_count] */
    int32_t stage;                /* the one that runs */
    int32_t nexts;                /* how often the next one was asked for */
    bool accepted, done, cancelled;
    enum finish_reason last_reason; /* of the last sequence to finish */
    uint64_t id;
    struct request_stats stats;
    void *lent[3];
    size_t lent_bytes[3];
};

struct stage_client *stage_client_create(const struct script *script);
enum status stage_client_add(struct stage_client *client, struct scheduler *s, struct error *err);
void stage_client_free(struct stage_client *client);

/* It was cancelled or failed: it has a beginning of the answer only. */
bool stage_client_was_cut(const struct stage_client *client);

#endif
