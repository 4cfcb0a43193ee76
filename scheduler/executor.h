/* The scheduler's only door to a model: a small table of functions.
 *
 * A real model implements it in model/ (model_executor.c), tests with a simulated executor, traces/
 * with a cost model and a virtual clock. The scheduler plans a step, submits it, and collects one
 * result a row.
 *
 * Depth. With depth 1 a step is collected before the next is submitted. With depth 2 step t+1 may
 * be submitted before step t is collected; its plan then names "the token that row r of step t will
 * sample" (previous_row). When t is collected and r turns out to be finished, the token that t+1
 * computed for it is dropped by the scheduler. Tickets are collected in the order of submission.
 *
 * Ownership: everything a plan points at stays valid and unchanged until its ticket is collected.
 * The executor owns the bytes of the KV blocks; the scheduler and kvcache/ know only their numbers.
 */
#ifndef SCHEDULER_EXECUTOR_H
#define SCHEDULER_EXECUTOR_H

#include "base/status.h"
#include "kvcache/view.h"

#include <stdbool.h>
#include <stdint.h>

#define MAX_TOP_LOGPROBS 20 /* alternatives a token can be reported with */

struct logit_bias {
    int32_t token;
    float bias; /* added to its logit */
};

/* How a row's next token is drawn from its logits (model/sampling.h says the order of the filters).
 * The random number is rng_at(seed, sample_index): it depends on nothing that runs beside it. */
struct sample_spec {
    float temperature;                         /* 0: greedy, the lowest id among equals */
    float top_p;                               /* (0, 1]; 1 is off */
    float min_p;                               /* [0, 1]; 0 is off */
    int32_t top_k;                             /* 0 or -1 is off */
    float repetition_penalty;                  /* over prompt and answer; 0 or 1 is off */
    float presence_penalty, frequency_penalty; /* over the answer; 0 is off */
    const struct logit_bias *biases;           /* [bias_count] */
    const int32_t *withheld;                   /* [withheld_count] never drawn before... */
    int32_t bias_count, withheld_count;
    int32_t withheld_until; /* ...this many tokens were sampled (min_tokens) */
    uint64_t seed;
    bool want_logprob;
    int32_t top_logprobs; /* 0 .. MAX_TOP_LOGPROBS */
};

/* Tokens that stand in one array. */
struct token_run {
    const int32_t *tokens; /* [count] */
    int32_t count;
};

/* The first `slots` slots of block `from` go to block `to`, before anything of the step is
 * computed: the incomplete last block of what a branch forks from becomes the branch's own first.
 * Steps that were submitted before have written the source. */
struct block_copy {
    int32_t from, to, slots; /* 1 .. KV_BLOCK_SLOTS - 1 */
};

/* One sequence's part of a step: `count` tokens at consecutive positions. */
struct plan_row {
    uint64_t sequence;     /* names the sequence, the same from its first step to its last */
    const int32_t *tokens; /* [count] ids; ignored when previous_row >= 0 */
    int32_t count;         /* 1 in decode, a chunk in prefill */
    int32_t previous_row;  /* -1, or (depth 2, count 1) the row in flight that samples the token */
    int32_t first_position;
    struct kv_view view; /* what the last token attends to, itself included; the new tokens take the
                            last `count` context slots, whose KV this step writes */
    const struct sample_spec *sample; /* NULL: no token is wanted (not the prompt's last chunk) */
    uint64_t sample_index;            /* how many tokens the sequence had sampled before */
    /* What the penalties of `sample` look at: the tokens of the view, one run for each span, the
     * last of them known (the view's last slot may be of a token in flight: with previous_row >= 0
     * the token of that row comes after them). The last `answer_count` were sampled by this
     * sequence. */
    const struct token_run *history; /* [history_count] */
    int32_t history_count, answer_count;
    /* The prompt's own log probabilities: the first `target_count` tokens of the row are each
     * followed by this one, which is to be scored. */
    const int32_t *targets; /* [target_count] */
    int32_t target_count;
    int32_t target_top; /* alternatives wanted beside each */
};

struct step_plan {
    const struct plan_row *rows;
    int32_t row_count;
    int32_t token_count; /* sum of counts */
    const struct block_copy *copies;
    int32_t copy_count;
};

/* Natural logarithms, of the plain softmax: before penalties, temperature and filters. */
struct token_logprob {
    int32_t token;
    float logprob;
};

/* A token and how likely it was at its place. */
struct token_score {
    int32_t token;                              /* -1 where nothing was to be sampled */
    float logprob;                              /* as above; 0 unless wanted */
    int32_t top_count;                          /* as many as wanted and the vocabulary has */
    struct token_logprob top[MAX_TOP_LOGPROBS]; /* the likeliest first, the lower id among equals */
};

struct row_result {
    struct token_score sampled;
    const struct token_score *scores; /* [target_count]; the executor's, until the next submit */
};

struct executor_capacity {
    int32_t depth;       /* steps in flight, 1 or 2 */
    int32_t block_count; /* KV blocks of KV_BLOCK_SLOTS slots */
    int32_t max_rows;    /* rows in a step */
    int32_t max_tokens;  /* tokens in a step */
    int32_t max_context; /* positions the model knows */
    int32_t vocab;
};

struct executor_ops {
    void (*capacity)(void *self, struct executor_capacity *capacity);
    /* ST_OK and a ticket, or a failure that leaves nothing in flight. */
    enum status (*submit)(void *self, const struct step_plan *plan, uint64_t *ticket,
                          struct error *err);
    /* Waits for the oldest ticket; results[row_count] in the plan's order. */
    enum status (*collect)(void *self, uint64_t ticket, struct row_result *results,
                           struct error *err);
};

struct executor {
    const struct executor_ops *ops;
    void *self;
};

#endif
