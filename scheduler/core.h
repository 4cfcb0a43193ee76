/* The inside of the scheduler, shared by its files. Nobody outside
 * scheduler/ includes it, save its tests.
 *
 *   scheduler.c  create, add, cancel, the tick
 *   residency.c  who holds blocks: admit, grow, preempt
 *   ending.c     the end of a sequence, a stage, a request
 *   request.c    a request: checked, made, freed
 *   stage.c      what the sequences of a stage attend to: fork and join
 *   sequence.c   whether a sequence wants a row; its numbers checked
 *   queue.c      the requests that wait
 *   policy.c     which sequences may have a row: the names, eager, off and cap:N
 *   policy_taper.c, policy_taper_paper.c  as many as the batch can afford; taper_batch.c: what both
 *                count with
 *   step_load.c  what a step is made of
 *   predictor.c  what a step will take, learned from those that ran
 *   profiling.c  steps that nobody asked for, planned without a scheduler
 *   outlook.c    the state as far as it says when a first token comes (ttft.h, known_blocks.h)
 *   prefix.c     what a sequence takes from the prefix tree and leaves there
 *   plan.c       schedule: what becomes a step
 *   process.c    what a collected step means: tokens, verdicts, ends
 *   check.c      every promise between blocks, sequences and queues, as code
 */
#ifndef SCHEDULER_CORE_H
#define SCHEDULER_CORE_H

#include "scheduler/known_blocks.h"
#include "scheduler/plan.h"
#include "scheduler/queue.h"
#include "scheduler/scheduler.h"

#define MAX_DEPTH       2
#define LONGEST_STEP_US 1e9 /* a prediction of more says nothing */
#define LEAST_CHUNK     16  /* prompt tokens a step, whatever its target */

struct scheduler {
    struct executor executor;
    struct clock clock;
    struct executor_capacity capacity;
    struct request_limits limits;
    int32_t max_rows;      /* requests running, and rows in a step */
    int32_t prefill_chunk; /* tokens a step, over all rows that are not decoding */
    int32_t step_chunk;    /* of the step that is planned: what the policy made of it, */
    bool late_last;        /* and whether prompts that are late come behind the others */
    int64_t start_us;      /* when it will begin */
    struct policy policy;
    bool every_gap;                  /* what TPOT is, for the policy */
    struct step_predictor predictor; /* for the policy, and to make the chunk smaller: plan.c */
    struct prediction_fit fit;       /* of the predictor, by the steps that were collected */
    double step_target_us;           /* 0: none */
    struct load_meter *meter;        /* NULL without a predictor */
    struct step_load last_load;      /* of the last step whose load was measured */
    bool urgent;                     /* in the last step prompts had less than they wanted: */
    int32_t urgent_steps;
    double urgent_chunk, urgent_us; /* means of late of what the policy said (policy.h) */
    double admitted_blocks;         /* mean of what requests took when they were admitted of late */
    int32_t admissions;             /* that it is of, up to a most */
    enum admission admission;       /* ADMISSION_REFUSE: there is a predictor */
    struct known_blocks *known;     /* with ADMISSION_REFUSE */
    double residence_us;            /* mean from admission to end, of requests of late */
    int32_t residences;             /* that it is of, up to a most */

    struct block_pool *pool;
    struct request_queue waiting;
    struct request **running; /* [max_rows], in the order of request_before */
    int32_t running_count;
    struct sequence **ready;   /* [ready_capacity] those that could use a row in the step planned */
    struct sequence **chosen;  /* [ready_capacity] of these, those that the policy chose */
    struct sequence **scratch; /* [2 * ready_capacity] the policy's */
    int32_t ready_count, chosen_count, ready_capacity;
    bool any_deferred;            /* some were ready and not chosen */
    int32_t unfinished_count;     /* sequences that have not ended: each request's width, summed */
    int64_t sequence_count;       /* of all requests that are not freed */
    int64_t span_count;           /* of their views */
    uint64_t residency_change;    /* counts admissions and preemptions */
    struct request *first, *last; /* every request that is not freed, in order of arrival */
    uint64_t last_id;             /* of a request added by scheduler_add */
    uint64_t last_sequence;       /* the name given last */
    bool any_ends;                /* a request was marked since the last tick */

    struct step steps[MAX_DEPTH]; /* a ring: the oldest in flight is steps[oldest] */
    int32_t in_flight, oldest;
    int64_t began_us;     /* of the tick */
    int64_t collected_us; /* the last step; 0: none yet */
    uint64_t step_number; /* of the last step planned */
    int32_t idle_ticks;   /* in a row, although something waits or runs */

    struct scheduler_counters counters;
};

/* --- scheduler.c: for the engine, which checks and makes requests on the threads that submit them
 */

/* Makes sure that `request` gets its turn; cannot fail. The caller kept to limits.max_queue. */
void scheduler_enqueue(struct scheduler *s, struct request *request);
/* Every request ends with FINISH_ABORT; ticks until nothing is left. */
void scheduler_wind_up(struct scheduler *s);
struct request_limits scheduler_limits(const struct scheduler *s);
/* NULL: requests are not refused for the time that they would wait. */
struct known_blocks *scheduler_known_blocks(const struct scheduler *s);

