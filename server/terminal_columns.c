#include "server/terminal_columns.h"
#include "base/base.h"
#include "server/terminal_text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MIN_SCREEN 3
#define MIN_COLUMN 16
#define SEPARATOR  " | "
#define BETWEEN    ((int32_t)sizeof SEPARATOR - 1)
#define HEAD_LINES 1
/* So many pushes for every branch in which one of them said nothing: its column may be taken. */
#define SILENCE 4

struct branch {
    struct terminal_text filter;
    struct strbuf text, title;
    size_t top;         /* where its first visible line begins; lines before it are gone for good */
    uint64_t last_push; /* 0: none */
};

struct columns {
    int32_t width, height;
    struct branch *branches; /* a serial stage: one, the text of which waits to be printed */
    int32_t count;
    bool parallel;
    uint64_t pushes;
    int32_t *shown; /* branches with a column, ascending */
    int32_t shown_count;

    struct strbuf *lines; /* [height] of the region as they stand on the screen */
    int32_t line_count;
    int32_t body;      /* lines of text, as many as were ever needed in this stage */
    bool line_open;    /* plain text does not end with a newline */
    bool broke_line;   /* the region stands below an open line: a newline that is not in the text */
    struct strbuf out; /* joined text and what erases the region, for the next frame */
};

struct columns *columns_create(int32_t width, int32_t height)
{
    struct columns *c = must_alloc(sizeof *c);
    /* The last column stays empty: a cursor behind it means different things to terminals. */
    c->width = max_i32(width, MIN_SCREEN) - 1;
    c->height = max_i32(height, MIN_SCREEN);
    c->lines = must_alloc((size_t)c->height * sizeof *c->lines);
    columns_begin_serial(c);
    return c;
}

static void drop_branches(struct columns *c)
{
    for (int32_t i = 0; i < c->count; i++) {
        strbuf_free(&c->branches[i].text);
        strbuf_free(&c->branches[i].title);
    }
    free(c->branches);
    free(c->shown);
}

void columns_free(struct columns *c)
{
    if (!c) return;
    drop_branches(c);
    for (int32_t i = 0; i < c->height; i++)
        strbuf_free(&c->lines[i]);
    free(c->lines);
    strbuf_free(&c->out);
    free(c);
}

/* --- stages */

static void begin(struct columns *c, int32_t count, bool parallel)
{
    drop_branches(c);
    c->branches = must_alloc((size_t)count * sizeof *c->branches);
    c->count = count;
    c->parallel = parallel;
    c->pushes = 0;
    int32_t fit = (c->width + BETWEEN) / (MIN_COLUMN + BETWEEN);
    c->shown_count = min_i32(count, max_i32(fit, 1));
    c->shown = must_alloc((size_t)c->shown_count * sizeof *c->shown);
    for (int32_t i = 0; i < c->shown_count; i++)
        c->shown[i] = i;
}

/* Text that stays on the screen. The newline with which a region began counts as the text's own. */
static void print_plain(struct columns *c, struct strbuf *text)
{
    const char *bytes = strbuf_cstr(text);
    size_t length = text->length;
    if (length) {
        size_t skip = c->broke_line && *bytes == '\n';
        strbuf_append(&c->out, bytes + skip, length - skip);
        c->line_open = bytes[length - 1] != '\n';
        c->broke_line = false;
    }
    strbuf_clear(text);
}

void columns_begin_serial(struct columns *c)
{
    columns_join(c);
    if (!c->count) begin(c, 1, false);
}

static void set_title(struct branch *branch, const char *title, int32_t number)
{
    struct terminal_text filter = {0};
    if (title)
        terminal_text_push(&filter, title, strlen(title), &branch->title);
    else
        strbuf_format(&branch->title, "%d", number);
    for (size_t i = 0; i < branch->title.length; i++)
        if (branch->title.data[i] == '\n' || branch->title.data[i] == '\t')
            branch->title.data[i] = ' ';
}

void columns_begin_parallel(struct columns *c, const char *const *titles, int32_t count)
{
    invariant(count > 0, "%d branches", count);
    columns_join(c);
    print_plain(c, &c->branches->text);
    begin(c, count, true);
    for (int32_t i = 0; i < count; i++)
        set_title(&c->branches[i], titles ? titles[i] : NULL, i + 1);
}

