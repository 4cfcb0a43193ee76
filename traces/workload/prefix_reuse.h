/* How much of the prompts a cache without end would know from earlier requests.
 */
#ifndef TRACES_WORKLOAD_PREFIX_REUSE_H
#define TRACES_WORKLOAD_PREFIX_REUSE_H

#include "traces/trace.h"

/* Places for prefix blocks: 16 MB of them. Where a trace has more than three quarters of that,
 * every second block, then every fourth and so on, chosen by its hash, stands for the others. */
#define PREFIX_REUSE_PLACES ((size_t)1 << 20)

struct prefix_reuse {
    struct prefix_entry *entries; /* hash table, [capacity] */
    size_t count, capacity;
    int halvings; /* 0: all blocks are known, and the figures exact */
};

/* Tokens of the prompt that the same beginning of an earlier prompt had; then it is an earlier one
 * itself. With halvings an estimate whose sums are good to some percent: a block that
 * very many prompts begin with counts for several, or not at all. */
double prefix_reuse_add(struct prefix_reuse *reuse, const struct trace_request *request);
void prefix_reuse_release(struct prefix_reuse *reuse);

#endif