/* --- outlook.c: scheduler_outlook is for the engine's thread, the others for any */

struct ttft_outlook scheduler_outlook(const struct scheduler *s);

/* Of the prompt's tokens, those that will be found in the tree; `known` may be NULL: none. And of a
 * request that was accepted: they will be. */
int32_t request_known(const struct known_blocks *known, const struct request_limits *limits,
                      const struct request_params *params);
void request_make_known(struct known_blocks *known, const struct request_limits *limits,
                        const struct request_params *params);
struct ttft_work request_work(const struct request_params *params, int32_t known);

/* It has a TTFT, and there will be a first token. */
bool request_awaits_token(const struct request_params *params);
/* Its TTFT, of which a part may be over, when it stands behind `line`; 0 as ttft_predict. */
double request_ttft_us(const struct ttft_outlook *outlook, const struct ttft_line *line,
                       const struct request_params *params, int32_t known, int64_t now_us);

/* The policy has chosen; a request was admitted with so many blocks; one has ended. */
void note_urgent(struct scheduler *s, const struct ready *ready);
void note_admission(struct scheduler *s, int32_t blocks);
void note_residence(struct scheduler *s, const struct request *request);

/* --- residency.c */

/* Each running request has a sequence with blocks, even if others must go for it. */
void admit_firsts(struct scheduler *s);

/* From the queue's front to running, and the other sequences of those that run, while there is
 * room; strictly in order. */
void admit_waiting(struct scheduler *s);

/* Makes the table of a running sequence cover `slots`, taking blocks from those that stand behind
 * it when the pool is dry. false: not in this step. It may have preempted `seq` itself. */
bool make_room(struct scheduler *s, struct sequence *seq, int32_t slots);

/* Live sequences with blocks. */
int32_t request_resident_count(const struct request *request);
int32_t resident_count(const struct scheduler *s); /* of all that run */

void running_remove(struct scheduler *s, const struct request *request);

/* Its blocks go, nothing of it is in flight. */
void sequence_release(struct scheduler *s, struct sequence *seq);
void request_release_blocks(struct scheduler *s, struct request *request);

/* A request that left: back to the queue, empty-handed but for its tokens. */
void request_requeue(struct scheduler *s, struct request *request);

/* --- ending.c */

/* Reports the end of a sequence; the next stage begins, or its request ends, when it was the last
 * one. `by_token`: its last token ended it and leaves the context. What it holds and nobody needs
 * is given back by row_landed. */
void sequence_end(struct scheduler *s, struct sequence *seq, enum finish_reason reason,
                  bool by_token);

/* Ends every sequence of the request that has not ended, and the request. */
void request_end(struct scheduler *s, struct request *request, enum finish_reason reason);

/* A running request's serial stage that samples nothing and is computed, or was found in the tree,
 * is over: true. */
bool request_pass_stage(struct scheduler *s, struct request *request);

/* A trunk whose prompt is computed, or was in the tree, is over: the n answers begin. */
void stage_pass_trunk(struct scheduler *s, struct request *request);

/* A row of `seq` was collected or failed: a sequence that left or ended gives back what it can when
 * it was its last. Its request may be gone after, unless the caller holds it. */
void row_landed(struct scheduler *s, struct sequence *seq);

/* Every stage of a request that is not freed is counted: sign 1 when it begins, -1. */
void count_stage(struct scheduler *s, const struct stage *stage, int32_t sign);

/* A request is freed when it has ended, no row of it is in flight and nobody holds it. */
void request_hold(struct request *request);
void request_release(struct scheduler *s, struct request *request);

/* --- prefix.c */

/* Of a sequence without blocks: it is at its beginning again. */
void prefix_reset(struct sequence *seq);

/* The table of a sequence that is to be admitted gets the blocks that the tree has of its context.
 * It is admitted then (prefix_taken: what they hold is computed) or gives them back. */
void prefix_take(struct scheduler *s, struct sequence *seq);
void prefix_taken(struct scheduler *s, struct sequence *seq);

/* In prefill, before a row: takes what others have computed since. */
void prefix_catch_up(struct scheduler *s, struct sequence *seq);

/* Another row, in flight or in this plan, computes what `seq` would compute next: it may wait. */
bool prefix_is_coming(const struct scheduler *s, const struct step *step,
                      const struct sequence *seq);

/* The slots below seq->landed were written by collected steps: complete blocks go to the tree. */
void prefix_leave(struct scheduler *s, struct sequence *seq);

/* Only the first `blocks` of its blocks are taken as those of the tree. */
void prefix_cut(struct scheduler *s, struct sequence *seq, int32_t blocks);

/* Where a sequence's own prompt begins, in its slots. */
int32_t own_prompt(const struct sequence *seq);

/* --- plan.c and process.c */

/* Fills the free step: false when nothing can be computed now. */
bool plan_step(struct scheduler *s, struct step *step);

/* Collects the oldest step in flight and does what its tokens say. */
void process(struct scheduler *s);

/* Every row of a step that was planned and could not be computed: its request ends with
 * FINISH_ERROR. */
void fail_step(struct scheduler *s, struct step *step, enum status status, const struct error *err);

#endif
