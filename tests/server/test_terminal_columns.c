/* Branches side by side, as a small screen shows them: exact pictures, and over random texts the
 * same picture however often it was drawn and the whole answer behind it. */
#include "base/base.h"
#include "model/utf8.h"
#include "server/terminal_columns.h"
#include "server/terminal_text.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* --- a terminal: what it shows, and above it what has scrolled off */

#define ROWS  2000
#define CELLS 200

static struct screen {
    int32_t width, height, first; /* the row at the top */
    int32_t row, column, last;    /* the cursor; the lowest row ever written to */
    bool wraps;
    char cells[ROWS][CELLS][8]; /* a cell's character with what combines with it; "" is blank */
} screen;

static void screen_begin(int32_t width, int32_t height)
{
    memset(&screen, 0, sizeof screen);
    screen.width = width;
    screen.height = height;
    screen.wraps = true;
}

static void line_feed(void)
{
    cr_assert_lt(++screen.row, ROWS);
    screen.last = max_i32(screen.last, screen.row);
    screen.first = max_i32(screen.first, screen.row - screen.height + 1);
}

static void put(const char *bytes, size_t length, int32_t width)
{
    if (!width) {
        char *before = screen.cells[screen.row][max_i32(screen.column - 1, 0)];
        if (strlen(before) + length < 8) strncat(before, bytes, length);
        return;
    }
    if (screen.column + width > screen.width) {
        cr_assert(screen.wraps, "a line of the region is wider than the screen");
        screen.column = 0;
        line_feed();
    }
    memcpy(screen.cells[screen.row][screen.column], bytes, length);
    screen.cells[screen.row][screen.column][length] = 0;
    for (int32_t i = 1; i < width; i++)
        strcpy(screen.cells[screen.row][screen.column + i], "\x01"); /* the rest of a wide one */
    screen.column += width;
}

static void erase_from(int32_t column)
{
    for (int32_t i = column; i < screen.width; i++)
        *screen.cells[screen.row][i] = 0;
}

/* What stands behind "ESC ["; returns its bytes. */
static size_t control(const char *text)
{
    char *end;
    if (!strncmp(text, "?7", 2)) {
        screen.wraps = text[2] == 'h';
        cr_assert(text[2] == 'h' || text[2] == 'l');
        return 3;
    }
    int32_t n = max_i32((int32_t)strtol(text, &end, 10), 1);
    if (*end == 'A') {
        screen.row -= n;
        cr_assert_geq(screen.row, screen.first, "the cursor leaves the screen");
    } else if (*end == 'B') {
        screen.row += n;
        cr_assert_lt(screen.row, screen.first + screen.height, "the cursor leaves the screen");
    } else if (*end == 'G') {
        screen.column = n - 1;
    } else if (*end == 'K') {
        erase_from(screen.column);
    } else if (*end == 'J') {
        int32_t row = screen.row;
        erase_from(screen.column);
        while (++screen.row <= screen.last)
            erase_from(0);
        screen.row = row;
    } else {
        cr_assert_eq(*end, 'm', "ESC [ %.8s", text);
    }
    return (size_t)(end - text) + 1;
}

static void screen_write(const struct strbuf *bytes)
{
    const char *text = strbuf_cstr(bytes);
    for (size_t at = 0; at < bytes->length;) {
        struct utf8_step step = utf8_step(text + at, bytes->length - at);
        cr_assert_eq(step.kind, UTF8_WHOLE, "broken UTF-8");
        if (step.codepoint == '\033') {
            cr_assert_eq(text[at + 1], '[');
            at += 2 + control(text + at + 2);
            continue;
        }
        if (step.codepoint == '\n' || step.codepoint == '\r') screen.column = 0;
        if (step.codepoint == '\n') line_feed(); /* the driver adds the return, as terminals' do */
        if (step.codepoint >= ' ')
            put(text + at, step.length, utf8proc_charwidth((utf8proc_int32_t)step.codepoint));
        else
            cr_assert(strchr("\r\n", (int)step.codepoint), "control %u", step.codepoint);
        at += step.length;
    }
}

/* Every row from the first on, a newline behind each; blank ends of rows and of all are left out.
 */
