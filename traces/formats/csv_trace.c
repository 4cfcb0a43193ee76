#include "traces/formats/csv_trace.h"

bool csv_trace_recognises(const struct csv_trace *trace, const struct line *first)
{
    struct csv_field fields[CSV_MAX_FIELDS];
    int count = csv_split(first, fields);
    if (count > CSV_MAX_FIELDS) return false;
    return csv_find(fields, count, trace->prompt) >= 0 || trace->shape_of(fields, count);
}

/* The first line: names, or already a request. */
static enum line_kind read_header(const struct csv_trace *trace, struct csv_columns *columns,
                                  const struct csv_field *fields, int count, struct error *err)
{
    const struct csv_columns *shape = trace->shape_of(fields, count);
    if (shape) {
        *columns = *shape;
        return LINE_REQUEST;
    }
    *columns = (struct csv_columns){
        .count = count,
        .time = csv_find(fields, count, trace->time),
        .prompt = csv_find(fields, count, trace->prompt),
        .output = csv_find(fields, count, trace->output),
        .class_name = trace->class_name ? csv_find(fields, count, trace->class_name) : -1};
    if (columns->time >= 0 && columns->prompt >= 0 && columns->output >= 0) return LINE_HEADER;
    columns->count = 0;
    fail(err, ST_INVALID, "found a line without the columns of %s trace, expected %s", trace->owner,
         trace->header);
    return LINE_BAD;
}

static bool has_all_fields(const struct csv_trace *trace, const struct csv_columns *columns,
                           int count, struct error *err)
{
    if (count == columns->count) return true;
    if (columns->count)
        fail(err, ST_INVALID, "found %d fields, expected %d (%s)", count, columns->count,
             trace->header);
    else
        fail(err, ST_INVALID, "found %d fields, expected %s (%s)", count, trace->fields,
             trace->header);
    return false;
}

/* Counted from the first request's, so that a double has its fraction whole. */
static void set_arrival(struct parser *parser, int64_t ticks)
{
    if (!parser->has_base) parser->base_ticks = ticks;
    parser->has_base = true;
    parser->request.arrival_ms = (double)(ticks - parser->base_ticks) / 1e4;
}

static void set_class(struct parser *parser, struct csv_field field)
{
    strbuf_clear(&parser->class_name);
    for (size_t i = 0; i < field.length && field.text[i]; i++)
        strbuf_char(&parser->class_name, field.text[i]);
    parser->request.class_name = strbuf_cstr(&parser->class_name);
}

enum line_kind csv_trace_parse(const struct csv_trace *trace, struct parser *parser,
                               const struct line *line, struct error *err)
{
    struct csv_columns *columns = &parser->columns;
    struct csv_field fields[CSV_MAX_FIELDS];
    int count = csv_split(line, fields);
    int32_t output;
    int64_t ticks;
    if (columns->count == 0 && count <= CSV_MAX_FIELDS) {
        enum line_kind kind = read_header(trace, columns, fields, count, err);
        if (kind != LINE_REQUEST) return kind;
    }
    if (!has_all_fields(trace, columns, count, err) ||
        !trace->read_time(fields[columns->time], trace->time, &ticks, err) ||
        !csv_count(fields[columns->output], trace->output, 0, &output, err) ||
        !csv_count(fields[columns->prompt], trace->prompt, output > 0,
                   &parser->request.prompt_tokens, err))
        return LINE_BAD;
    if (output == 0) return LINE_FAILED;
    set_arrival(parser, ticks);
    if (columns->class_name >= 0) set_class(parser, fields[columns->class_name]);
    parser_set_serial(parser, output);
    return LINE_REQUEST;
}
