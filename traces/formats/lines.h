/* A text file line by line, with bounded memory whatever is in it. */
#ifndef TRACES_FORMATS_LINES_H
#define TRACES_FORMATS_LINES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest line that is kept: a request of 100,000 branches, or a prompt of 50 million tokens in
 * Mooncake's blocks. */
#define LINE_MAX_BYTES ((size_t)1 << 20)

struct line {
    const char *text; /* view until the next one is asked for; may hold NUL bytes */
    size_t length;    /* without "\n" or "\r\n" */
    int64_t number;   /* from 1 */
    bool cut;         /* it was longer than LINE_MAX_BYTES: its beginning */
};

struct lines {
    const char *name; /* for messages; borrowed */
    int fd;
    char *buffer;
    size_t start, end, capacity; /* what was read and not yet given out is [start, end) */
    bool ended;
    int64_t number;
    int64_t position; /* bytes given out */
    int64_t size;     /* of the file; 0: not known */
};

/* "-": standard input. ST_NOT_FOUND, ST_IO with the path. */
enum status lines_open(struct lines *lines, const char *path, struct error *err);
/* *found is false at the end. A byte order mark at the very beginning is no part of the line. */
enum status lines_next(struct lines *lines, struct line *line, bool *found, struct error *err);
void lines_close(struct lines *lines);

/* Nothing but white space. */
bool line_is_blank(const struct line *line);

/* Up to 60 bytes of a text as a message can show them: control characters, NUL too, as '?', "..."
 * where it was cut, "nothing" in words when it is empty. */
struct shown {
    char text[72];
};
struct shown show_text(const char *text, size_t length);

#endif