static void erase_region(struct columns *c)
{
    if (!c->line_count) return;
    strbuf_text(&c->out, "\r");
    if (c->line_count > 1) strbuf_format(&c->out, "\033[%dA", c->line_count - 1);
    strbuf_text(&c->out, "\033[J");
    for (int32_t i = 0; i < c->line_count; i++)
        strbuf_clear(&c->lines[i]);
    c->line_count = c->body = 0;
}

void columns_join(struct columns *c)
{
    if (!c->parallel) return;
    erase_region(c);
    for (int32_t i = 0; i < c->count; i++)
        print_plain(c, &c->branches[i].text);
    begin(c, 1, false);
}

void columns_push(struct columns *c, int32_t index, const char *bytes, size_t length)
{
    invariant(index >= 0 && index < c->count, "branch %d of %d", index, c->count);
    struct branch *branch = &c->branches[index];
    terminal_text_push(&branch->filter, bytes, length, &branch->text);
    branch->last_push = ++c->pushes;
}

/* --- which branches have a column */

static bool is_shown(const struct columns *c, int32_t branch)
{
    for (int32_t i = 0; i < c->shown_count; i++)
        if (c->shown[i] == branch) return true;
    return false;
}

/* The hidden branch that was active last; -1: none is hidden. */
static int32_t last_active(const struct columns *c)
{
    int32_t best = -1;
    for (int32_t i = 0; i < c->count; i++)
        if (!is_shown(c, i) && (best < 0 || c->branches[i].last_push > c->branches[best].last_push))
            best = i;
    return best;
}

/* The column whose branch has been silent longest. */
static int32_t most_silent(const struct columns *c)
{
    int32_t best = 0;
    for (int32_t i = 1; i < c->shown_count; i++)
        if (c->branches[c->shown[i]].last_push < c->branches[c->shown[best]].last_push) best = i;
    return best;
}

