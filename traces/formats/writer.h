/* The native trace, written. The header with the statistics stands first and is known last:
 * requests go to a nameless file, and where they belong when the header is there.
 */
#ifndef TRACES_FORMATS_WRITER_H
#define TRACES_FORMATS_WRITER_H

#include "traces/trace.h"
#include "base/strbuf.h"

#include <jansson.h>

/* One line, with its newline. What is read from it is the same request, to the bit. */
void trace_line(const struct trace_request *request, struct strbuf *out);

struct trace_writer;

/* "-": standard output. Nothing appears at `path` before trace_writer_finish; what is there stays
 * until then. A path that is no regular file (a pipe, a device) is written into. ST_IO. */
enum status trace_writer_open(const char *path, struct trace_writer **out, struct error *err);
enum status trace_writer_add(struct trace_writer *writer, const struct trace_request *request,
                             struct error *err);
/* The header, then all requests. Frees the writer, whatever comes out. `header` (borrowed) gets
 * "espalier_trace": 1 in front. */
enum status trace_writer_finish(struct trace_writer *writer, const json_t *header,
                                struct error *err);
void trace_writer_discard(struct trace_writer *writer);

#endif
