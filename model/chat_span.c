/* Python's strip and find on stretches of a message. */
#include "model/chat_private.h"
#include "model/utf8.h"

/* What str.strip() strips, which is what Jinja's trim calls. */
static bool python_space(uint32_t c)
{
    return (c >= 0x9 && c <= 0xd) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Bytes of the space that text[length] ends with: 0 to 3. */
static size_t trailing_space(const char *text, size_t length)
{
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        struct utf8_step step = utf8_step(text + length - back, back);
        if (step.kind == UTF8_WHOLE && step.length == back)
            return python_space(step.codepoint) * back;
    }
    return 0;
}

struct span span_trim(struct span span)
{
    while (span.length > 0) {
        struct utf8_step step = utf8_step(span.text, span.length);
        if (step.kind != UTF8_WHOLE || !python_space(step.codepoint)) break;
        span.text += step.length;
        span.length -= step.length;
    }
    for (size_t space; (space = trailing_space(span.text, span.length)) > 0;)
        span.length -= space;
    return span;
}

struct span span_lstrip_newlines(struct span span)
{
    for (; span.length && *span.text == '\n'; span.length--)
        span.text++;
    return span;
}

struct span span_rstrip_newlines(struct span span)
{
    while (span.length && span.text[span.length - 1] == '\n')
        span.length--;
    return span;
}

const char *span_find(struct span span, const char *word)
{
    return span.length ? memmem(span.text, span.length, word, strlen(word)) : NULL;
}

const char *span_find_last(struct span span, const char *word)
{
    const char *last = NULL;
    for (const char *at; (at = span_find(span, word));) {
        last = at;
        span.length -= (size_t)(at + 1 - span.text);
        span.text = at + 1;
    }
    return last;
}
