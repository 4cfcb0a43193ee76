/* A request inside the scheduler: its stages, and their sequences.
 *
 * A sequence is one stream of tokens with KV blocks of its own and its own row in a step: a branch,
 * or a serial piece between branches. The sequences of a stage see the same context, which is a
 * list of pieces of sequences that ended before; none sees its siblings.
 *
 *     plain      [prompt, answer]
 *     n > 1      [prompt but for its last token]  fork  [last token, answer 0] [last, answer 1] ...
 *     stages     [prompt, stage 0]  fork  [last, branch 0] [last, branch 1]  join  [stage 2] ...
 *
 * Fork. With K tokens in the parent, a child's context ends with the parent's slots below
 * A = (K - 1) / 16 * 16, by reference. The (K - 1) % 16 slots behind are copied into the child's
 * first block (or computed again, when they are not there to copy); then the child computes the
 * parent's last token for itself, which gives it logits to begin with, then its prompt. A serial
 * stage behind a serial one is a fork of one, so nothing is ever written into a block that others
 * see.
 *
 * Join. The context of the stage behind branches is the branches' context, then branch 0, then each
 * other branch without what it copied and without its own copy of the parent's last token: every
 * token once. The stage's first position is the largest end of a branch. Nothing is copied.
 *
 * A sequence's life.
 *   absent    without blocks: not yet admitted, preempted, or its request waits. What it generated
 *             is kept and will be computed again as if it were prompt.
 *   resident  holds blocks for every slot that a submitted step writes.
 *   leaving   preempted while a row of it is in flight: the row's token will still be taken. It
 *             keeps its blocks until then, because the step writes them.
 *   gone      finished, and nothing will attend to it again: without blocks for ever.
 * `finished` (its end was reported) is no state of it: what stages to come attend to stays
 * resident.
 *
 *             admit              preempt           (nothing in flight)
 *   absent ----------> resident -----------------------------------> absent
 *                         |  preempt          last row collected
 *                         +---------> leaving ---------------------> absent
 *   any --- finished, not needed any more, nothing in flight ---> gone
 *
 * A request's life. In the queue it holds no block. It runs from the admission of its first
 * sequence on, and as long as it runs everything it needs of ended sequences is resident. It goes
 * back to the queue as a whole when its last live sequence would be preempted.
 *
 *   waiting ---> running ---> ended: freed when no row of it is in flight
 *      ^            | preempted
 *      +-- leaving <+   (rows in flight)
 *
 * Order. Everywhere a request stands in one line: lower priority number first, then the earlier
 * one. The queue is left from the front, victims of preemption are taken from the back.
 *
 * The numbers, all of the sequence's own slots. With `length` tokens known and `pending` sampled in
 * steps in flight (their values not yet known), length + pending tokens are there, of which
 * `computed` have their KV written by a submitted step, `landed` by a collected one. A row computes
 * the next `count` of them, and samples when it reaches the end. Finished, only the first `needed`
 * count.
 */
#ifndef SCHEDULER_SEQUENCE_H
#define SCHEDULER_SEQUENCE_H

#include "kvcache/kvcache.h"
#include "scheduler/request.h"

#include "base/status.h"

enum sequence_state { SEQUENCE_ABSENT, SEQUENCE_RESIDENT, SEQUENCE_LEAVING, SEQUENCE_GONE };
enum request_state { REQUEST_WAITING, REQUEST_RUNNING, REQUEST_LEAVING, REQUEST_ENDED };

struct request;
struct stage;

/* A sequence that ended, as others attend to it. */
struct piece {
    const struct sequence *sequence;
    int32_t need; /* its slots that must have landed */
};

/* What the sequences of a stage attend to before their own slots. Never changes, save `landed`. */
struct context {
    int32_t count;          /* pieces */
    int32_t slots;          /* in all of them */
    struct kv_span *spans;  /* [count] views of the owners' tables */
    struct token_run *runs; /* [count] their tokens */
    struct piece *pieces;   /* [count] */
    struct piece parent;    /* a fork's; .sequence NULL: a join, or the request's beginning */
    int32_t shared;         /* of the parent's slots: complete blocks, in the last span if any */
    int32_t copied;         /* the parent's slots behind those, before its last token */
    int32_t position;       /* of own slot 0 */
    bool landed;            /* all of it, as context_landed found; until it is given back */
    struct block_key key;   /* what the first own block descends from */
};