static char *screen_text(void)
{
    struct strbuf text = {0};
    size_t end = 0;
    for (int32_t row = 0; row <= screen.last; row++) {
        size_t line = text.length;
        for (int32_t i = 0; i < screen.width; i++) {
            const char *cell = screen.cells[row][i];
            if (*cell != 1) strbuf_text(&text, *cell ? cell : " ");
        }
        while (text.length > line && text.data[text.length - 1] == ' ')
            strbuf_truncate(&text, text.length - 1);
        strbuf_char(&text, '\n');
        if (text.length > line + 1) end = text.length;
    }
    strbuf_truncate(&text, end);
    strbuf_char(&text, 0);
    return strbuf_take(&text);
}

static void expect_at(int line, const char *picture)
{
    char *text = screen_text();
    cr_assert_str_eq(text, picture, "line %d:\n%s---- not ----\n%s", line, text, picture);
    free(text);
}
#define expect(picture) expect_at(__LINE__, picture)

/* --- the machine on it */

static struct columns *columns;

static void begin_on(int32_t width, int32_t height)
{
    screen_begin(width, height);
    columns = columns_create(width, height);
}

static void say(int32_t branch, const char *text)
{
    columns_push(columns, branch, text, strlen(text));
}

static size_t frame(void)
{
    struct strbuf out = {0};
    columns_frame(columns, &out);
    size_t length = out.length;
    screen_write(&out);
    strbuf_free(&out);
    return length;
}

static void join(void)
{
    columns_join(columns);
    frame();
}

Test(terminal_columns, serial_text_streams)
{
    begin_on(20, 5);
    cr_assert_eq(frame(), 0);
    say(0, "One ");
    frame();
    say(0, "two\nthree");
    struct strbuf out = {0};
    columns_frame(columns, &out);
    cr_assert_str_eq(strbuf_cstr(&out), "two\nthree");
    strbuf_free(&out);
    cr_assert_eq(frame(), 0);
    columns_free(columns);
}

Test(terminal_columns, two_branches_side_by_side_and_their_join)
{
    begin_on(42, 10);
    say(0, "1. Roses\n2. Tulips");
    const char *titles[] = {"Roses", "Tulips"};
    columns_begin_parallel(columns, titles, 2);
    frame();
    expect("1. Roses\n2. Tulips\nRoses               | Tulips\n");
    say(0, "\n## Roses\nThey are red and have thorns.");
    say(1, "\n## Tulips\n");
    frame();
    expect("1. Roses\n2. Tulips\n"
           "Roses               | Tulips\n"
           "                    |\n"
           "## Roses            | ## Tulips\n"
           "They are red and    |\n"
           "have thorns.        |\n");
    cr_assert_eq(frame(), 0);
    say(1, "Yellow.\n");
    frame();
    expect("1. Roses\n2. Tulips\n"
           "Roses               | Tulips\n"
           "                    |\n"
           "## Roses            | ## Tulips\n"
           "They are red and    | Yellow.\n"
           "have thorns.        |\n");
    join();
    expect("1. Roses\n2. Tulips\n## Roses\nThey are red and have thorns.\n## Tulips\nYellow.\n");
    say(0, "So much ");
    say(0, "for that.");
    frame();
    expect("1. Roses\n2. Tulips\n## Roses\nThey are red and have thorns.\n## Tulips\nYellow.\n"
           "So much for that.\n");
    columns_free(columns);
}

Test(terminal_columns, only_what_changed_is_drawn)
{
    begin_on(42, 10);
    columns_begin_parallel(columns, NULL, 2);
    say(0, "a\nb\nc");
    say(1, "d");
    frame();
    say(1, "e");
    struct strbuf out = {0};
    columns_frame(columns, &out);
    cr_assert_str_eq(strbuf_cstr(&out), "\033[?7l\r\033[2A\033[Ka\033[20G | de\r\033[2B\033[?7h");
    strbuf_free(&out);
    columns_free(columns);
}

Test(terminal_columns, long_branches_show_their_ends)
{
    begin_on(40, 4);
    columns_begin_parallel(columns, NULL, 2);
    for (int32_t i = 0; i < 30; i++) {
        char line[16];
        snprintf(line, sizeof line, "line %d\n", i);
        say(0, line);
        if (i < 2) say(1, line);
        frame();
    }
    expect("1                  | 2\n"
           "line 27            | line 0\n"
           "line 28            | line 1\n"
           "line 29            |\n");
    cr_assert_eq(screen.last, 3, "the region scrolled");
    columns_join(columns);
    frame();
    cr_assert_eq(screen.last, 32);
    columns_free(columns);
}