static int compare_int32(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void choose_shown(struct columns *c)
{
    uint64_t patience = (uint64_t)c->count * SILENCE;
    for (int32_t changes = 0; changes < c->shown_count; changes++) {
        int32_t hidden = last_active(c), place = most_silent(c);
        if (hidden < 0) return;
        uint64_t silent = c->branches[c->shown[place]].last_push;
        if (c->branches[hidden].last_push <= silent || c->pushes - silent <= patience) return;
        c->shown[place] = hidden;
        qsort(c->shown, (size_t)c->shown_count, sizeof *c->shown, compare_int32);
    }
}

/* --- the region */

static int32_t column_width(const struct columns *c)
{
    return max_i32((c->width - BETWEEN * (c->shown_count - 1)) / c->shown_count, 2);
}

/* Moves the branch's top so that at most `room` lines are visible; returns how many are. */
static int32_t visible_lines(struct branch *branch, int32_t width, int32_t room)
{
    const struct strbuf *text = &branch->text;
    int32_t lines = 0;
    for (size_t at = branch->top; at < text->length; lines++) {
        at = terminal_line(strbuf_cstr(text), text->length, at, width).next;
        if (lines >= room)
            branch->top = terminal_line(strbuf_cstr(text), text->length, branch->top, width).next;
    }
    return min_i32(lines, room);
}

/* A column's text begins at an absolute place, so that a character whose width the terminal sees
 * otherwise shifts no other column. */
static void put_separator(const struct columns *c, int32_t place, struct strbuf *out)
{
    if (place) strbuf_format(out, "\033[%dG" SEPARATOR, place * (column_width(c) + BETWEEN) - 2);
}

static void put_titles(const struct columns *c, struct strbuf *out)
{
    for (int32_t place = 0; place < c->shown_count; place++) {
        const struct strbuf *title = &c->branches[c->shown[place]].title;
        size_t end = 0;
        if (title->length) end = terminal_line(title->data, title->length, 0, column_width(c)).end;
        put_separator(c, place, out);
        strbuf_text(out, "\033[1m");
        terminal_print(strbuf_cstr(title), end, column_width(c), out);
        strbuf_text(out, "\033[0m");
    }
}

/* The next line of every column; `at` is where each branch's begins. */
static void put_body(const struct columns *c, size_t *at, struct strbuf *out)
{
    for (int32_t place = 0; place < c->shown_count; place++) {
        const struct strbuf *text = &c->branches[c->shown[place]].text;
        put_separator(c, place, out);
        if (at[place] >= text->length) continue;
        struct terminal_line line =
            terminal_line(text->data, text->length, at[place], column_width(c));
        terminal_print(text->data + at[place], line.end - at[place], column_width(c), out);
        at[place] = line.next;
    }
}

/* Moves to line `to` of the region, making it when it is the first below. */
static int32_t move_to(struct columns *c, int32_t from, int32_t to, struct strbuf *out)
{
    if (to == c->line_count) {
        if (from < to - 1) strbuf_format(out, "\033[%dB", to - 1 - from);
        strbuf_text(out, to ? "\r\n" : "\r");
        c->line_count++;
    } else {
        strbuf_char(out, '\r');
        if (to < from) strbuf_format(out, "\033[%dA", from - to);
        if (to > from) strbuf_format(out, "\033[%dB", to - from);
    }
    return to;
}

/* Draws line `index` when the screen has another; returns where the cursor is. */
static int32_t update_line(struct columns *c, int32_t index, struct strbuf *line, int32_t cursor,
                           struct strbuf *out)
{
    struct strbuf *old = &c->lines[index];
    bool same = index < c->line_count && old->length == line->length &&
                !memcmp(strbuf_cstr(old), strbuf_cstr(line), line->length);
    if (!same) {
        cursor = move_to(c, cursor, index, out);
        strbuf_text(out, "\033[K");
        strbuf_append(out, strbuf_cstr(line), line->length);
        strbuf_clear(old);
        strbuf_append(old, strbuf_cstr(line), line->length);
    }
    strbuf_clear(line);
    return cursor;
}

static void draw_lines(struct columns *c, bool status, struct strbuf *out)
{
    struct strbuf line = {0};
    size_t *at = must_alloc((size_t)c->shown_count * sizeof *at);
    int32_t cursor = max_i32(c->line_count - 1, 0), index = 0;
    for (int32_t place = 0; place < c->shown_count; place++)
        at[place] = c->branches[c->shown[place]].top;
    put_titles(c, &line);
    cursor = update_line(c, index++, &line, cursor, out);
    for (int32_t i = 0; i < c->body; i++) {
        put_body(c, at, &line);
        cursor = update_line(c, index++, &line, cursor, out);
    }
    if (status) {
        strbuf_format(&line, "%d of %d shown", c->shown_count, c->count);
        strbuf_truncate(&line, (size_t)c->width);
        cursor = update_line(c, index++, &line, cursor, out);
    }
    if (cursor != c->line_count - 1) move_to(c, cursor, c->line_count - 1, out);
    strbuf_free(&line);
    free(at);
}

static void draw_region(struct columns *c, struct strbuf *out)
{
    bool status = c->shown_count < c->count;
    int32_t room = c->height - HEAD_LINES - status;
    choose_shown(c);
    for (int32_t place = 0; place < c->shown_count; place++) {
        struct branch *branch = &c->branches[c->shown[place]];
        c->body = max_i32(c->body, visible_lines(branch, column_width(c), room));
    }
    struct strbuf drawn = {0};
    if (!c->line_count && c->line_open) {
        strbuf_text(&drawn, "\r\n");
        c->line_open = false;
        c->broke_line = true;
    }
    draw_lines(c, status, &drawn);
    /* Should a character be wider than we think, it is cut at the edge and not put on a new line.
     */
    if (drawn.length) {
        strbuf_text(out, "\033[?7l");
        strbuf_append(out, drawn.data, drawn.length);
        strbuf_text(out, "\033[?7h");
    }
    strbuf_free(&drawn);
}

void columns_frame(struct columns *c, struct strbuf *out)
{
    if (!c->parallel) print_plain(c, &c->branches->text);
    strbuf_append(out, strbuf_cstr(&c->out), c->out.length);
    strbuf_clear(&c->out);
    if (c->parallel) draw_region(c, out);
}