struct sequence {
    /* What every step looks at, of every sequence that runs; 64 bytes. */
    struct request *request;
    struct stage *stage;
    uint64_t row_step;    /* the number of the last step it was in; 0: none yet */
    uint64_t chosen_step; /* the last step whose policy gave it a row */
    int32_t in_flight;    /* rows of it submitted and not collected */
    int32_t max_tokens;   /* to generate */
    int32_t generated;    /* sampled and taken */
    int32_t length;       /* known */
    int32_t pending, computed;
    enum sequence_state state;
    bool finished;

    int32_t landed;
    int32_t needed; /* finished: slots that later stages attend to... */
    int32_t same;   /* ...of which so many were computed from these tokens, if at all */
    int32_t given;  /* tokens before the first generated one */
    int32_t row;    /* its row in the last step it was in */
    int32_t branch; /* within the stage */
    int32_t index;  /* in the events; -1: the trunk of n > 1, which has none */
    int32_t capacity;
    uint64_t name;   /* for the executor; unique */
    int32_t *tokens; /* [capacity] copied, the parent's last, prompt, generated, appended */
    int32_t *spare;  /* [capacity] or NULL: where they go when tokens are appended, because a row
                        in flight may still show the old ones */
    struct block_table table;
    struct block_key chain;  /* names the first `chained` blocks, which are in the prefix tree */
    struct block_key before; /* names one block less; valid when chained > 0 */
    int32_t chained;
    bool detached;             /* leaves nothing more in the tree (prefix.c) */
    struct sample_spec sample; /* the plan's rows point here */
    int32_t furthest; /* the largest `computed` it ever had: what lies below is recomputed */
    int32_t scored;   /* score_prompt: positions up to this one were reported */
};

struct stage {
    struct stage *next;
    struct context *context; /* its own */
    bool parallel, last;
    int32_t count, unfinished;
    struct sequence sequences[]; /* [count] */
};

struct request {
    uint64_t id; /* also the order of arrival */
    enum request_state state;
    struct request_params params;
    struct request_stats stats;
    struct block_key root;   /* of its chains in the prefix tree: the salt */
    int32_t known;           /* of the prompt's tokens, those that may be found in the tree */
    uint64_t stats_step;     /* the last step counted in stats.steps */
    bool cancelled, at_pool; /* it ends in the next tick: by the client; at the end of the pool */
    struct stage *first_stage, *stage; /* in order; the one that runs */
    struct stage *answers; /* n > 1: the stage behind the trunk, made with the request */
    /* Notes that spare looking: false is certain, true is looked up. */
    bool ended_want;           /* what ended wants rows for the stages behind, now or later */
    bool any_absent;           /* a live sequence is absent */
    int32_t in_flight;         /* rows of all sequences */
    int32_t holds;             /* functions that still look at it */
    int32_t *stop_ids;         /* its own copies of what params points at: a step in flight may */
    struct logit_bias *biases; /* still read them after the last event */
    struct request *next, *previous; /* the scheduler's list by arrival; next: the inbox too */
    int32_t queue_index;             /* its place in the queue's heap while waiting */
};

/* What no request may exceed; constant after the scheduler was made. */
struct request_limits {
    int32_t max_context; /* positions the model knows */
    int32_t block_count; /* KV blocks of the whole pool */
    int32_t max_queue;   /* sequences waiting */
    int32_t vocab;
    struct block_hasher hasher; /* of the prefix tree */
};

/* Prompt and answer of one sequence of n together: the context, or the pool when that is smaller.
 */
int32_t request_limits_length(const struct request_limits *limits, int32_t n);

/* ST_INVALID with the words a client should read: a value out of range, or too long for here. */
enum status request_check(const struct request_limits *limits, const struct request_params *params,
                          struct error *err);

/* A checked request with copies of what `params` points at, in state waiting and in no queue. Any
 * thread. Without events.next it has all the memory it will ever need. ST_NO_MEMORY. The caller
 * sets the id and gives it to scheduler_enqueue, or frees it. */
enum status request_create(const struct request_limits *limits, const struct request_params *params,
                           int64_t now_us, struct request **out, struct error *err);
void request_free(struct request *request); /* its sequences hold no blocks */

/* `a` stands before `b`: a total order. */
bool request_before(const struct request *a, const struct request *b);

/* Sequences that wait for their end. */
static inline int32_t request_width(const struct request *request)
{
    const struct stage *stage = request->answers ? request->answers : request->stage;
    return stage->unfinished;
}

