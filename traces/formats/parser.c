#include "traces/formats/format.h"
#include "base/base.h"

#include <stdlib.h>

static void *reserve(void *array, size_t *capacity, size_t count, size_t size)
{
    if (count <= *capacity) return array;
    *capacity = count + count / 2;
    return must_realloc(array, *capacity * size);
}

void parser_reserve(struct parser *parser, size_t prefixes, size_t stages, size_t tokens)
{
    parser->prefixes =
        reserve(parser->prefixes, &parser->prefix_capacity, prefixes, sizeof *parser->prefixes);
    parser->stages =
        reserve(parser->stages, &parser->stage_capacity, stages, sizeof *parser->stages);
    parser->tokens =
        reserve(parser->tokens, &parser->token_capacity, tokens, sizeof *parser->tokens);
}

void parser_set_serial(struct parser *parser, int32_t tokens)
{
    parser_reserve(parser, 0, 1, 1);
    parser->tokens[0] = tokens;
    parser->stages[0] = (struct trace_stage){.branch_count = 1, .branch_tokens = parser->tokens};
    parser->request.stages = parser->stages;
    parser->request.stage_count = 1;
}

void parser_release(struct parser *parser)
{
    free(parser->prefixes);
    free(parser->stages);
    free(parser->tokens);
    strbuf_free(&parser->class_name);
    json_decref(parser->header);
}
