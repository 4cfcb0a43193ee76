#include "traces/workload/annotate.h"
#include "base/base.h"

#include <stdlib.h>

#define ANNOTATION_STREAM 0x616e6e6f74617465u

void annotator_start(struct annotator *annotator, const struct workload_branching *branching,
                     uint64_t seed)
{
    *annotator =
        (struct annotator){.branching = *branching, .seed = mix64(seed ^ ANNOTATION_STREAM)};
    size_t stages = (size_t)branching->stages.most * 2 + 1;
    annotator->stages = must_alloc(stages * sizeof *annotator->stages);
    annotator->tokens =
        must_alloc(workload_branching_tokens(branching) * sizeof *annotator->tokens);
}

void annotator_apply(struct annotator *annotator, struct trace_request *request)
{
    struct rng rng = {rng_at(annotator->seed, annotator->index++)};
    bool chosen = rng_unit(&rng) < annotator->branching.share;
    if (!chosen || trace_request_branches(request)) return;
    request->stage_count =
        workload_draw_stages(&annotator->branching, &rng, annotator->stages, annotator->tokens);
    request->stages = annotator->stages;
}

void annotator_release(struct annotator *annotator)
{
    free(annotator->stages);
    free(annotator->tokens);
}
