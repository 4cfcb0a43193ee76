/* Mooncake's traces (github.com/kvcache-ai/Mooncake, FAST'25): {"timestamp": 0, "input_length":
 * 6758, "output_length": 500, "hash_ids": [0, 1, ...]}. An id stands for a block of 512 prompt
 * tokens with all that is in front of it; the last block may be shorter. */
#include "traces/formats/json_scan.h"
#include "traces/formats/json_values.h"
#include "base/base.h"

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
    if (!ids || json_is_null(ids)) return true;
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
        !json_count(json_object_get(object, "output_length"), 0, JSON_KEY("output_length"), &output,
                    err) ||
        !json_count(json_object_get(object, "input_length"), output > 0, JSON_KEY("input_length"),
                    &request->prompt_tokens, err))
        return LINE_BAD;
    if (output == 0) return LINE_FAILED;
    if (!read_blocks(parser, json_object_get(object, "hash_ids"), err)) return LINE_BAD;
    parser_set_serial(parser, output);
    return LINE_REQUEST;
}

/* The line as it is written, without a tree: its keys in their order. */
static void scan_key(struct scan *scan, const char *key)
{
    struct scan_text found = scan_string(scan);
    scan->good = scan->good && scan_is(found, key);
    scan_expect(scan, ':');
}

static bool scan_request(struct parser *parser, const struct line *line)
{
    struct trace_request *request = &parser->request;
    struct scan scan = scan_line(line);
    size_t most = scan_most_elements(line);
    int32_t left, output;
    parser_reserve(parser, most, 0, 0);
    scan_expect(&scan, '{');
    scan_key(&scan, "timestamp");
    request->arrival_ms = scan_ms(&scan);
    scan_expect(&scan, ',');
    scan_key(&scan, "input_length");
    left = request->prompt_tokens = scan_count(&scan, 1);
    scan_expect(&scan, ',');
    scan_key(&scan, "output_length");
    output = scan_count(&scan, 1);
    scan_expect(&scan, ',');
    scan_key(&scan, "hash_ids");
    scan_expect(&scan, '[');
    do {
        parser->prefixes[request->prefix_count++] =
            (struct trace_prefix){scan_id(&scan), min_i32(left, BLOCK_TOKENS)};
        scan.good = scan.good && left > 0;
        left -= BLOCK_TOKENS;
    } while (scan_more(&scan, ']'));
    scan_expect(&scan, '}');
    scan_end(&scan);
    request->prefixes = parser->prefixes;
    parser_set_serial(parser, output);
    return scan.good;
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    if (scan_request(parser, line)) return LINE_REQUEST;
    parser->request = (struct trace_request){.class_name = ""};
    json_t *object = json_line(line, err);
    if (!object) return LINE_BAD;
    enum line_kind kind = read_request(parser, object, err);
    json_decref(object);
    return kind;
}

const struct format format_mooncake = {
    .format = TRACE_MOONCAKE, .recognises = recognises, .parse = parse};
