/* Branches for a trace that has none: some of its requests, drawn by a seed, get the stages of a
 * branching request (generate.h) for their output. Arrival, prompt and SLO stay. */
#ifndef TRACES_WORKLOAD_ANNOTATE_H
#define TRACES_WORKLOAD_ANNOTATE_H

#include "traces/workload/generate.h"

struct annotator {
    struct workload_branching branching;
    uint64_t seed, index;
    struct trace_stage *stages;
    int32_t *tokens;
};

/* `branching` has passed workload_check. */
void annotator_start(struct annotator *annotator, const struct workload_branching *branching,
                     uint64_t seed);
/* Changes the request in place; what it then points at is the annotator's until the next call.
 * One that branches already stays as it is. */
void annotator_apply(struct annotator *annotator, struct trace_request *request);
void annotator_release(struct annotator *annotator);

#endif