Test(terminal_columns, below_other_text_at_the_end_of_the_screen)
{
    begin_on(40, 4);
    say(0, "a\nb\nc\nd");
    frame();
    columns_begin_parallel(columns, NULL, 2);
    frame();
    say(1, "x\ny\nz\nw");
    say(0, "p\n");
    frame();
    expect("a\nb\nc\nd\n"
           "1                  | 2\n"
           "p                  | y\n"
           "                   | z\n"
           "                   | w\n");
    join();
    expect("a\nb\nc\nd\np\nx\ny\nz\nw\n");
    columns_free(columns);
}

Test(terminal_columns, the_ones_active_most_recently)
{
    begin_on(60, 5);
    columns_begin_parallel(columns, NULL, 8);
    for (int32_t round = 0; round < 20; round++)
        for (int32_t i = 7; i >= 0; i--) {
            say(i, "ab"); /* a frame for every token: nobody loses the column */
            frame();
            cr_assert_str_eq(screen.cells[0][0], "1");
            cr_assert_str_eq(screen.cells[0][40], "3");
        }
    expect("1                 | 2                 | 3\n"
           "ababababababababa | ababababababababa | ababababababababa\n"
           "babababababababab | babababababababab | babababababababab\n"
           "ababab            | ababab            | ababab\n"
           "3 of 8 shown\n");
    for (int32_t i = 0; i < 34; i++) {
        say(1, "c");
        if (i < 17) say(6, "d");
    }
    frame();
    expect("1                 | 2                 | 7\n"
           "ababababababababa | abababccccccccccc | babababababababab\n"
           "babababababababab | ccccccccccccccccc | abababddddddddddd\n"
           "ababab            | cccccc            | dddddd\n"
           "3 of 8 shown\n");
    columns_free(columns);
}

Test(terminal_columns, narrow_and_low_screens)
{
    begin_on(17, 3);
    const char *titles[] = {"A title longer than a column", NULL};
    columns_begin_parallel(columns, titles, 2);
    say(0, "over there and back again");
    frame();
    expect("A title longer\nback again\n1 of 2 shown\n");
    join();
    expect("over there and ba\nck again\n");
    columns_free(columns);

    begin_on(3, 3);
    columns_free(columns);
    columns = columns_create(0, -1);
    columns_begin_parallel(columns, NULL, 20);
    say(0, "a\xe7\x8e\xab\xe7\x91\xb0\t");
    frame();
    expect("1\n\n1\n");
    columns_free(columns);
}

Test(terminal_columns, wide_and_combining_characters)
{
    begin_on(36, 6);
    columns_begin_parallel(columns, NULL, 2);
    say(0, "玫瑰玫瑰玫瑰玫瑰玫瑰");
    say(1, "cafe\xcc");
    frame();
    say(1, "\x81\tx");
    frame();
    expect("1                | 2\n"
           "玫瑰玫瑰玫瑰玫瑰 | cafe\xcc\x81    x\n"
           "玫瑰             |\n");
    columns_free(columns);
}

Test(terminal_columns, titles_stay_on_their_line)
{
    begin_on(40, 6);
    const char *titles[] = {"two\nlines\033[2J", ""};
    columns_begin_parallel(columns, titles, 2);
    frame();
    expect("two lines?[2J      |\n");
    columns_free(columns);
}

Test(terminal_columns, stages_without_frames_or_text)
{
    begin_on(40, 6);
    columns_begin_parallel(columns, NULL, 3);
    say(2, "x\n");
    columns_begin_parallel(columns, NULL, 2);
    say(0, "y");
    columns_begin_serial(columns);
    columns_begin_serial(columns);
    say(0, "z");
    frame();
    expect("x\nyz\n");
    columns_begin_parallel(columns, NULL, 2);
    frame();
    expect("x\nyz\n1                  | 2\n");
    columns_begin_serial(columns);
    say(0, "\nw\xf0\x9f"); /* half a character is none */
    join();
    expect("x\nyz\nw\n");
    columns_begin_parallel(columns, NULL, 1);
    columns_join(columns);
    say(0, "v");
    frame();
    expect("x\nyz\nwv\n");
    columns_free(columns);
}

