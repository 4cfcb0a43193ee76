/* How much memory a model would take, before any of it is allocated: the size of the KV cache and
 * the context it allows, the packed weights, the activations of a step. */
#ifndef MODEL_MEMORY_PLAN_H
#define MODEL_MEMORY_PLAN_H

#include "model/model.h"

struct memory_plan {
    int32_t kv_blocks, context;
    int64_t weights, kv, activations, total; /* bytes; the total also has a little for the rest */
};

/* ST_INVALID when the options ask for a context or a cache that cannot be. */
enum status memory_plan_make(const struct model_options *options,
                             const struct checkpoint *checkpoint, struct memory_plan *plan,
                             struct error *err);

/* ST_NO_MEMORY, with what is needed and what helps, when the plan does not fit in `available`
 * bytes; negative: unknown, and everything fits. */
enum status memory_plan_check(const struct memory_plan *plan, const struct model_options *options,
                              const struct checkpoint *checkpoint, int64_t available,
                              struct error *err);

/* Bytes of the KV cache for a token in every layer. */
int64_t kv_token_bytes(const struct model_config *config, enum dtype type);

/* What this process can still have: MemAvailable of /proc/meminfo, or what its control group leaves
 * where that is less. -1: unknown. */
int64_t memory_available(void);

#endif
