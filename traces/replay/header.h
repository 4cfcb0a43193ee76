/* The first line of a record: what the run was, all that is known before it begins. */
#ifndef TRACES_REPLAY_HEADER_H
#define TRACES_REPLAY_HEADER_H

#include "traces/replay/client.h"
#include "traces/replay/session.h"

struct header_facts {
    const struct replay_options *options;
    const struct replay_settings *settings; /* of this run */
    const struct target *target;
    const struct prompts *prompts;
    const struct trace *trace;
    const struct trace_read_counts *read;
    int64_t beyond_context; /* requests that are longer than the model's context */
};

json_t *header_make(const struct header_facts *facts);

/* The end line's object. */
json_t *header_end(const struct client_counts *counts);

#endif
