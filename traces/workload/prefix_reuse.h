/* How much of the prompts a cache without end would know from earlier requests.
 */
#ifndef TRACES_WORKLOAD_PREFIX_REUSE_H
#define TRACES_WORKLOAD_PREFIX_REUSE_H

#include "traces/trace.h"

/* Prefix blocks that are remembered: 64 MB of them. */
#define PREFIX_REUSE_MAX ((size_t)1 << 22)

struct prefix_reuse {
    struct prefix_entry *entries; /* hash table, [capacity] */
    size_t count, capacity;
    bool full; /* no room for new ones: what is found from then on is a lower bound */
};

/* Tokens of the prompt that the same beginning of an earlier prompt had; then it is an earlier one
 * itself. */
int64_t prefix_reuse_add(struct prefix_reuse *reuse, const struct trace_request *request);
void prefix_reuse_release(struct prefix_reuse *reuse);

#endif
