/* A CSV trace: columns that are found by their names in a header line, or by the shape of the first
 * line where there is none; a line is a request with one serial stage. What is left to a format are
 * those names, and what a time is.
 */
#ifndef TRACES_FORMATS_CSV_TRACE_H
#define TRACES_FORMATS_CSV_TRACE_H

#include "traces/formats/csv.h"

struct csv_trace {
    const char *owner;  /* "an Azure", of messages */
    const char *header; /* as they show it */
    const char *fields; /* how many a line has, as long as that is not known: "6 or 8" */
    const char *time, *prompt, *output;
    const char *class_name; /* NULL: none */
    /* The columns of a first line that is a request; NULL: it is none. */
    const struct csv_columns *(*shape_of)(const struct csv_field *fields, int count);
    /* In units of 100 ns, from whatever zero. */
    bool (*read_time)(struct csv_field field, const char *column, int64_t *ticks,
                      struct error *err);
};

bool csv_trace_recognises(const struct csv_trace *trace, const struct line *first);
enum line_kind csv_trace_parse(const struct csv_trace *trace, struct parser *parser,
                               const struct line *line, struct error *err);

#endif
