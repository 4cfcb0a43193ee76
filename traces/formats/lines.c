#include "traces/formats/lines.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_CAPACITY ((size_t)1 << 18)

enum status lines_open(struct lines *lines, const char *path, struct error *err)
{
    bool standard = !strcmp(path, "-");
    struct stat stat;
    *lines = (struct lines){.name = standard ? "standard input" : path, .fd = STDIN_FILENO};
    if (!standard) lines->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (lines->fd < 0)
        return fail(err, errno == ENOENT ? ST_NOT_FOUND : ST_IO, "%s: %s", path, strerror(errno));
    if (!fstat(lines->fd, &stat) && S_ISREG(stat.st_mode)) lines->size = stat.st_size;
    lines->capacity = FIRST_CAPACITY;
    lines->buffer = must_alloc(lines->capacity);
    return ST_OK;
}

void lines_close(struct lines *lines)
{
    free(lines->buffer);
    lines->buffer = NULL;
    if (lines->fd > STDIN_FILENO) close(lines->fd);
    lines->fd = -1;
}

/* More bytes behind those that are there, or `ended`. Needs room in the buffer. */
static enum status fill(struct lines *lines, struct error *err)
{
    ssize_t got;
    do
        got = read(lines->fd, lines->buffer + lines->end, lines->capacity - lines->end);
    while (got < 0 && errno == EINTR);
    if (got < 0) return fail(err, ST_IO, "%s: %s", lines->name, strerror(errno));
    lines->ended = got == 0;
    lines->end += (size_t)got;
    return ST_OK;
}

static void move_to_front(struct lines *lines)
{
    memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
    lines->end -= lines->start;
    lines->start = 0;
}

/* Room behind what is kept, which is less than a line may have. */
static void make_room(struct lines *lines)
{
    if (lines->start > 0) move_to_front(lines);
    if (lines->end < lines->capacity) return;
    invariant(lines->capacity <= LINE_MAX_BYTES, "a line of %zu bytes was not cut", lines->end);
    lines->capacity *= 2;
    lines->buffer = must_realloc(lines->buffer, lines->capacity);
}

/* The rest of a line that is too long goes unread, behind its beginning. */
static enum status skip_rest(struct lines *lines, size_t kept, struct error *err)
{
    for (;;) {
        char *from = lines->buffer + kept;
        char *newline = memchr(from, '\n', lines->end - kept);
        size_t left = newline ? (size_t)(newline - from) : lines->end - kept;
        lines->position += (int64_t)left;
        if (newline) {
            lines->start = kept + left;
            return ST_OK;
        }
        lines->end = lines->start = kept;
        if (lines->ended) return ST_OK;
        enum status status = fill(lines, err);
        if (status) return status;
    }
}

static void give(struct lines *lines, struct line *line, const char *text, size_t length)
{
    static const char mark[] = "\xef\xbb\xbf";
    if (length > 0 && text[length - 1] == '\r') length--;
    if (lines->number == 0 && length >= 3 && !memcmp(text, mark, 3)) {
        text += 3;
        length -= 3;
    }
    *line = (struct line){.text = text, .length = length, .number = ++lines->number};
}

/* The newline itself, when the line ended with one. */
static void pass_newline(struct lines *lines)
{
    if (lines->start == lines->end) return;
    lines->start++;
    lines->position++;
}

static enum status give_cut(struct lines *lines, struct line *line, struct error *err)
{
    size_t kept = LINE_MAX_BYTES;
    if (lines->start > 0) move_to_front(lines);
    lines->position += (int64_t)kept;
    enum status status = skip_rest(lines, kept, err);
    if (status) return status;
    give(lines, line, lines->buffer, kept);
    line->cut = true;
    pass_newline(lines);
    return ST_OK;
}

enum status lines_next(struct lines *lines, struct line *line, bool *found, struct error *err)
{
    size_t seen = 0;
    *found = true;
    for (;;) {
        char *text = lines->buffer + lines->start;
        size_t kept = lines->end - lines->start;
        char *newline = memchr(text + seen, '\n', kept - seen);
        size_t length = newline ? (size_t)(newline - text) : kept;
        if (length > LINE_MAX_BYTES) return give_cut(lines, line, err);
        if (newline || (lines->ended && kept > 0)) {
            lines->start += length;
            lines->position += (int64_t)length;
            pass_newline(lines);
            give(lines, line, text, length);
            return ST_OK;
        }
        *found = !lines->ended;
        if (lines->ended) return ST_OK;
        seen = kept;
        make_room(lines);
        enum status status = fill(lines, err);
        if (status) return status;
    }
}

bool line_is_blank(const struct line *line)
{
    for (size_t i = 0; i < line->length; i++)
        if (!strchr(" \t\r\v\f", line->text[i]) || !line->text[i]) return false;
    return true;
}

struct shown show_text(const char *text, size_t length)
{
    enum { MOST = 60 };
    struct shown shown;
    size_t kept = length < MOST ? length : MOST;
    if (length == 0) {
        strcpy(shown.text, "nothing");
        return shown;
    }
    while (kept < length && kept > MOST - 4 && ((unsigned char)text[kept] & 0xc0) == 0x80)
        kept--; /* no half character */
    shown.text[0] = '\'';
    memcpy(shown.text + 1, text, kept);
    for (size_t i = 1; i <= kept; i++)
        if (!shown.text[i]) shown.text[i] = '?';
    strcpy(shown.text + 1 + kept, kept < length ? "'..." : "'");
    make_printable(shown.text);
    return shown;
}
