/* The native trace (interfaces.md): a header line, then one JSON object a request. Keys that are
 * not known here are passed over. */
#include "traces/formats/json_values.h"
#include "base/base.h"

#include <stdio.h>
#include <string.h>

#define VERSION 1

static bool holds(const struct line *line, const char *word)
{
    return memmem(line->text, line->length, word, strlen(word)) != NULL;
}

static bool recognises(const struct line *first)
{
    return holds(first, "\"espalier_trace\"") || holds(first, "\"stages\"");
}

/* [[id, tokens], ...] */
static bool read_prefixes(struct parser *parser, const json_t *list, struct error *err)
{
    if (!list) return true;
    if (!json_is_array(list)) {
        fail(err, ST_INVALID, "prefix: found %s, expected a list of [id, tokens]",
             show_value(list).text);
        return false;
    }
    size_t count = json_array_size(list);
    parser_reserve(parser, count, 0, 0);
    for (size_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(list, i);
        char where[48];
        int64_t id;
        snprintf(where, sizeof where, "prefix[%zu][1]", i);
        if (json_array_size(pair) != 2 || !json_whole(json_array_get(pair, 0), &id) || id < 0) {
            fail(err, ST_INVALID, "prefix[%zu]: found %s, expected [id, tokens], whole numbers", i,
                 show_value(pair).text);
            return false;
        }
        parser->prefixes[i] = (struct trace_prefix){.id = (uint64_t)id};
        if (!json_count(json_array_get(pair, 1), 1, where, &parser->prefixes[i].tokens, err))
            return false;
    }
    parser->request.prefixes = parser->prefixes;
    parser->request.prefix_count = (int32_t)count;
    return true;
}

/* A number or a list of them; `tokens` is where they go. */
static bool read_stage(const json_t *value, size_t index, struct trace_stage *stage,
                       int32_t *tokens, struct error *err)
{
    char where[48];
    snprintf(where, sizeof where, "stages[%zu]", index);
    *stage = (struct trace_stage){
        .parallel = json_is_array(value), .branch_count = 1, .branch_tokens = tokens};
    if (!stage->parallel) {
        if (json_is_number(value)) return json_count(value, 1, where, tokens, err);
        fail(err, ST_INVALID,
             "%s: found %s, expected a number (serial) or a list of numbers (branches)", where,
             show_value(value).text);
        return false;
    }
    stage->branch_count = (int32_t)json_array_size(value);
    for (int32_t b = 0; b < stage->branch_count; b++) {
        snprintf(where, sizeof where, "stages[%zu][%d]", index, b);
        if (!json_count(json_array_get(value, (size_t)b), 1, where, &tokens[b], err)) return false;
    }
    if (stage->branch_count > 0) return true;
    fail(err, ST_INVALID, "stages[%zu]: found [], expected at least one branch", index);
    return false;
}

static bool read_stages(struct parser *parser, const json_t *list, struct error *err)
{
    size_t count = json_array_size(list), tokens = 0;
    if (count == 0) {
        fail(err, ST_INVALID, "stages: found %s, expected a list with at least one stage",
             show_value(list).text);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        tokens += 1 + json_array_size(json_array_get(list, i));
    parser_reserve(parser, 0, count, tokens);
    tokens = 0;
    for (size_t i = 0; i < count; i++) {
        struct trace_stage *stage = &parser->stages[i];
        if (!read_stage(json_array_get(list, i), i, stage, parser->tokens + tokens, err))
            return false;
        tokens += (size_t)stage->branch_count;
    }
    parser->request.stages = parser->stages;
    parser->request.stage_count = (int32_t)count;
    return true;
}

static bool read_slo(struct parser *parser, const json_t *slo, struct error *err)
{
    if (!slo || json_is_null(slo)) return true;
    if (!json_is_object(slo)) {
        fail(err, ST_INVALID, "slo: found %s, expected {\"ttft_ms\": ..., \"tpot_ms\": ...}",
             show_value(slo).text);
        return false;
    }
    const json_t *ttft = json_object_get(slo, "ttft_ms"), *tpot = json_object_get(slo, "tpot_ms");
    if (ttft && !json_ms(ttft, "slo.ttft_ms", &parser->request.ttft_ms, err)) return false;
    return !tpot || json_ms(tpot, "slo.tpot_ms", &parser->request.tpot_ms, err);
}

static bool read_class(struct parser *parser, const json_t *value, struct error *err)
{
    if (!value || json_is_null(value)) return true;
    if (!json_is_string(value)) {
        fail(err, ST_INVALID, "class: found %s, expected a name", show_value(value).text);
        return false;
    }
    strbuf_clear(&parser->class_name);
    strbuf_text(&parser->class_name, json_string_value(value));
    parser->request.class_name = strbuf_cstr(&parser->class_name);
    return true;
}

static bool read_request(struct parser *parser, const json_t *object, struct error *err)
{
    struct trace_request *request = &parser->request;
    const json_t *cached = json_object_get(object, "cached_tokens");
    return json_ms(json_object_get(object, "arrival_ms"), "arrival_ms", &request->arrival_ms,
                   err) &&
           json_count(json_object_get(object, "prompt_tokens"), 1, "prompt_tokens",
                      &request->prompt_tokens, err) &&
           (!cached || json_count(cached, 0, "cached_tokens", &request->cached_tokens, err)) &&
           read_prefixes(parser, json_object_get(object, "prefix"), err) &&
           read_stages(parser, json_object_get(object, "stages"), err) &&
           read_slo(parser, json_object_get(object, "slo"), err) &&
           read_class(parser, json_object_get(object, "class"), err);
}

static enum line_kind read_header(struct parser *parser, json_t *object, struct error *err)
{
    const json_t *version = json_object_get(object, "espalier_trace");
    if (!json_is_integer(version) || json_integer_value(version) != VERSION) {
        fail(err, ST_INVALID, "espalier_trace: found %s, this program reads version %d",
             show_value(version).text, VERSION);
        return LINE_BAD;
    }
    if (parser->lines > 0) {
        fail(err, ST_INVALID,
             "found a second header line, expected a request: are these several "
             "traces one behind the other?");
        return LINE_BAD;
    }
    parser->header = json_incref(object);
    return LINE_HEADER;
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    json_t *object = json_line(line, err);
    enum line_kind kind = LINE_BAD;
    if (!object) return LINE_BAD;
    if (json_object_get(object, "espalier_trace"))
        kind = read_header(parser, object, err);
    else if (read_request(parser, object, err))
        kind = LINE_REQUEST;
    json_decref(object);
    return kind;
}

const struct format format_native = {
    .format = TRACE_NATIVE, .own_zero = true, .recognises = recognises, .parse = parse};
