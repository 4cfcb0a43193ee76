#include "base/strbuf.h"
#include "base/alloc.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct strbuf *buf, size_t more)
{
    if (buf->failed) return false;
    size_t need = buf->length + more + 1;
    if (need <= buf->capacity) return true;
    size_t capacity = buf->capacity ? buf->capacity * 2 : 64;
    if (capacity < need) capacity = need;
    char *data =
        buf->may_fail ? try_realloc(buf->data, 1, capacity) : must_realloc(buf->data, capacity);
    if (!data) {
        strbuf_free(buf);
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void strbuf_append(struct strbuf *buf, const void *bytes, size_t count)
{
    if (!reserve(buf, count)) return;
    if (count) memcpy(buf->data + buf->length, bytes, count);
    buf->length += count;
    buf->data[buf->length] = 0;
}

void strbuf_text(struct strbuf *buf, const char *text)
{
    strbuf_append(buf, text, strlen(text));
}

void strbuf_char(struct strbuf *buf, char c)
{
    strbuf_append(buf, &c, 1);
}

void strbuf_format(struct strbuf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int count = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (count > 0 && reserve(buf, (size_t)count)) {
        vsnprintf(buf->data + buf->length, (size_t)count + 1, format, again);
        buf->length += (size_t)count;
    }
    va_end(again);
}

static bool plain_word(const char *word)
{
    if (!*word) return false;
    for (; *word; word++)
        if (!isalnum((unsigned char)*word) && !strchr("-_./:=,+@%", *word)) return false;
    return true;
}

void strbuf_shell_word(struct strbuf *buf, const char *word)
{
    strbuf_char(buf, ' ');
    if (plain_word(word)) {
        strbuf_text(buf, word);
        return;
    }
    strbuf_char(buf, '\'');
    for (; *word; word++)
        if (*word == '\'')
            strbuf_text(buf, "'\\''");
        else
            strbuf_char(buf, *word);
    strbuf_char(buf, '\'');
}

void strbuf_clear(struct strbuf *buf)
{
    buf->length = 0;
    if (buf->data) buf->data[0] = 0;
}

void strbuf_truncate(struct strbuf *buf, size_t length)
{
    if (length >= buf->length) return;
    buf->length = length;
    buf->data[length] = 0;
}

void strbuf_drop_front(struct strbuf *buf, size_t count)
{
    if (count == 0) return;
    if (count > buf->length) count = buf->length;
    memmove(buf->data, buf->data + count, buf->length - count + 1);
    buf->length -= count;
}

const char *strbuf_cstr(const struct strbuf *buf)
{
    return buf->data ? buf->data : "";
}

char *strbuf_take(struct strbuf *buf)
{
    char *text = buf->data ? buf->data : must_alloc(1);
    *buf = (struct strbuf){0};
    return text;
}

void strbuf_free(struct strbuf *buf)
{
    free(buf->data);
    *buf = (struct strbuf){0};
}
