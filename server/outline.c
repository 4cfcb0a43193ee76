#include "server/outline.h"
#include "base/alloc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TAB_COLUMNS  4
#define NEST_COLUMNS 2 /* one column more or less is how models write one list */
#define MAX_DIGITS   9 /* as in Markdown */

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool begins(const char *text, size_t length, const char *with)
{
    size_t n = strlen(with);
    return n <= length && !memcmp(text, with, n);
}

size_t outline_trim(const char **text, size_t length)
{
    while (length && is_space((*text)[length - 1]))
        length--;
    while (length && is_space(**text)) {
        ++*text;
        length--;
    }
    return length;
}

size_t outline_number(const char *text, size_t length)
{
    size_t at = length && *text == '(', first = at;
    while (at < length && is_digit(text[at]))
        at++;
    if (at == first || at - first > MAX_DIGITS || at == length) return 0;
    bool ends = text[at] == ')' || (!first && (text[at] == '.' || text[at] == ':'));
    if (!ends || (at + 1 < length && is_digit(text[at + 1]))) return 0;
    return at + 1;
}

/* An ASCII bullet needs white space behind it: "-5", "*emphasis*" and "---" are none. */
static size_t bullet(const char *text, size_t length)
{
    static const char *const others[] = {"•", "‣", "◦", "▪", "●", "○", "■", "·", "⁃"};
    if (length && strchr("-*+", *text) && *text) return length == 1 || is_space(text[1]) ? 1 : 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (begins(text, length, others[i])) return strlen(others[i]);
    return 0;
}

/* "---", "* * *": three or more of one character and nothing else. */
static bool is_rule(const char *text, size_t length)
{
    size_t marks = 0;
    for (size_t i = 0; i < length; i++) {
        if (is_space(text[i])) continue;
        if (!strchr("-*_", text[i]) || !text[i] || text[i] != *text) return false;
        marks++;
    }
    return marks >= 3;
}

/* The item of a line that begins at its first byte that is no white space; length 0: none.
 * Emphasis that begins before the number ("**1.** Roses", "**1. Roses**") goes with the number. */
static size_t item_text(const char **line, size_t length)
{
    const char *text = *line;
    size_t bold = begins(text, length, "**") ? 2 : 0;
    size_t marker = outline_number(text + bold, length - bold);
    if (!marker) {
        if (bold || is_rule(text, length)) return 0;
        marker = bullet(text, length);
        if (!marker) return 0;
    }
    text += bold + marker;
    length -= bold + marker;
    if (bold && begins(text, length, "**")) {
        text += 2;
        length -= 2;
    } else if (bold && length >= 2 && !memcmp(text + length - 2, "**", 2)) {
        length -= 2;
    }
    *line = text;
    return outline_trim(line, length);
}

/* Takes the white space off the line's ends. */
static int32_t take_indent(const char **line, size_t *length)
{
    int32_t columns = 0;
    const char *start = *line;
    size_t trimmed = outline_trim(line, *length);
    for (; trimmed && start < *line; start++)
        columns += *start == '\t' ? TAB_COLUMNS - columns % TAB_COLUMNS : 1;
    *length = trimmed;
    return columns;
}

static void add(struct outline *out, int32_t max_items, struct outline_item item)
{
    if (out->count == max_items) {
        out->beyond++;
        return;
    }
    /* Grows by doubling: at every power of two. */
    if (!(out->count & (out->count - 1)))
        out->items = must_realloc(out->items,
                                  (out->count ? 2 * (size_t)out->count : 1) * sizeof *out->items);
    out->items[out->count++] = item;
}

void outline_parse(const char *text, size_t length, int32_t max_items, struct outline *out)
{
    *out = (struct outline){0};
    int32_t list = INT32_MAX; /* the column of the list; the leftmost item so far */
    for (size_t at = 0; at < length;) {
        const char *line = text + at, *end = memchr(line, '\n', length - at);
        size_t left = end ? (size_t)(end - line) : length - at;
        at += left + 1;
        int32_t column = take_indent(&line, &left);
        left = item_text(&line, left);
        if (!left || (list != INT32_MAX && column >= list + NEST_COLUMNS)) continue;
        if (column < list) list = column;
        add(out, max_items, (struct outline_item){(size_t)(line - text), left});
    }
}

void outline_release(struct outline *outline)
{
    free(outline->items);
    *outline = (struct outline){0};
}

void outline_fill(const char *template, size_t template_length, const char *item,
                  size_t item_length, int32_t index, struct strbuf *out)
{
    for (size_t at = 0; at < template_length;) {
        const char *rest = template + at;
        size_t left = template_length - at;
        if (begins(rest, left, "{item}")) {
            strbuf_append(out, item, item_length);
            at += strlen("{item}");
        } else if (begins(rest, left, "{index}")) {
            strbuf_format(out, "%d", index);
            at += strlen("{index}");
        } else {
            strbuf_char(out, *rest);
            at++;
        }
    }
}
