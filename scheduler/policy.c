#include "scheduler/policy.h"
#include "scheduler/sequence.h"

#include "base/base.h"

#include <stdio.h>
#include <string.h>

bool sequence_waits_longer(const struct sequence *a, const struct sequence *b)
{
    if (a->row_step != b->row_step) return a->row_step < b->row_step;
    return a->generated + a->pending < b->generated + b->pending;
}

/* Of the request whose sequences begin at `first`: the one to choose next, that is the one that had
 * no row for longest, among equals the least advanced, then the lowest index; NULL: it has `width`
 * already, or all. `*end`: behind its last sequence. */
static struct sequence *next_of_request(const struct ready *ready, int32_t first, int32_t width,
                                        int32_t *end)
{
    const struct request *request = ready->sequences[first]->request;
    struct sequence *found = NULL;
    int32_t at = first, chosen = 0;
    for (; at < ready->count && ready->sequences[at]->request == request; at++) {
        struct sequence *seq = ready->sequences[at];
        if (seq->chosen_step == ready->step)
            chosen++;
        else if (!found || sequence_waits_longer(seq, found))
            found = seq;
    }
    *end = at;
    return chosen < width ? found : NULL;
}

/* Each request that has fewer than `width` gets one more, while `*rows` are left. false: none did.
 */
static bool widen(const struct ready *ready, int32_t width, int32_t *rows)
{
    bool any = false;
    for (int32_t first = 0, end; first<ready->count && * rows> 0; first = end) {
        struct sequence *seq = next_of_request(ready, first, width, &end);
        if (!seq) continue;
        seq->chosen_step = ready->step;
        --*rows;
        any = true;
    }
    return any;
}

static void choose_capped(const struct policy *policy, struct ready *ready)
{
    int32_t rows = ready->max_rows - ready->chosen;
    for (int32_t width = 1; width <= policy->cap; width++)
        if (!widen(ready, width, &rows)) break;
}

static void choose_all(const struct policy *policy, struct ready *ready)
{
    (void)policy;
    if (ready->count > ready->max_rows) {
        choose_capped(&(struct policy){.cap = INT32_MAX}, ready);
        return;
    }
    for (int32_t i = 0; i < ready->count; i++)
        ready->sequences[i]->chosen_step = ready->step;
}

static const struct policy_ops policy_eager = {"eager", choose_all, false},
                               policy_capped = {"cap", choose_capped, false};

enum status policy_parse(const char *text, struct policy *policy, struct error *err)
{
    static const struct {
        const char *name;
        struct policy policy;
    } named[] = {{"taper", {.ops = &policy_taper}},
                 {"taper-paper", {.ops = &policy_taper_paper}},
                 {"eager", {.ops = &policy_eager}},
                 {"off", {.ops = &policy_capped, .cap = 1}}};
    for (size_t i = 0; i < COUNT_OF(named); i++)
        if (strcmp(text, named[i].name) == 0) {
            *policy = named[i].policy;
            return ST_OK;
        }
    int end = 0;
    *policy = (struct policy){.ops = &policy_capped};
    bool digit = strncmp(text, "cap:", 4) == 0 && text[4] >= '0' && text[4] <= '9';
    if (digit && sscanf(text, "cap:%6d%n", &policy->cap, &end) == 1 && text[end] == '\0' &&
        policy->cap >= 1)
        return ST_OK;
    return fail(err, ST_USAGE, "--policy: found '%.40s', allowed are " POLICY_NAMES, text);
}

static const struct policy_ops *ops_of(const struct policy *policy)
{
    return policy->ops ? policy->ops : &policy_eager;
}

bool policy_needs_predictor(const struct policy *policy)
{
    return ops_of(policy)->needs_predictor;
}

void policy_choose(const struct policy *policy, struct ready *ready)
{
    ops_of(policy)->choose(policy, ready);
}
