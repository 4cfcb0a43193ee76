/* The parts of `espalier trace`, one a word behind it (cmd_trace.c lists them).
 */
#ifndef TRACES_CMD_TRACE_H
#define TRACES_CMD_TRACE_H

#include "traces/formats/reader.h"
#include "traces/workload/statistics.h"

#include "base/progress.h"

#include <jansson.h>

int trace_inspect(int argc, char **argv);
int trace_convert(int argc, char **argv);
int trace_generate(int argc, char **argv);

/* 1, or 2 for wrong usage, behind the message. */
int trace_failed(const struct error *err);

/* Of --format; false: said what is allowed. */
bool trace_choose_format(const char *text, enum trace_format *format);

/* What was typed, without where the result goes: the same trace has the same header. Caller frees.
 */
char *trace_command_text(const char *command, int argc, char **argv);

/* One document on standard output; takes the object. */
void trace_print_json(json_t *object);

/* Every key of `from` (which it takes) behind those that are there. */
void trace_add_all(json_t *object, json_t *from);

/* format, lines, bad_lines, first_bad, failed, out_of_order. */
json_t *trace_counts_json(const struct trace_read_counts *counts);

/* A bar over the bytes of a file; nothing where its size is not known. */
struct reading {
    struct trace_reader *reader;
    struct progress bar;
    int64_t requests;
};
void reading_start(struct reading *reading, struct trace_reader *reader);
void reading_step(struct reading *reading); /* behind every request */
void reading_end(struct reading *reading);

#endif
