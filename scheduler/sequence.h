/* A request inside the scheduler, and its sequences.
 *
 * A sequence is one stream of tokens with its own KV blocks and its own row in a step; it is what
 * will be a branch. The n sequences of a request are independent: each is queued, prefilled,
 * preempted and ended by itself.
 *
 * A sequence's life.
 *   waiting  in the queue, without blocks. New, or preempted: what it has generated is kept and
 *            will be recomputed as if it were prompt.
 *   running  in scheduler->running, holds blocks for every slot that a submitted step writes.
 *   leaving  preempted while a row of it is in flight: the row's token will still be taken. It
 *            keeps its blocks until then, because the step writes them.
 *   ended    its finish was reported. It keeps its blocks while a row of it is in flight, whose
 *            token is dropped; then it is settled: without blocks, waiting for its request to go.
 *
 *             admit               preempt             (nothing in flight)
 *   waiting --------> running ------------------------------------> waiting
 *                        |  preempt            last row collected
 *                        +---------> leaving ---------------------> waiting
 *   waiting, running, leaving --- end ---> ended --- last row collected ---> settled
 *
 * Order. Everywhere a sequence stands in one line: lower priority number first, then earlier
 * request, then lower index. The queue is left from the front, victims of preemption are taken from
 * the back.
 *
 * The numbers. With P prompt tokens, G tokens generated and `pending` sampled in steps in flight
 * (their values not yet known), the context is P + G + pending tokens, of which `computed` have
 * their KV written by a submitted step. A row computes the next `count` of them, and samples when
 * it reaches the end.
 */
#ifndef SCHEDULER_SEQUENCE_H
#define SCHEDULER_SEQUENCE_H

#include "kvcache/kvcache.h"
#include "scheduler/request.h"

#include "base/status.h"

enum sequence_state { SEQUENCE_WAITING, SEQUENCE_RUNNING, SEQUENCE_LEAVING, SEQUENCE_ENDED };

struct request;

struct sequence {
    struct request *request;
    int32_t index; /* within the request */
    uint64_t name; /* for the executor; unique */
    enum sequence_state state;
    bool settled; /* ended, and no row of it in flight */

    int32_t *tokens; /* [prompt_count + max_tokens] the prompt, then what was generated */
    int32_t generated_count;
    int32_t pending;
    int32_t computed;
    struct block_table table;
    struct block_key chain; /* names the first `chained` blocks, which are in the prefix tree */
    int32_t chained;
    bool detached;             /* leaves nothing more in the tree (prefix.c) */
    struct sample_spec sample; /* the plan's rows point here */

    int32_t in_flight;    /* rows of it submitted and not collected */
    int32_t row;          /* its row in the last step it was in */
    uint64_t row_step;    /* that step's number; 0: none yet */
    uint64_t chosen_step; /* the last step whose policy gave it a row */
    int32_t furthest;     /* the largest `computed` it ever had: what lies below is recomputed */
    int32_t scored;       /* score_prompt: positions up to this one were reported */
    int32_t queue_index;  /* its place in the queue's heap while waiting */
};

struct request {
    uint64_t id; /* also the order of arrival */
    struct request_params params;
    struct request_stats stats;
    struct block_key root; /* of its chains in the prefix tree: the salt */
    uint64_t stats_step;   /* the last step counted in stats.steps */
    bool cancelled;
    int32_t unfinished; /* sequences whose finish was not reported */
    int32_t uses;       /* sequences not settled, and functions that still look at it */
    int32_t *stop_ids;  /* its own copies of what params points at: a step in flight may still */
    struct logit_bias *biases;       /* read them after the last event */
    struct request *next, *previous; /* the scheduler's list by arrival; next: the inbox too */
    struct sequence sequences[];     /* [params.n] */
};

/* What no request may exceed; constant after the scheduler was made. */
struct request_limits {
    int32_t max_context; /* positions the model knows */
    int32_t block_count; /* KV blocks of the whole pool */
    int32_t max_queue;   /* sequences waiting */
    int32_t vocab;
    struct block_hasher hasher; /* of the prefix tree */
};

/* Prompt and answer of one sequence together: the context, or the pool when that is smaller. */
int32_t request_limits_length(const struct request_limits *limits);

/* ST_INVALID with the words a client should read: a value out of range, or too long for here. */
enum status request_check(const struct request_limits *limits, const struct request_params *params,
                          struct error *err);

/* A checked request with all the memory it will ever need, copies of what `params` points at
 * included, in state waiting and in no queue. Any thread. ST_NO_MEMORY. The caller sets the id and
 * gives it to scheduler_enqueue, or frees it. */
enum status request_create(const struct request_limits *limits, const struct request_params *params,
                           int64_t arrival_us, struct request **out, struct error *err);
void request_free(struct request *request); /* its sequences hold no blocks */

static inline int32_t sequence_known(const struct sequence *seq)
{
    return seq->request->params.prompt_count + seq->generated_count;
}

static inline int32_t sequence_context(const struct sequence *seq)
{
    return sequence_known(seq) + seq->pending;
}

/* Something is left to compute whose token, or whose prompt alone, would be wanted. */
static inline bool sequence_wants_row(const struct sequence *seq)
{
    int32_t max_tokens = seq->request->params.max_tokens;
    return seq->computed < sequence_context(seq) &&
           (max_tokens == 0 || seq->generated_count + seq->pending < max_tokens);
}

/* In the middle of decoding: only the newest token is left to compute. */
static inline bool sequence_is_decoding(const struct sequence *seq)
{
    return seq->computed > 0 && sequence_context(seq) - seq->computed == 1;
}

/* true: `a` stands before `b`. A total order. */
bool sequence_before(const struct sequence *a, const struct sequence *b);

/* The token ends the sequence: an EOS id or stop id that this request takes as one now. */
bool sequence_ends_with(const struct sequence *seq, int32_t token);

/* Dies unless its numbers fit its state (the comment above, as code). */
void sequence_check(const struct sequence *seq);

#endif
