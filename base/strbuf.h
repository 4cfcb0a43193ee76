/* A growing byte string, always followed by a NUL that `length` does not count.
 *
 * Zero-initialise; strbuf_free gives the memory back. Appending cannot fail (base/alloc.h: must_*),
 * so bound what comes from outside before it gets here. Where a client can make it large, set
 * `may_fail` (try_*): without memory the buffer is empty, `failed`, and stays so; whoever uses the
 * text looks at that first.
 */
#ifndef BASE_STRBUF_H
#define BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

struct strbuf {
    char *data; /* NULL while nothing was ever appended; use strbuf_text for a C string */
    size_t length;
    size_t capacity;
    bool may_fail, failed;
};

void strbuf_append(struct strbuf *buf, const void *bytes, size_t count);
void strbuf_text(struct strbuf *buf, const char *text);
void strbuf_char(struct strbuf *buf, char c);
void strbuf_format(struct strbuf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A space and the word, quoted where a shell needs it: a command line to be pasted. */
void strbuf_shell_word(struct strbuf *buf, const char *word);
void strbuf_clear(struct strbuf *buf);                   /* keeps the memory */
void strbuf_truncate(struct strbuf *buf, size_t length); /* no effect when it is shorter */
void strbuf_drop_front(struct strbuf *buf, size_t count);
const char *strbuf_cstr(const struct strbuf *buf); /* "" when empty; view until the next change */
char *strbuf_take(struct strbuf *buf);             /* caller frees; the buffer is empty after */
void strbuf_free(struct strbuf *buf);

#endif
