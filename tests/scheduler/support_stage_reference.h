/* What a script must give, computed by plain recursion over lists: no scheduler, no blocks, no
 * spans. A context is a list of (token, position). A stage's sequence begins with a copy of the
 * context, puts its prompt behind it, and draws token after token from the simulated executor's
 * hash of the list. What remains of it when it ends is the context of the next stage; of several,
 * the context before them and then what each of them put behind it, one after the other, and the
 * next position is the largest of theirs.
 */
#ifndef SUPPORT_STAGE_REFERENCE_H
#define SUPPORT_STAGE_REFERENCE_H

#include "support_simulated_executor.h"
#include "support_stages.h"

struct placed {
    int32_t token, position;
};

struct placed_list {
    struct placed *items;
    int32_t count, capacity;
    int32_t next_position;
};

struct reference {
    const struct script *script;
    struct stage_stream *streams; /* [sequence_count] what each sequence must get, logprobs too */
    struct placed_list *contexts; /* [stage_count] what each stage leaves */
};

struct reference *reference_create(const struct script *script, int32_t vocab);
void reference_free(struct reference *reference);

/* NULL, or what is wrong with what the client was told (a static buffer). A request that was cut
 * has a beginning of it. */
const char *stage_client_mistake(const struct stage_client *client,
                                 const struct reference *reference);

#endif
