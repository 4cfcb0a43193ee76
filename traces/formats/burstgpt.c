/* BurstGPT (github.com/HPMLL/BurstGPT, arXiv 2401.17644): "5,ChatGPT,472,18,490,Conversation log",
 * since its third file with a session and an elapsed time behind the timestamp. Seconds, in the
 * third file from a zero far away. 0 response tokens: the request failed. The kind of log becomes
 * the request's class. */
#include "traces/formats/csv.h"
#include "base/base.h"

#define HEADER                                                                                   \
    "Timestamp,[Session ID,Elapsed time,]Model,Request tokens,Response tokens,Total tokens,Log " \
    "Type"

static const struct csv_columns short_shape = {6, 0, 2, 3, 5}, long_shape = {8, 0, 4, 5, 7};

/* The shape of a line without a header above it; NULL: none. */
static const struct csv_columns *shape_of(const struct csv_field *fields, int count)
{
    const struct csv_columns *shape = count == 8 ? &long_shape : &short_shape;
    double seconds;
    if (count != shape->count || !csv_seconds(fields[0], "", &seconds, NULL)) return NULL;
    bool counts = csv_is_whole(fields[shape->prompt]) && csv_is_whole(fields[shape->output]);
    return counts ? shape : NULL;
}

static bool recognises(const struct line *first)
{
    struct csv_field fields[CSV_MAX_FIELDS];
    int count = csv_split(first, fields);
    if (count > CSV_MAX_FIELDS) return false;
    return csv_find(fields, count, "Request tokens") >= 0 || shape_of(fields, count);
}

static enum line_kind read_header(struct csv_columns *columns, const struct csv_field *fields,
                                  int count, struct error *err)
{
    const struct csv_columns *shape = shape_of(fields, count);
    if (shape) {
        *columns = *shape;
        return LINE_REQUEST;
    }
    *columns = (struct csv_columns){.count = count,
                                    .time = csv_find(fields, count, "Timestamp"),
                                    .prompt = csv_find(fields, count, "Request tokens"),
                                    .output = csv_find(fields, count, "Response tokens"),
                                    .class_name = csv_find(fields, count, "Log Type")};
    if (columns->time >= 0 && columns->prompt >= 0 && columns->output >= 0) return LINE_HEADER;
    columns->count = 0;
    fail(err, ST_INVALID, "found a line without the columns of a BurstGPT trace, expected " HEADER);
    return LINE_BAD;
}

static void set_class(struct parser *parser, struct csv_field field)
{
    strbuf_clear(&parser->class_name);
    for (size_t i = 0; i < field.length && field.text[i]; i++)
        strbuf_char(&parser->class_name, field.text[i]);
    parser->request.class_name = strbuf_cstr(&parser->class_name);
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    struct csv_columns *columns = &parser->columns;
    struct trace_request *request = &parser->request;
    struct csv_field fields[CSV_MAX_FIELDS];
    int count = csv_split(line, fields);
    int32_t output;
    double seconds;
    if (columns->count == 0 && count <= CSV_MAX_FIELDS) {
        enum line_kind kind = read_header(columns, fields, count, err);
        if (kind != LINE_REQUEST) return kind;
    }
    if (count != columns->count) {
        fail(err, ST_INVALID, "found %d fields, expected %s%d (" HEADER ")", count,
             columns->count ? "" : "6 or ", columns->count ? columns->count : 8);
        return LINE_BAD;
    }
    if (!csv_seconds(fields[columns->time], "Timestamp", &seconds, err) ||
        !csv_count(fields[columns->output], "Response tokens", 0, &output, err) ||
        !csv_count(fields[columns->prompt], "Request tokens", output > 0, &request->prompt_tokens,
                   err))
        return LINE_BAD;
    if (output == 0) return LINE_FAILED;
    request->arrival_ms = seconds * 1000;
    if (columns->class_name >= 0) set_class(parser, fields[columns->class_name]);
    parser_set_serial(parser, output);
    return LINE_REQUEST;
}

const struct format format_burstgpt = {
    .format = TRACE_BURSTGPT, .recognises = recognises, .parse = parse};
