#include "server/generate_answer.h"
#include "base/base.h"
#include "server/generate.h"

#include <stdlib.h>

void answer_release(struct answer *answer)
{
    for (size_t i = 0; i < answer->count; i++) {
        struct answer_stage *stage = &answer->stages[i];
        for (int32_t j = 0; j < stage->count; j++) {
            strbuf_free(&stage->branches[j].text);
            free(stage->branches[j].tokens.ids);
        }
        free(stage->branches);
    }
    free(answer->stages);
    *answer = (struct answer){0};
}

struct answer_stage *answer_add_stage(struct answer *answer, bool parallel, int32_t count)
{
    if (answer->count == answer->capacity) {
        answer->capacity = answer->capacity ? 2 * answer->capacity : 8;
        answer->stages = must_realloc(answer->stages, answer->capacity * sizeof *answer->stages);
    }
    struct answer_stage *stage = &answer->stages[answer->count++];
    *stage = (struct answer_stage){.parallel = parallel, .count = count};
    stage->branches = must_alloc((size_t)count * sizeof *stage->branches);
    return stage;
}

void answer_join(const struct answer *answer, struct strbuf *text, struct token_list *tokens)
{
    for (size_t i = 0; i < answer->count; i++)
        for (int32_t j = 0; j < answer->stages[i].count; j++) {
            const struct answer_branch *branch = &answer->stages[i].branches[j];
            strbuf_append(text, strbuf_cstr(&branch->text), branch->text.length);
            for (size_t k = 0; k < branch->tokens.count; k++)
                token_list_append(tokens, branch->tokens.ids[k]);
        }
}

enum finish_reason answer_reason(const struct answer *answer)
{
    enum finish_reason worst = FINISH_STOP;
    if (!answer->count) return worst;
    const struct answer_stage *stage = &answer->stages[answer->count - 1];
    for (int32_t i = 0; i < stage->count; i++)
        if (stage->branches[i].reason > worst) worst = stage->branches[i].reason;
    return worst;
}

static json_t *branch_json(const struct answer_branch *branch)
{
    return json_pack("{s:o, s:o, s:s}", "text",
                     json_stringn(strbuf_cstr(&branch->text), branch->text.length), "token_ids",
                     generation_ids(&branch->tokens), "finish_reason",
                     branch->reason == FINISH_STOP ? "stop" : "length");
}

json_t *answer_json(const struct answer *answer)
{
    json_t *stages = json_array();
    for (size_t i = 0; i < answer->count; i++) {
        const struct answer_stage *stage = &answer->stages[i];
        json_t *branches = json_array();
        for (int32_t j = 0; j < stage->count; j++)
            json_array_append_new(branches, branch_json(&stage->branches[j]));
        json_array_append_new(stages, json_pack("{s:s, s:o}", "type",
                                                stage->parallel ? "parallel" : "serial", "branches",
                                                branches));
    }
    return stages;
}
