/* Azure's LLM inference traces (github.com/Azure/AzurePublicDataset): 2023 as in
 * "2023-11-16 18:15:46.6805900,374,44", 2024 with "+00:00" behind the time, 2025 with a further
 * column. Without a header line there are three. */
#include "traces/formats/csv_trace.h"

static const struct csv_columns *shape_of(const struct csv_field *fields, int count)
{
    static const struct csv_columns shape = {3, 0, 1, 2, -1};
    return count == shape.count && csv_is_time(fields[0]) ? &shape : NULL;
}

static const struct csv_trace azure = {
    .owner = "an Azure",
    .header = "TIMESTAMP,ContextTokens,GeneratedTokens",
    .fields = "3",
    .time = "TIMESTAMP",
    .prompt = "ContextTokens",
    .output = "GeneratedTokens",
    .shape_of = shape_of,
    .read_time = csv_time,
};

static bool recognises(const struct line *first)
{
    return csv_trace_recognises(&azure, first);
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    return csv_trace_parse(&azure, parser, line, err);
}

const struct format format_azure = {
    .format = TRACE_AZURE, .recognises = recognises, .parse = parse};
