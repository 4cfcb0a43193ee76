/* The native trace (interfaces.md): a header line, then one JSON object a request. Keys that are
 * not known here are passed over. */
#include "traces/formats/json_scan.h"
#include "traces/formats/json_values.h"
#include "base/base.h"

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
    if (!list || json_is_null(list)) return true;
    if (!json_is_array(list)) {
        fail(err, ST_INVALID, "prefix: found %s, expected a list of [id, tokens]",
             show_value(list).text);
        return false;
    }
    size_t count = json_array_size(list);
    parser_reserve(parser, count, 0, 0);
    for (size_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(list, i);
        struct json_place place = {"prefix", (int64_t)i, 1};
        int64_t id;
        if (json_array_size(pair) != 2 || !json_whole(json_array_get(pair, 0), &id) || id < 0) {
            fail(err, ST_INVALID, "prefix[%zu]: found %s, expected [id, tokens], whole numbers", i,
                 show_value(pair).text);
            return false;
        }
        parser->prefixes[i] = (struct trace_prefix){.id = (uint64_t)id};
        if (!json_count(json_array_get(pair, 1), 1, place, &parser->prefixes[i].tokens, err))
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
    struct json_place place = {"stages", (int64_t)index, -1};
    *stage = (struct trace_stage){
        .parallel = json_is_array(value), .branch_count = 1, .branch_tokens = tokens};
    if (!stage->parallel) {
        if (json_is_number(value)) return json_count(value, 1, place, tokens, err);
        fail(err, ST_INVALID,
             "stages[%zu]: found %s, expected a number (serial) or a list of numbers (branches)",
             index, show_value(value).text);
        return false;
    }
    stage->branch_count = (int32_t)json_array_size(value);
    for (int32_t b = 0; b < stage->branch_count; b++) {
        place.second = b;
        if (!json_count(json_array_get(value, (size_t)b), 1, place, &tokens[b], err)) return false;
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
           json_count(json_object_get(object, "prompt_tokens"), 1, JSON_KEY("prompt_tokens"),
                      &request->prompt_tokens, err) &&
           (!cached || json_is_null(cached) ||
            json_count(cached, 0, JSON_KEY("cached_tokens"), &request->cached_tokens, err)) &&
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

/* --- lines as they are written: without a tree */

static void scan_prefixes(struct scan *scan, struct parser *parser)
{
    struct trace_request *request = &parser->request;
    request->prefixes = parser->prefixes;
    scan_expect(scan, '[');
    do {
        struct trace_prefix *prefix = &parser->prefixes[request->prefix_count++];
        scan_expect(scan, '[');
        prefix->id = scan_id(scan);
        scan_expect(scan, ',');
        prefix->tokens = scan_count(scan, 1);
        scan_expect(scan, ']');
    } while (scan_more(scan, ']'));
}

static void scan_stages(struct scan *scan, struct parser *parser)
{
    struct trace_request *request = &parser->request;
    int32_t *tokens = parser->tokens;
    request->stages = parser->stages;
    scan_expect(scan, '[');
    do {
        struct trace_stage *stage = &parser->stages[request->stage_count++];
        *stage = (struct trace_stage){.parallel = scan_if(scan, '['), .branch_tokens = tokens};
        do {
            *tokens++ = scan_count(scan, 1);
            stage->branch_count++;
        } while (stage->parallel && scan_more(scan, ']'));
    } while (scan_more(scan, ']'));
}

static void scan_slo(struct scan *scan, struct trace_request *request)
{
    scan_expect(scan, '{');
    do {
        struct scan_text key = scan_string(scan);
        double *limit = scan_is(key, "ttft_ms") ? &request->ttft_ms : &request->tpot_ms;
        scan->good = scan->good && *limit == 0 && /* not twice */
                     (limit == &request->ttft_ms || scan_is(key, "tpot_ms"));
        scan_expect(scan, ':');
        *limit = scan_ms(scan);
    } while (scan_more(scan, '}'));
}

static void scan_class(struct scan *scan, struct parser *parser)
{
    struct scan_text name = scan_string(scan);
    strbuf_clear(&parser->class_name);
    strbuf_append(&parser->class_name, name.text, name.length);
    parser->request.class_name = strbuf_cstr(&parser->class_name);
}

static const char *const keys[] = {"arrival_ms", "prompt_tokens", "stages", "slo",
                                   "class",      "cached_tokens", "prefix"};
#define NEEDED 0x7 /* the first three */

static void scan_value(struct scan *scan, struct parser *parser, size_t key)
{
    struct trace_request *request = &parser->request;
    switch (key) {
    case 0:
        request->arrival_ms = scan_ms(scan);
        break;
    case 1:
        request->prompt_tokens = scan_count(scan, 1);
        break;
    case 2:
        scan_stages(scan, parser);
        break;
    case 3:
        scan_slo(scan, request);
        break;
    case 4:
        scan_class(scan, parser);
        break;
    case 5:
        request->cached_tokens = scan_count(scan, 0);
        break;
    case 6:
        scan_prefixes(scan, parser);
        break;
    default: /* a key that is not known here */
        scan->good = false;
    }
}

static bool scan_request(struct parser *parser, const struct line *line)
{
    struct scan scan = scan_line(line);
    size_t most = scan_most_elements(line);
    unsigned seen = 0;
    parser_reserve(parser, most, most, most);
    scan_expect(&scan, '{');
    do {
        struct scan_text name = scan_string(&scan);
        size_t key = 0;
        while (key < COUNT_OF(keys) && !scan_is(name, keys[key]))
            key++;
        scan_expect(&scan, ':');
        scan.good = scan.good && !(seen >> key & 1);
        seen |= 1u << key;
        if (scan.good) scan_value(&scan, parser, key);
    } while (scan_more(&scan, '}'));
    scan_end(&scan);
    return scan.good && (seen & NEEDED) == NEEDED;
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    if (scan_request(parser, line)) return LINE_REQUEST;
    parser->request = (struct trace_request){.class_name = ""};
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