Test(terminal_columns, a_model_cannot_play_with_the_terminal)
{
    static const char hostile[] = "a\033[2J\033]0;t\007b\r\nc\rd\x7f\b\xc2\x9b"
                                  "1m\xe2\x80\xaex\xe2\x81\xa6y\0z\xff\xed\xa0\x80.";
    static const char tame[] = "a?[2J?]0;t?b\ncd???1m?x?y?z\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef"
                               "\xbf\xbd.";
    for (size_t piece = 1; piece < sizeof hostile; piece++) {
        struct terminal_text filter = {0};
        struct strbuf out = {0};
        for (size_t at = 0; at < sizeof hostile - 1; at += piece) {
            size_t left = sizeof hostile - 1 - at;
            terminal_text_push(&filter, hostile + at, left < piece ? left : piece, &out);
        }
        cr_assert_str_eq(strbuf_cstr(&out), tame, "in pieces of %zu: %s", piece, strbuf_cstr(&out));
        strbuf_free(&out);
    }
}

/* The lines with a "|" behind each. */
static void expect_lines(const char *text, int32_t width, const char *lines)
{
    struct strbuf out = {0};
    size_t length = strlen(text);
    for (size_t at = 0; at < length;) {
        struct terminal_line line = terminal_line(text, length, at, width);
        cr_assert(line.end >= at && line.next > at && line.next >= line.end);
        terminal_print(text + at, line.end - at, width, &out);
        strbuf_char(&out, '|');
        at = line.next;
    }
    cr_assert_str_eq(strbuf_cstr(&out), lines, "[%s], not [%s]", strbuf_cstr(&out), lines);
    strbuf_free(&out);
}

Test(terminal_columns, lines)
{
    expect_lines("one two three", 7, "one two|three|");
    expect_lines("one two three", 6, "one|two|three|");
    expect_lines("one two three", 3, "one|two|thr|ee|");
    expect_lines("a\n\nb\n", 4, "a||b|");
    expect_lines("abc de", 4, "abc|de|");
    expect_lines("abcd e", 4, "abcd|e|");
    expect_lines("  indented", 5, " |inden|ted|");
    expect_lines("玫瑰", 3, "玫|瑰|");
    expect_lines("\t\ta", 3, "   |   |a|");
    expect_lines("a\tb", 5, "a    |b|");
}

/* Random texts in random pieces, one machine drawn after every push and one at the end only: the
 * same picture, and behind it the whole answer. */
static void run_randomly(uint64_t seed, bool every_push, char **picture, char **answer)
{
    static const char *const words[] = {"a", "tree ", "\n", "玫瑰", "long-word-", " ", "e\xcc\x81"};
    uint64_t state = seed * 2 + 1;
    int32_t width = 21 + (int32_t)(seed % 60), count = (width + 2) / 19;
    struct strbuf texts[4] = {0};
    begin_on(width, 3 + (int32_t)(seed % 9));
    columns_begin_parallel(columns, NULL, count);
    for (int32_t i = 0; i < 150; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const char *word = words[(state >> 33) % COUNT_OF(words)];
        int32_t branch = (int32_t)((state >> 48) % (uint64_t)count);
        say(branch, word);
        strbuf_text(&texts[branch], word);
        if (every_push) frame();
    }
    frame();
    *picture = screen_text();
    join();
    *answer = screen_text();
    columns_free(columns);

    begin_on(width, 3 + (int32_t)(seed % 9));
    for (int32_t i = 0; i < count; i++) {
        screen_write(&texts[i]);
        strbuf_free(&texts[i]);
    }
    char *plain = screen_text();
    cr_assert_str_eq(*answer, plain, "seed %zu", (size_t)seed);
    columns_free(columns);
    free(plain);
}

Test(terminal_columns, random_texts)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        char *pictures[2], *answers[2];
        for (int32_t i = 0; i < 2; i++)
            run_randomly(seed, i, &pictures[i], &answers[i]);
        cr_assert_str_eq(pictures[0], pictures[1], "seed %zu:\n%s---- and ----\n%s", (size_t)seed,
                         pictures[0], pictures[1]);
        cr_assert_str_eq(answers[0], answers[1]);
        for (int32_t i = 0; i < 2; i++) {
            free(pictures[i]);
            free(answers[i]);
        }
    }
}
