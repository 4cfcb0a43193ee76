#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *status_words(enum status status)
{
    static const char *const words[] = {
#define X(name, text) text,
        STATUS_MAP(X)
#undef X
    };
    if ((unsigned)status >= sizeof words / sizeof words[0]) return "unknown status";
    return words[status];
}

void make_printable(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        bool high = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080 to U+009F in UTF-8 */
        if (high) c[1] = '?';
        if (high || *c < 0x20 || *c == 0x7f) *c = '?';
    }
}

enum status fail(struct error *err, enum status status, const char *format, ...)
{
    if (!err) return status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    make_printable(err->text);
    err->status = status;
    return status;
}

enum status fail_prefix(struct error *err, const char *format, ...)
{
    if (!err) return ST_INTERNAL;
    char prefix[256];
    char old[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    memcpy(old, err->text, sizeof old);
    int room = (int)(sizeof err->text - 3 - strlen(prefix));
    snprintf(err->text, sizeof err->text, "%s: %.*s", prefix, room, old);
    return err->status;
}

_Noreturn void die_at(const char *file, int line, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "espalier: broken invariant at %s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}
