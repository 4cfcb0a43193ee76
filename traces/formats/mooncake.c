/* Mooncake's traces (github.com/kvcache-ai/Mooncake, FAST'25): {"timestamp": 0, "input_length":
 * 6758, "output_length": 500, "hash_ids": [0, 1, ...]}. An id stands for a block of 512 prompt
 * tokens with all that is in front of it; the last block may be shorter. */
#include "traces/formats/json_values.h"
#include "base/base.h"

#include <stdio.h>
#include <string.h>

#define BLOCK_TOKENS 512

static bool recognises(const struct line *first)
{
    static const char word[] = "\"input_length\"";
    return memmem(first->text, first->length, word, sizeof word - 1) != NULL;
}

/* Fewer ids than the prompt has blocks: the rest is nobody else's. */
static bool read_blocks(struct parser *parser, const json_t *ids, struct error *err)
{
    struct trace_request *request = &parser->request;
    size_t count = json_array_size(ids);
    size_t most = ((size_t)request->prompt_tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    if (!ids) return true;
    if (!json_is_array(ids) || count > most) {
        fail(err, ST_INVALID,
             "hash_ids: found %s%zu ids, expected a list of at most %zu for %d tokens in blocks "
             "of %d",
             json_is_array(ids) ? "" : "no list: ", count, most, request->prompt_tokens,
             BLOCK_TOKENS);
        return false;
    }
    parser_reserve(parser, count, 0, 0);
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(ids, i);
        int64_t number, left = request->prompt_tokens - (int64_t)i * BLOCK_TOKENS;
        if (!json_whole(id, &number) || number < 0) {
            fail(err, ST_INVALID, "hash_ids[%zu]: found %s, expected a whole number, 0 or more", i,
                 show_value(id).text);
            return false;
        }
        parser->prefixes[i] = (struct trace_prefix){
            .id = (uint64_t)number, .tokens = (int32_t)(left < BLOCK_TOKENS ? left : BLOCK_TOKENS)};
    }
    request->prefixes = parser->prefixes;
    request->prefix_count = (int32_t)count;
    return true;
}

static enum line_kind read_request(struct parser *parser, const json_t *object, struct error *err)
{
    struct trace_request *request = &parser->request;
    int32_t output;
    if (!json_ms(json_object_get(object, "timestamp"), "timestamp", &request->arrival_ms, err) ||
        !json_count(json_object_get(object, "output_length"), 0, "output_length", &output, err) ||
        !json_count(json_object_get(object, "input_length"), output > 0, "input_length",
                    &request->prompt_tokens, err))
        return LINE_BAD;
    if (output == 0) return LINE_FAILED;
    if (!read_blocks(parser, json_object_get(object, "hash_ids"), err)) return LINE_BAD;
    parser_set_serial(parser, output);
    return LINE_REQUEST;
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    json_t *object = json_line(line, err);
    if (!object) return LINE_BAD;
    enum line_kind kind = read_request(parser, object, err);
    json_decref(object);
    return kind;
}

const struct format format_mooncake = {
    .format = TRACE_MOONCAKE, .recognises = recognises, .parse = parse};
