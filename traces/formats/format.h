/* What a trace format is to the reader: how its first line looks and how a line becomes a request.
 * One row a format, in reader.c's table.
 */
#ifndef TRACES_FORMATS_FORMAT_H
#define TRACES_FORMATS_FORMAT_H

#include "traces/formats/lines.h"
#include "traces/trace.h"

#include "base/strbuf.h"

#include <jansson.h>

enum line_kind {
    LINE_REQUEST, /* parser.request is filled */
    LINE_HEADER,  /* says something about the others */
    LINE_FAILED,  /* a request that got no answer: left out */
    LINE_BAD,     /* the error says why */
};

/* Places of the columns in a CSV line; -1: not there. */
struct csv_columns {
    int count; /* fields a line has; 0: not yet known */
    int time, prompt, output, class_name;
};

/* What a format keeps from line to line, and the arrays of the request it made last. */
struct parser {
    struct trace_request request; /* points into the arrays below */
    struct trace_prefix *prefixes;
    struct trace_stage *stages;
    int32_t *tokens;
    size_t prefix_capacity, stage_capacity, token_capacity;
    struct strbuf class_name;

    int64_t lines; /* parsed before this one */
    struct csv_columns columns;
    bool has_base;
    int64_t base_ticks; /* of a CSV's first request, in 100 ns */
    json_t *header;     /* native */
};

struct format {
    enum trace_format format;
    bool own_zero; /* arrival times count from a zero of the file's own, which is kept */
    bool (*recognises)(const struct line *first);
    enum line_kind (*parse)(struct parser *parser, const struct line *line, struct error *err);
};

extern const struct format format_azure, format_mooncake, format_burstgpt, format_native;

/* One serial stage of `tokens`. */
void parser_set_serial(struct parser *parser, int32_t tokens);
void parser_reserve(struct parser *parser, size_t prefixes, size_t stages, size_t tokens);
void parser_release(struct parser *parser);

#endif
