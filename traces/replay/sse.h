/* Server-sent events out of bytes as they come (WHATWG HTML, "Server-sent events"; lines end in LF
 * or CR LF, a CR alone ends none; a byte order mark may open the stream). Only `data` matters to
 * OpenAI-style streams; `event`, `id`, `retry` and comments are read and dropped. A line with
 * another name is an error here, where the specification ignores it: no server of this kind sends
 * one, and a page of HTML must not pass for a silent stream.
 */
#ifndef TRACES_REPLAY_SSE_H
#define TRACES_REPLAY_SSE_H

#include "base/strbuf.h"

/* A line or the data of one event may not be longer: what a server sends must not eat our memory.
 */
#define SSE_LIMIT (1u << 20)

enum sse_status {
    SSE_OK,
    SSE_STOPPED,  /* on_data said so */
    SSE_BAD_LINE, /* no field of server-sent events */
    SSE_TOO_LONG,
};

struct sse_reader {
    struct strbuf line; /* the beginning of a line whose end has not come yet */
    struct strbuf data; /* of an event whose end has not come yet */
    bool has_data;
    bool begun; /* a line has come */
};

/* One event's data, without a NUL; a view until it returns. false: stop reading. */
typedef bool sse_data_fn(void *context, const char *data, size_t length);

/* Zero-initialise the reader; after anything but SSE_OK it takes no more bytes. What stands in
 * whole events inside `bytes` is not copied. */
enum sse_status sse_feed(struct sse_reader *reader, const char *bytes, size_t count,
                         sse_data_fn *on_data, void *context);
void sse_reset(struct sse_reader *reader); /* for another stream; keeps the memory */
void sse_free(struct sse_reader *reader);

#endif
