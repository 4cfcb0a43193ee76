/* The stage driver from inside:
 *
 *   plan.c    before the work: prompts as ids, the most an answer can need
 *   driver.c  tokens and ends of sequences
 *   next.c    what comes behind a stage
 */
#ifndef SERVER_BRANCHING_DRIVER_PRIVATE_H
#define SERVER_BRANCHING_DRIVER_PRIVATE_H

#include "server/branching/stages.h"
#include "server/choice_text.h"
#include "server/outline.h"

struct stage_plan {
    struct stage_source source;
    char **stops;                   /* [source.stop_count] */
    struct token_list **prompts;    /* [stage_count][branch_count]; of an outline: its template */
    struct token_list join;         /* of a grammar */
    size_t path_items, path_tokens; /* {item} in path_prompt, and the ids around the items */
};

/* A sequence that runs or has ended, of the stage that runs. */
struct live_sequence {
    struct choice_text text;
    struct detokenizer tags_seen; /* what `tags` is fed with: special tokens are text here */
    struct tag_watcher tags;      /* grammar */
    enum tag_event event;         /* FORK or PATH_END: it ended by that tag */
    int64_t end;                  /* position behind what stays of it */
};

/* A stage that is ready to begin. */
struct ready_stage {
    struct stage_view view;
    struct branch_params *branches; /* [view.count] */
    struct token_list *prompts;     /* [view.count] those that were made for it; or NULL */
    int64_t position;               /* of its prompts' first token */
    bool last;
};

struct stage_driver {
    const struct stage_plan *plan;
    uint64_t seed;
    int64_t limit;       /* positions */
    int64_t tokens_left; /* of stage_need.tokens */
    int64_t sequences_left;
    int32_t blocks;          /* stage_need */
    struct token_list first; /* prompt and what the first stage is given */
    int32_t prompt_count;

    struct ready_stage now;
    struct live_sequence *sequences; /* [now.view.count] */
    int32_t unfinished;
    int64_t end;           /* largest of its sequences so far */
    struct strbuf outline; /* what a serial stage before an outline wrote */
    struct strbuf scratch; /* what the last event made visible */
    struct token_list appended;
    struct strbuf carry; /* of the last sequence of a serial stage: begins the next prompt */

    struct ready_stage next; /* view.count 0: there is none */
    struct stage_flags flags;
    bool no_room; /* the answer ends with FINISH_LENGTH */
    bool failed;
};

static inline bool driver_by_grammar(const struct stage_driver *driver)
{
    return driver->plan->source.grammar != NULL;
}

/* Whether the stage that runs is followed by an outline. */
bool driver_feeds_outline(const struct stage_driver *driver);

/* How the stage behind the one that ended will begin. */
enum next_kind { NEXT_NONE, NEXT_SERIAL, NEXT_PARALLEL };
enum next_kind driver_choose(struct stage_driver *driver, int32_t *number);

/* Fills driver->next; all sequences have ended, driver->end and carry are final. */
void driver_prepare(struct stage_driver *driver, enum next_kind kind, int32_t number);

/* The first stage: what is given to it goes to the ids of `first`. false: no memory. */
bool driver_begin(struct stage_driver *driver);

/* driver->next becomes the one that runs. false: no memory. */
bool driver_enter(struct stage_driver *driver);
void ready_release(struct ready_stage *ready);

/* Ids of a text that is given. false: driver->failed or, for want of memory, the same. */
bool driver_encode(struct stage_driver *driver, const char *text, size_t length, bool special,
                   struct token_list *out);

#endif
