/* One event of an OpenAI-style stream, as far as a load generator cares: whose tokens it has, whose
 * end it is, the usage, an error. Completions ("text") and chats ("delta") are both understood, and
 * Espalier's branch events (docs/api.md, "Streams").
 */
#ifndef TRACES_REPLAY_EVENT_H
#define TRACES_REPLAY_EVENT_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENT_CHOICES 256 /* of one event; more is malformed */

enum branch_event { BRANCH_NONE, BRANCH_TOKEN, BRANCH_FORK, BRANCH_JOIN };

struct event_choice {
    int32_t index;
    int32_t token_ids; /* how many stand in "token_ids"; -1: it says none */
    bool has_text;     /* some that is not empty */
    bool role_only;    /* the chunk of a chat that only says who speaks */
    char finish[24];   /* reason, cut; "": not yet */
};

struct stream_event {
    int32_t choice_count;
    enum branch_event branch_event;
    int32_t stage, branch; /* with a branch event */
    /* -1: not said */
    int32_t usage_prompt, usage_completion, usage_cached;
    bool failed;         /* an error event */
    char error_code[64]; /* its code, else its type, cut; "": neither */
    struct event_choice choices[EVENT_CHOICES];
};

/* false: malformed, with `what` filled: JSON that is none, or a field of another type. */
bool event_parse(const char *data, size_t length, struct stream_event *event, struct error *what);

/* The code (or type, or status text) in an error's body; "" when it has none. Any bytes may come.
 */
void event_error_code(const char *body, size_t length, char code[64]);

#endif
