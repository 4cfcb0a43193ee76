/* A trace file, one request at a time: half a million lines in bounded memory.
 *
 * Requests come in order of arrival. A line that stands up to READER_WINDOW requests too late is
 * put in its place; one that is later still is a malformed line. In all formats but the native one
 * the first request arrives at 0.
 */
#ifndef TRACES_FORMATS_READER_H
#define TRACES_FORMATS_READER_H

#include "traces/trace.h"

#include <jansson.h>

#define READER_WINDOW       4096
#define READER_WINDOW_BYTES ((size_t)8 << 20) /* or fewer requests that take so much */

struct trace_reader;

/* Looks at the file's first line, for its format. ST_INVALID: none that is known, or an empty file;
 * ST_NOT_FOUND, ST_IO. */
enum status trace_reader_open(const char *path, const struct trace_read_options *options,
                              struct trace_reader **out, struct error *err);

/* The next request, a view until the call after this; NULL at the end. */
enum status trace_reader_next(struct trace_reader *reader, const struct trace_request **request,
                              struct error *err);
void trace_reader_close(struct trace_reader *reader);

void trace_reader_counts(const struct trace_reader *reader, struct trace_read_counts *counts);
/* The native header line, NULL where there is none. Borrowed. */
const json_t *trace_reader_header(const struct trace_reader *reader);
/* Bytes read and there are, for a progress bar; the size is 0 where it is not known (a pipe). */
int64_t trace_reader_position(const struct trace_reader *reader);
int64_t trace_reader_size(const struct trace_reader *reader);

#endif
