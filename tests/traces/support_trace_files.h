/* Trace files for a test: a text in a temporary file, and what reading it gives. */
#ifndef SUPPORT_TRACE_FILES_H
#define SUPPORT_TRACE_FILES_H

#include "traces/trace.h"

#include <stddef.h>

struct loaded {
    enum status status;
    struct error err;
    struct trace *trace; /* NULL on failure; release with trace_free */
    struct trace_read_counts counts;
};

struct loaded load_bytes(const char *bytes, size_t length, struct trace_read_options options);
struct loaded load_text(const char *text, struct trace_read_options options);

/* Fails the test with the words when the text was not read. */
struct trace *load_good(const char *text);

/* The two traces are the same request by request. */
void expect_same_trace(const struct trace *a, const struct trace *b);
void expect_same_request(const struct trace_request *a, const struct trace_request *b);

#endif