/* It has missed its TTFT: no first token yet, and none can come in time. */
static inline bool request_is_late(const struct request *request, int64_t now_us)
{
    int64_t ttft_us = request->params.slo.ttft_us;
    return ttft_us && request->stats.first_token_us == 0 &&
           now_us - request->stats.arrival_us > ttft_us;
}

/* --- walking a request */

static inline struct sequence *request_begin(const struct request *request)
{
    return request->first_stage->sequences;
}

/* The one behind it, of the next stage behind the last of a stage; NULL: none. */
static inline struct sequence *sequence_next(const struct sequence *seq)
{
    struct stage *stage = seq->stage;
    if (seq->branch + 1 < stage->count) return &stage->sequences[seq->branch + 1];
    return stage->next ? stage->next->sequences : NULL;
}

/* --- stage.c */

/* The stage behind `request->stage`, or the first: its context (fork or join), and its sequences,
 * absent. Linked to nothing yet. NULL: out of memory. */
struct stage *stage_create(struct request *request, const struct stage_params *params);
void stage_free(struct stage *stage);

/* Makes it the request's stage that runs. */
void stage_append(const struct block_hasher *hasher, struct request *request, struct stage *stage);

bool context_pieces_landed(const struct context *context);

/* Everything its sequences attend to has landed. Remembered in context->landed, because it stays so
 * until blocks of the request are given back. */
static inline bool context_landed(struct context *context)
{
    if (!context->landed) context->landed = context_pieces_landed(context);
    return context->landed;
}

/* The key of the first `blocks` complete blocks of own slots. */
struct block_key sequence_key(const struct block_hasher *hasher, const struct sequence *seq,
                              int32_t blocks);

/* --- sequence.c */

static inline int32_t sequence_first_position(const struct sequence *seq)
{
    return seq->stage->context ? seq->stage->context->position : 0;
}

static inline struct block_key sequence_root(const struct sequence *seq)
{
    return seq->stage->context ? seq->stage->context->key : seq->request->root;
}

/* A serial stage that samples nothing leaves its last token to those that fork from it. */
static inline bool sequence_leaves_last(const struct sequence *seq)
{
    const struct stage *stage = seq->stage;
    return seq->max_tokens == 0 && !stage->parallel && !stage->last;
}

/* Slots to compute so far. */
static inline int32_t sequence_target(const struct sequence *seq)
{
    if (seq->finished) return seq->needed;
    return seq->length + seq->pending - sequence_leaves_last(seq);
}

/* Where the next row begins: behind what is copied before it, but a row computes something. */
static inline int32_t sequence_start(const struct sequence *seq)
{
    const struct context *context = seq->stage->context;
    if (seq->computed > 0 || !context) return seq->computed;
    int32_t last = sequence_target(seq) - 1;
    return context->copied < last ? context->copied : last;
}

static inline bool sequence_is_live(const struct sequence *seq)
{
    return !seq->finished && seq->stage == seq->request->stage;
}

/* Something is left to compute whose token, or whose KV alone, would be wanted. (A sequence that
 * ended wants none before its last row has landed: its tail is cut then.) */
static inline bool sequence_lacks_row(const struct sequence *seq)
{
    if (seq->state != SEQUENCE_RESIDENT || seq->computed >= sequence_target(seq)) return false;
    if (seq->finished) return seq->in_flight == 0;
    return seq->max_tokens == 0 || seq->generated + seq->pending < seq->max_tokens;
}

static inline bool stage_context_landed(const struct stage *stage)
{
    return !stage->context || context_landed(stage->context);
}

/* It lacks a row, and can have one. */
static inline bool sequence_wants_row(const struct sequence *seq)
{
    return sequence_lacks_row(seq) && stage_context_landed(seq->stage);
}

/* Ended, and not all that later stages attend to is computed: it wants a row now or later. */
static inline bool sequence_lacks(const struct sequence *seq)
{
    return seq->finished && seq->computed < seq->needed;
}

/* Only one token is left to compute. */
static inline bool sequence_is_decoding(const struct sequence *seq)
{
    return sequence_target(seq) - sequence_start(seq) == 1;
}

/* The token ends the sequence: an EOS id or stop id that this request takes as one now. */
bool sequence_ends_with(const struct sequence *seq, int32_t token);

/* Dies unless its numbers fit its state (the comment above, as code). */
void sequence_check(const struct sequence *seq);

#endif
