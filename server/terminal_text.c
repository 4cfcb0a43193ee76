#include "server/terminal_text.h"
#include "model/utf8.h"

#include <stdbool.h>
#include <string.h>
#include <utf8proc.h>

#define TAB_COLUMNS 4

/* Controls, and marks that turn or break a line for all that stands in it. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

static void put_character(struct utf8_step step, const char *bytes, struct strbuf *out)
{
    if (step.kind != UTF8_WHOLE)
        strbuf_text(out, "\xef\xbf\xbd");
    else if (step.codepoint == '\n' || step.codepoint == '\t' || !is_control(step.codepoint))
        strbuf_append(out, bytes, step.length);
    else if (step.codepoint != '\r')
        strbuf_char(out, '?');
}

/* One byte more of a character that began in an earlier push; false: the byte is not part of it. */
static bool extend_tail(struct terminal_text *text, char byte, struct strbuf *out)
{
    text->tail[text->tail_length] = byte;
    struct utf8_step step = utf8_step(text->tail, text->tail_length + 1);
    if (step.kind == UTF8_UNFINISHED) {
        text->tail_length++;
        return true;
    }
    text->tail_length = 0;
    put_character(step, text->tail, out);
    return step.kind == UTF8_WHOLE;
}

void terminal_text_push(struct terminal_text *text, const char *bytes, size_t length,
                        struct strbuf *out)
{
    size_t at = 0;
    while (at < length && text->tail_length)
        at += extend_tail(text, bytes[at], out);
    while (at < length) {
        struct utf8_step step = utf8_step(bytes + at, length - at);
        if (step.kind == UTF8_UNFINISHED) {
            text->tail_length = length - at;
            memcpy(text->tail, bytes + at, text->tail_length);
            return;
        }
        put_character(step, bytes + at, out);
        at += step.length;
    }
}

static int32_t columns_of(uint32_t codepoint, int32_t width)
{
    if (codepoint == '\t') return width < TAB_COLUMNS ? width : TAB_COLUMNS;
    return utf8proc_charwidth((utf8proc_int32_t)codepoint);
}

struct terminal_line terminal_line(const char *text, size_t length, size_t at, int32_t width)
{
    struct terminal_line word = {0}; /* as if the line broke at its last space */
    int32_t columns = 0;
    while (at < length) {
        if (text[at] == '\n') return (struct terminal_line){at, at + 1};
        struct utf8_step step = utf8_step(text + at, length - at);
        if (text[at] == ' ') word = (struct terminal_line){at, at + 1};
        columns += columns_of(step.codepoint, width);
        if (columns > width) return word.next ? word : (struct terminal_line){at, at};
        at += step.length;
    }
    return (struct terminal_line){at, at};
}

void terminal_print(const char *text, size_t length, int32_t width, struct strbuf *out)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] != '\t') {
            strbuf_char(out, text[i]);
            continue;
        }
        for (int32_t n = columns_of('\t', width); n > 0; n--)
            strbuf_char(out, ' ');
    }
}
