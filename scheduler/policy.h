/* Policies: which of a request's sequences get a row in this step.
 *
 * A step is shared: every extra row of a request makes it longer for everybody else (the branch
 * externality of TAPER, arXiv 2605.06914). A policy is a row in a table of functions; it is asked
 * before each step with the sequences that could use a row, and marks those that get one. What it
 * leaves out keeps its blocks and loses nothing: when a token comes depends on the policy, which
 * token never does.
 *
 *   eager   every sequence
 *   off     one a request
 *   cap:N   at most N a request
 *
 * The promise of every policy: of each request with a ready sequence at least one is chosen, and
 * the one that has waited longest comes first, so none starves. Never more than max_rows are
 * chosen: first one of each request, then a second of each, and so on. A choice is a row, save
 * where another sequence computes the same prompt (plan.c).
 */
#ifndef SCHEDULER_POLICY_H
#define SCHEDULER_POLICY_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct sequence;
struct policy;

/* The sequences that could use a row: request by request in the order of request_before, each in
 * the order of its stages and branches. */
struct ready {
    struct sequence **sequences;
    int32_t count;
    int32_t chosen;   /* of them, in this step already: it is asked again */
    int32_t max_rows; /* in the step: at least as many as there are requests */
    uint64_t step;    /* the number of the step; marks go to sequence.chosen_step */
};

struct policy_ops {
    void (*choose)(const struct policy *policy, const struct ready *ready);
};

/* NULL ops: eager. */
struct policy {
    const struct policy_ops *ops;
    int32_t cap;
};

/* What policy_parse takes, in words for an error or a help text: the only list of them. */
#define POLICY_NAMES "eager (all), off (one), cap:N (at most N, 1 to 999999)"

/* ST_USAGE: what was found, what is allowed. */
enum status policy_parse(const char *text, struct policy *policy, struct error *err);

/* Marks who gets a row. Asked again in the same step it adds to its choice what came since. */
void policy_choose(const struct policy *policy, const struct ready *ready);

#endif
