/* Policies: which of a request's sequences get a row in this step.
 *
 * A step is shared: every extra row of a request makes it longer for everybody else (the branch
 * externality of TAPER, arXiv 2605.06914). A policy is a row in a table of functions; it is asked
 * before each step with the sequences that could use a row, and marks those that get one. What it
 * leaves out keeps its blocks and loses nothing: when a token comes depends on the policy, which
 * token never does.
 *
 *   taper        extra rows while their predicted cost fits the slack of the batch: policy_taper.c
 *   taper-paper  the same as literally read from the paper's description: policy_taper_paper.c
 *   eager        every sequence
 *   off          one a request
 *   cap:N        at most N a request
 *
 * The promise of every policy: of each request with a ready sequence at least one is chosen, and
 * the one that has waited longest comes first, so none starves. Never more than max_rows are
 * chosen: first one of each request, then others. A choice is a row, save where another sequence
 * computes the same prompt (plan.c).
 */
#ifndef SCHEDULER_POLICY_H
#define SCHEDULER_POLICY_H

#include "scheduler/step_load.h"

#include <stdbool.h>
#include <stdint.h>

struct policy;
struct request;
struct sequence;

/* What a policy knows of the step that is planned. */
struct ready {
    /* The sequences that could use a row: request by request in the order of request_before, each
     * in the order of its stages and branches. */
    struct sequence *const *sequences;
    int32_t count;
    int32_t chosen;            /* of them, in this step already: it is asked again */
    int32_t max_rows;          /* in the step: at least as many as there are requests */
    uint64_t step;             /* the number of the step; marks go to sequence.chosen_step */
    struct sequence **scratch; /* [2 * count] the policy's */

    struct request *const *running; /* [running_count] in the order of request_before */
    int32_t running_count;
    int64_t start_us;                /* when the step will begin: what is in flight ends before */
    int32_t free_blocks;             /* in the pool */
    int32_t waiting;                 /* requests in the queue: for room, or for their turn */
    struct step_predictor predictor; /* of latency; for a policy that needs_predictor */
    struct prediction_fit fit;       /* its word has proved to be worth so much */
    bool every_gap;                  /* TPOT is for each gap between tokens, not for their mean */
    int32_t prefill_chunk; /* tokens of prefill in the step at most; a policy may make it less */
    bool late_last;        /* false; true: prompts that are late (request_is_late) share what the
                              others leave of the chunk; each still has its one token */
    /* Out: had more prompts waited, they could have had so many tokens of this step, which then
     * would take so long. For who predicts how long prompts wait (ttft.h); urgent_chunk 0: the
     * whole chunk, beside the rows that decode. */
    int32_t urgent_chunk;
    double urgent_us;
};

struct policy_ops {
    const char *name;
    void (*choose)(const struct policy *policy, struct ready *ready);
    bool needs_predictor;
};

/* NULL ops: eager. */
struct policy {
    const struct policy_ops *ops;
    int32_t cap;
};

/* What policy_parse takes, in words for an error or a help text: the only list of them. */
#define POLICY_NAMES                                                           \
    "taper (what the batch can afford), taper-paper, eager (all), off (one), " \
    "cap:N (at most N, 1 to 999999)"

/* ST_USAGE: what was found, what is allowed. */
enum status policy_parse(const char *text, struct policy *policy, struct error *err);
bool policy_needs_predictor(const struct policy *policy);

/* Marks who gets a row. Asked again in the same step it adds to its choice what came since. */
void policy_choose(const struct policy *policy, struct ready *ready);

/* --- for policies */

/* Of two sequences of one request, the one to choose first: it had no row for longer, among equals
 * it is less advanced. */
bool sequence_waits_longer(const struct sequence *a, const struct sequence *b);

extern const struct policy_ops policy_taper, policy_taper_paper;

#endif
