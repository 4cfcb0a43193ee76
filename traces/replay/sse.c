#include "traces/replay/sse.h"

#include <string.h>

/* Data of the event at hand that lies in the caller's bytes. */
struct view {
    const char *text; /* NULL: none */
    size_t length;
};

static bool field_is(const char *line, size_t name_length, const char *name)
{
    return strlen(name) == name_length && !memcmp(line, name, name_length);
}

static bool known_field(const char *line, size_t name_length)
{
    return name_length == 0 /* a comment */ || field_is(line, name_length, "event") ||
           field_is(line, name_length, "id") || field_is(line, name_length, "retry");
}

static void keep(struct sse_reader *reader, struct view *view)
{
    if (!view->text) return;
    strbuf_append(&reader->data, view->text, view->length);
    reader->has_data = true;
    view->text = NULL;
}

/* `stays`: the line lies in the caller's bytes, so that its data may be looked at later. */
static enum sse_status take_data(struct sse_reader *reader, const char *text, size_t length,
                                 bool stays, struct view *view)
{
    if (stays && !view->text && !reader->has_data) {
        *view = (struct view){text, length};
        return SSE_OK;
    }
    keep(reader, view);
    if (reader->data.length + length + 1 > SSE_LIMIT) return SSE_TOO_LONG;
    if (reader->has_data) strbuf_char(&reader->data, '\n');
    strbuf_append(&reader->data, text, length);
    reader->has_data = true;
    return SSE_OK;
}

static enum sse_status end_event(struct sse_reader *reader, struct view *view, sse_data_fn *on_data,
                                 void *context)
{
    bool more = true;
    if (view->text)
        more = on_data(context, view->text, view->length);
    else if (reader->has_data)
        more = on_data(context, strbuf_cstr(&reader->data), reader->data.length);
    view->text = NULL;
    reader->has_data = false;
    strbuf_clear(&reader->data);
    return more ? SSE_OK : SSE_STOPPED;
}

static enum sse_status take_line(struct sse_reader *reader, const char *line, size_t length,
                                 bool stays, struct view *view, sse_data_fn *on_data, void *context)
{
    if (!reader->begun && length >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) {
        line += 3;
        length -= 3;
    }
    reader->begun = true;
    if (length > 0 && line[length - 1] == '\r') length--;
    if (length == 0) return end_event(reader, view, on_data, context);
    const char *colon = memchr(line, ':', length);
    size_t name_length = colon ? (size_t)(colon - line) : length;
    if (!field_is(line, name_length, "data"))
        return known_field(line, name_length) ? SSE_OK : SSE_BAD_LINE;
    size_t from = colon ? name_length + 1 : length;
    if (from < length && line[from] == ' ') from++;
    return take_data(reader, line + from, length - from, stays, view);
}

enum sse_status sse_feed(struct sse_reader *reader, const char *bytes, size_t count,
                         sse_data_fn *on_data, void *context)
{
    struct view view = {0};
    enum sse_status status = SSE_OK;
    const char *end = bytes + count;
    while (bytes < end && status == SSE_OK) {
        const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));
        size_t length = (size_t)((newline ? newline : end) - bytes);
        if (reader->line.length + length > SSE_LIMIT) return SSE_TOO_LONG;
        if (!newline) {
            strbuf_append(&reader->line, bytes, length);
            break;
        }
        if (reader->line.length == 0) {
            status = take_line(reader, bytes, length, true, &view, on_data, context);
        } else {
            strbuf_append(&reader->line, bytes, length);
            status = take_line(reader, strbuf_cstr(&reader->line), reader->line.length, false,
                               &view, on_data, context);
            strbuf_clear(&reader->line);
        }
        bytes = newline + 1;
    }
    if (status == SSE_OK) keep(reader, &view);
    return status;
}

void sse_reset(struct sse_reader *reader)
{
    strbuf_clear(&reader->line);
    strbuf_clear(&reader->data);
    reader->has_data = reader->begun = false;
}

void sse_free(struct sse_reader *reader)
{
    strbuf_free(&reader->line);
    strbuf_free(&reader->data);
}
