#include "traces/results/html.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* Bytes of the UTF-8 character at `text` that XML may hold; 0: none begins there. */
static size_t character_length(const unsigned char *text)
{
    unsigned char c = text[0];
    if (c < 0x80) return c >= 0x20 && c != 0x7f ? 1 : c == '\n' ? 1 : 0;
    size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4) return 0;
    uint32_t code = c & (0xff >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
    if (code < 0xa0 || (code & 0xfffe) == 0xfffe) return 0; /* C1 controls, non-characters */
    if ((code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069))
        return 0; /* would turn the text around them */
    return length;
}

void html_text(struct strbuf *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        size_t length = character_length(at);
        if (length == 0)
            strbuf_text(out, "\xef\xbf\xbd");
        else if (strchr("&<>\"'", *at))
            strbuf_format(out, "&#%d;", *at);
        else
            strbuf_append(out, at, length);
        at += length ? length : 1;
    }
}

void html_format(struct strbuf *out, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0) return;
    html_text(out, text);
    free(text);
}
