/* The real model behind scheduler/executor.h. Internal to model/.
 *
 * Depth 1: a CPU has nothing to overlap, so submit runs the step and collect hands out its tokens.
 */
#ifndef MODEL_MODEL_EXECUTOR_H
#define MODEL_MODEL_EXECUTOR_H

#include "base/thread_pool.h"
#include "model/sampling.h"
#include "model/transformer.h"

struct model_executor;

struct model_executor_limits {
    int32_t kv_blocks, max_rows, max_tokens, max_context;
};

/* `transformer` and `pool` are borrowed. */
struct model_executor *model_executor_create(struct transformer *transformer,
                                             struct thread_pool *pool,
                                             const struct model_executor_limits *limits);
void model_executor_free(struct model_executor *m);
struct executor model_executor_table(struct model_executor *m);

#endif
