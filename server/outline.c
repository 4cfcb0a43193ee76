#include "server/outline.h"
#include "base/alloc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TAB_COLUMNS  4
#define NEST_COLUMNS 2 /* one column more or less is how models write one list */
#define MAX_DIGITS   9 /* as in Markdown */
#define MAX_HEADING  6 /* likewise */

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

/* The bytes of the first of the marks that the text begins with, 0: none. */
static size_t any_of(const char *text, size_t length, const char *const *marks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (begins(text, length, marks[i])) return strlen(marks[i]);
    return 0;
}
#define ANY_OF(text, length, marks) any_of(text, length, marks, sizeof(marks) / sizeof *(marks))

size_t outline_number(const char *text, size_t length)
{
    static const char *const opens[] = {"(", "（"}, *const closes[] = {")", "）"},
                             *const others[] = {".", ":", "．", "：", "、"};
    size_t first = ANY_OF(text, length, opens), at = first;
    while (at < length && is_digit(text[at]))
        at++;
    if (at == first || at - first > MAX_DIGITS) return 0;
    size_t end = ANY_OF(text + at, length - at, closes);
    if (!end && !first) end = ANY_OF(text + at, length - at, others);
    at += end;
    return end && (at == length || !is_digit(text[at])) ? at : 0;
}

/* An ASCII bullet and a dash need white space behind them: "-5", "*emphasis*" and "---" are none.
 */
static size_t bullet(const char *text, size_t length)
{
    static const char *const spaced[] = {"-", "*", "+", "–", "—"};
    static const char *const others[] = {"•", "‣", "◦", "▪", "●", "○",
                                         "■", "·", "⁃", "►", "➤", "▸"};
    size_t mark = ANY_OF(text, length, spaced);
    if (mark) return mark == length || is_space(text[mark]) ? mark : 0;
    return ANY_OF(text, length, others);
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

/* The "## " of a heading; 0: none. */
static size_t heading(const char *text, size_t length)
{
    size_t marks = 0;
    while (marks < length && text[marks] == '#')
        marks++;
    if (!marks || marks > MAX_HEADING) return 0;
    while (marks < length && is_space(text[marks]))
        marks++;
    return marks;
}

/* What stands behind a number in emphasis that is open: "**1.** Roses" all of it, "**1. Roses**"
 * and "**1. Roses:** red ones" what is emphasised, for half an emphasis is no text. */
static size_t emphasised(const char **text, size_t length)
{
    const char *end = memmem(*text, length, "**", 2);
    if (!end) return length;
    if (end != *text) return (size_t)(end - *text);
    *text += 2;
    return length - 2;
}

/* The item of a line that begins at its first byte that is no white space; length 0: none.
 * A heading is an item when it is numbered: "### 1. Roses". */
static size_t item_text(const char **line, size_t length)
{
    const char *text = *line, *end = text + length;
    text += heading(text, length);
    bool bold = begins(text, (size_t)(end - text), "**");
    if (bold) text += 2;
    size_t marker = outline_number(text, (size_t)(end - text));
    if (!marker) {
        if (text != *line || is_rule(text, length)) return 0;
        marker = bullet(text, length);
        if (!marker) return 0;
    }
    text += marker;
    length = (size_t)(end - text);
    if (bold) length = emphasised(&text, length);
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
