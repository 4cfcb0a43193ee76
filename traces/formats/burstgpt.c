/* BurstGPT (github.com/HPMLL/BurstGPT, arXiv 2401.17644): "5,ChatGPT,472,18,490,Conversation log",
 * since its third file with a session and an elapsed time behind the timestamp. Seconds, in the
 * third file from a zero far away. 0 response tokens: the request failed. The kind of log becomes
 * the request's class. */
#include "traces/formats/csv_trace.h"

#include <math.h>

static const struct csv_columns *shape_of(const struct csv_field *fields, int count)
{
    static const struct csv_columns short_shape = {6, 0, 2, 3, 5}, long_shape = {8, 0, 4, 5, 7};
    const struct csv_columns *shape = count == 8 ? &long_shape : &short_shape;
    double seconds;
    if (count != shape->count || !csv_seconds(fields[0], "", &seconds, NULL)) return NULL;
    bool counts = csv_is_whole(fields[shape->prompt]) && csv_is_whole(fields[shape->output]);
    return counts ? shape : NULL;
}

static bool read_time(struct csv_field field, const char *column, int64_t *ticks, struct error *err)
{
    double seconds;
    if (!csv_seconds(field, column, &seconds, err)) return false;
    *ticks = (int64_t)llround(seconds * 1e7);
    return true;
}

static const struct csv_trace burstgpt = {
    .owner = "a BurstGPT",
    .header =
        "Timestamp,[Session ID,Elapsed time,]Model,Request tokens,Response tokens,Total tokens,"
        "Log Type",
    .fields = "6 or 8",
    .time = "Timestamp",
    .prompt = "Request tokens",
    .output = "Response tokens",
    .class_name = "Log Type",
    .shape_of = shape_of,
    .read_time = read_time,
};

static bool recognises(const struct line *first)
{
    return csv_trace_recognises(&burstgpt, first);
}

static enum line_kind parse(struct parser *parser, const struct line *line, struct error *err)
{
    return csv_trace_parse(&burstgpt, parser, line, err);
}

const struct format format_burstgpt = {
    .format = TRACE_BURSTGPT, .recognises = recognises, .parse = parse};
