/* A model's text made fit for a terminal: what could move the cursor, change colours or turn the
 * direction of a line becomes '?', broken UTF-8 becomes U+FFFD; and such text cut into lines.
 * Widths are utf8proc's: the same on every machine, whatever the locale.
 */
#ifndef SERVER_TERMINAL_TEXT_H
#define SERVER_TERMINAL_TEXT_H

#include "base/strbuf.h"

#include <stddef.h>
#include <stdint.h>

/* One stream of text. Zero-initialise; nothing to release. */
struct terminal_text {
    char tail[4]; /* of a character whose end has not come */
    size_t tail_length;
};

/* Appends the next bytes of the stream; characters may be split over pushes. "\n" and "\t" stay,
 * "\r" goes. What is in `tail` at the end of the stream is no character and is left out. */
void terminal_text_push(struct terminal_text *text, const char *bytes, size_t length,
                        struct strbuf *out);

/* The rest is about text that went through terminal_text_push. */

/* One line of at most `width` columns (>= 2). */
struct terminal_line {
    size_t end;  /* behind its last byte */
    size_t next; /* where the next line begins */
};

/* The line that begins at text[at], at < length: up to a "\n", else broken behind the last word
 * that fits, or inside a word that is longer than a line. */
struct terminal_line terminal_line(const char *text, size_t length, size_t at, int32_t width);

/* Appends text[length] with "\t" as spaces. */
void terminal_print(const char *text, size_t length, int32_t width, struct strbuf *out);

#endif
