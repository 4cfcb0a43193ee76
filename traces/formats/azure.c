/* Azure's LLM inference traces (github.com/Azure/AzurePublicDataset): 2023 as in
 * "2023-11-16 18:15:46.6805900,374,44", 2024 with "+00:00" behind the time, 2025 with a further
 * column. Columns are found by their names; without a header line there are three. */
#include "traces/formats/csv.h"
#include "base/base.h"

#define HEADER "TIMESTAMP,ContextTokens,GeneratedTokens"

static bool recognises(const struct line *first)
{
    struct csv_field fields[CSV_MAX_FIELDS];
    int count = csv_split(first, fields);
    if (count > CSV_MAX_FIELDS) return false;
    if (csv_find(fields, count, "ContextTokens") >= 0) return true;
    return count == 3 && csv_is_time(fields[0]) && csv_is_whole(fields[1]) &&
           csv_is_whole(fields[2]);
}

/* The first line: names, or already a request. */
static enum line_kind read_header(struct csv_columns *columns, const struct csv_field *fields,
                                  int count, struct error *err)
{
    if (count == 3 && csv_is_time(fields[0])) {
        *columns = (struct csv_columns){.count = 3, .prompt = 1, .output = 2, .class_name = -1};
        return LINE_REQUEST;
    }
    *columns = (struct csv_columns){.count = count,
                                    .time = csv_find(fields, count, "TIMESTAMP"),
                                    .prompt = csv_find(fields, count, "ContextTokens"),
                                    .output = csv_find(fields, count, "GeneratedTokens"),
                                    .class_name = -1};
    if (columns->time >= 0 && columns->prompt >= 0 && columns->output >= 0) return LINE_HEADER;
    columns->count = 0;
    fail(err, ST_INVALID, "found a line without the columns of an Azure trace, expected " HEADER);
    return LINE_BAD;
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    struct csv_columns *columns = &parser->columns;
    struct trace_request *request = &parser->request;
    struct csv_field fields[CSV_MAX_FIELDS];
    int count = csv_split(line, fields);
    int32_t output;
    int64_t ticks;
    if (columns->count == 0 && count <= CSV_MAX_FIELDS) {
        enum line_kind kind = read_header(columns, fields, count, err);
        if (kind != LINE_REQUEST) return kind;
    }
    if (count != columns->count) {
        fail(err, ST_INVALID, "found %d fields, expected %d (" HEADER ")", count,
             columns->count ? columns->count : 3);
        return LINE_BAD;
    }
    if (!csv_time(fields[columns->time], "TIMESTAMP", &ticks, err) ||
        !csv_count(fields[columns->output], "GeneratedTokens", 0, &output, err) ||
        !csv_count(fields[columns->prompt], "ContextTokens", output > 0, &request->prompt_tokens,
                   err))
        return LINE_BAD;
    if (output == 0) return LINE_FAILED;
    if (!parser->has_base) parser->base_ticks = ticks;
    parser->has_base = true;
    request->arrival_ms = (double)(ticks - parser->base_ticks) / 1e4;
    parser_set_serial(parser, output);
    return LINE_REQUEST;
}

const struct format format_azure = {
    .format = TRACE_AZURE, .recognises = recognises, .parse = parse};
