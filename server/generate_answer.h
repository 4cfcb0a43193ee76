/* An answer in stages as far as it has come: for every stage that shows, its branches' texts. In
 * reading order these are the answer: stage after stage, branch after branch. Only grows. */
#ifndef SERVER_GENERATE_ANSWER_H
#define SERVER_GENERATE_ANSWER_H

#include "model/tokenizer.h"
#include "scheduler/request.h"

#include <jansson.h>

struct answer_branch {
    struct strbuf text;
    struct token_list tokens; /* as they stand in the context */
    size_t given;             /* the first of them, which the model did not write */
    bool ended;
    enum finish_reason reason;
};

struct answer_stage {
    bool parallel;
    int32_t count;
    struct answer_branch *branches; /* [count] */
};

struct answer {
    struct answer_stage *stages; /* [count] */
    size_t count, capacity;
};

void answer_release(struct answer *answer);
/* The view stays right until the next stage. */
struct answer_stage *answer_add_stage(struct answer *answer, bool parallel, int32_t count);

/* The whole of it: texts and ids behind one another. */
void answer_join(const struct answer *answer, struct strbuf *text, struct token_list *tokens);
/* As the API says it: that of the last stage, the worst of its branches. */
enum finish_reason answer_reason(const struct answer *answer);

/* [{"type", "branches": [{"text", "token_ids", "finish_reason"}]}]; the caller owns it. */
json_t *answer_json(const struct answer *answer);

#endif
