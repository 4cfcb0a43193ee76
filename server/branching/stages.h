/* Answers in stages: what a request's `stages` or `branching` fields become for the scheduler.
 *
 *   stage_plan    one a request: the prompts of its stages as ids, and what an answer may need at
 *                 most, known before any work
 *   stage_driver  one a choice: is told every token and every end of a sequence, says where text
 *                 ends a sequence (stop strings, tags), what of it stays in the context, and what
 *                 the next stage is. Its calls answer the scheduler's events one to one and only
 *                 compute: used by the HTTP completions and by `espalier generate`.
 *
 * The sequences of an answer are numbered as they begin (the `index` of the events). Beside the
 * stages of the request there are hidden ones, which nobody sees: the prompt alone before a first
 * stage that is parallel, and the join between two parallel stages.
 *
 * With a grammar the trunk is a serial stage up to its fork tag, its paths a parallel one, what
 * follows the join a serial one. max_tokens bounds the positions behind the prompt, along the
 * longest path; what cannot fork any more (sequences, tokens) goes on as plain text or ends with
 * FINISH_LENGTH.
 *
 * Life: plan_create, plan_fill for each prompt; driver_create, first, (token* finish, next?)*,
 * driver_free; plan_free. A driver is used by one thread at a time; a plan is only read.
 */
#ifndef SERVER_BRANCHING_STAGES_H
#define SERVER_BRANCHING_STAGES_H

#include <stddef.h>

#include "scheduler/request.h"
#include "server/request_parse.h"

/* What it is made from: `stages` or `grammar`. All of it outlives the plan, but for `stops`. */
struct stage_source {
    const struct tokenizer *tokenizer;
    const struct api_stage *stages; /* [stage_count] */
    size_t stage_count;
    const struct tag_grammar *grammar;
    const char *const *stops; /* grammar: [stop_count], for each of its sequences; copied */
    size_t stop_count;
    int32_t max_branches, max_sequences; /* grammar: of a block; of an answer */
    bool include_stop;
    bool parse_special; /* special tokens in the texts of prompts are taken as such */
};

struct stage_plan;

/* ST_NO_MEMORY, or ST_UNSUPPORTED of the tokenizer; `err` names the stage. */
enum status stage_plan_create(const struct stage_source *source, struct stage_plan **out,
                              struct error *err);
void stage_plan_free(struct stage_plan *plan);

/* The most one answer can need. */
struct stage_need {
    int64_t positions; /* of the longest path */
    int64_t blocks;    /* of the KV pool at the same time; 0: grammar, as many as there are */
    int64_t sequences; /* hidden ones included */
    int64_t tokens;    /* sampled, and given by stages and branches */
    int64_t records;   /* in a token log */
    int32_t width;
};

/* Of the answer to a prompt of `prompt_count` ids. Grammar: at most max_tokens behind the prompt
 * and `pool_slots` tokens in all. */
struct stage_need stage_plan_need(const struct stage_plan *plan, int64_t prompt_count,
                                  int32_t max_tokens, int64_t pool_slots);

/* The request's stop strings as they may be used until plan_free. */
const char *const *stage_plan_stops(const struct stage_plan *plan);

/* --- one answer */

/* The stage that runs, for whoever shows it. */
struct stage_view {
    int32_t number; /* in the answer; as in the request's list */
    int32_t stops;  /* which of the request's stages has its stop strings; -1: the request's */
    bool parallel, hidden;
    int32_t count, first_index;
    const struct branch_params *branches; /* [count] what is given, as shown */
    uint32_t skip; /* bytes of what is given to the first that were shown before */
};

struct stage_flags {
    bool malformed;     /* tags where they must not be, or more branches than allowed */
    bool empty_outline; /* a stage was skipped */
    int32_t outline_beyond;
};

struct stage_driver;

/* `need` bounds it, whatever the model writes; `context`: the model's positions. NULL: no memory.
 */
struct stage_driver *stage_driver_create(const struct stage_plan *plan,
                                         const struct stage_need *need, int32_t context,
                                         const int32_t *prompt, int32_t prompt_count,
                                         uint64_t seed);
void stage_driver_free(struct stage_driver *driver);

/* Sets prompt, prompt_count, n, max_tokens and extent of the request; the driver keeps the ids. */
void stage_driver_first(const struct stage_driver *driver, struct request_params *params);

/* events.token. *cut: bytes that the token showed last and that do not count. */
enum token_verdict stage_driver_token(struct stage_driver *driver, int32_t index, int32_t token,
                                      bool ends, uint32_t *cut);

/* events.finish: fills `ending`; what it says is valid until the next call. The reason to report:
 * FINISH_LENGTH where the answer ends here for want of room. *shown: the bytes of `appended`, all
 * of which were visible before. */
enum finish_reason stage_driver_finish(struct stage_driver *driver, int32_t index,
                                       struct sequence_ending *ending, uint32_t *shown);

/* What the last token, or the last end of a sequence, made visible. A view until the next call.
 * What is given (stage_view.branches, ending->appended) is not in it. */
const char *stage_driver_text(const struct stage_driver *driver, size_t *length);

/* events.next */
bool stage_driver_next(struct stage_driver *driver, struct stage_params *stage);

const struct stage_view *stage_driver_view(const struct stage_driver *driver);
struct stage_flags stage_driver_flags(const struct stage_driver *driver);
/* Something could not be had (memory, the tokenizer's time): the answer has ended too early. */
bool stage_driver_failed(const struct stage_driver *driver);

#endif
