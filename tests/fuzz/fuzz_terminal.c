/* Branches on a terminal: no text gets a control to it, the same text comes out however it was cut
 * into pushes, lines fit their width, and an idle machine draws nothing.
 *
 * Input: a byte (screen's width), a byte (bits 0 to 3: its height; bits 4 and 5: branches less one;
 * bit 6: titles), a byte (bytes a push), then the text, dealt out to the branches in turn. */
#include "tests/fuzz/support_input.h"
#include "server/terminal_columns.h"
#include "server/terminal_text.h"

#include <stdlib.h>
#include <string.h>

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void push_all(struct input text, size_t piece, struct strbuf *out)
{
    struct terminal_text filter = {0};
    for (size_t at = 0; at < text.left; at += piece)
        terminal_text_push(&filter, text.text + at, min_size(piece, text.left - at), out);
}

static bool same(const struct strbuf *a, const struct strbuf *b)
{
    return a->length == b->length && !memcmp(strbuf_cstr(a), strbuf_cstr(b), a->length);
}

static void check_plain(const char *text, size_t length)
{
    invariant(is_utf8(text, length), "broken UTF-8");
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        invariant((c >= ' ' && c != 0x7f) || c == '\n' || c == '\t', "byte %02x at %zu", c, i);
        invariant(c != 0xc2 || (unsigned char)text[i + 1] >= 0xa0, "a C1 control at %zu", i);
    }
}

static void check_lines(const struct strbuf *text, int32_t width)
{
    for (size_t at = 0; at < text->length;) {
        struct terminal_line line = terminal_line(text->data, text->length, at, width);
        invariant(line.end >= at && line.next > at && line.next <= text->length &&
                      line.next - line.end <= 1,
                  "a line from %zu to %zu, then %zu", at, line.end, line.next);
        invariant(!memchr(text->data + at, '\n', line.end - at), "two lines in one");
        struct terminal_line again = terminal_line(text->data + at, line.end - at, 0, width);
        invariant(line.end == at || again.end == line.end - at, "half of it fits too");
        at = line.next;
    }
}

static void check_text(struct input text, size_t piece, int32_t width)
{
    struct strbuf whole = {0}, cut = {0}, twice = {0};
    push_all(text, SIZE_MAX / 2, &whole);
    push_all(text, piece, &cut);
    invariant(same(&whole, &cut), "%zu bytes in pieces, not %zu", cut.length, whole.length);
    check_plain(strbuf_cstr(&whole), whole.length);
    push_all((struct input){strbuf_cstr(&whole), whole.length}, piece, &twice);
    invariant(same(&whole, &twice), "clean text is cleaned");
    check_lines(&whole, width);
    strbuf_free(&whole);
    strbuf_free(&cut);
    strbuf_free(&twice);
}

/* The frame without the sequences the machine itself may write is plain text. */
static void check_frame(const struct strbuf *frame)
{
    struct strbuf rest = {0};
    const char *text = strbuf_cstr(frame);
    for (size_t at = 0; at < frame->length; at++) {
        if (text[at] != '\033') {
            if (text[at] != '\r') strbuf_char(&rest, text[at]);
            continue;
        }
        invariant(text[++at] == '[', "ESC %.4s", text + at);
        at += 1 + strspn(text + at + 1, "?0123456789");
        invariant(text[at] && strchr("ABGJKmhl", text[at]), "ESC [ ... %.4s", text + at);
    }
    check_plain(strbuf_cstr(&rest), rest.length);
    strbuf_free(&rest);
}

static void draw(struct columns *columns, struct strbuf *out)
{
    strbuf_clear(out);
    columns_frame(columns, out);
    check_frame(out);
    size_t drawn = out->length;
    columns_frame(columns, out);
    invariant(out->length == drawn, "nothing new, and %zu bytes", out->length - drawn);
}

static void check_columns(struct columns *columns, int32_t count, const char *const *titles,
                          struct input text, size_t piece)
{
    struct strbuf out = {0}, answer = {0};
    columns_begin_parallel(columns, titles, count);
    for (int32_t i = 0; i < count; i++) {
        struct terminal_text filter = {0};
        for (size_t at = (size_t)i * piece; at < text.left; at += piece * (size_t)count)
            terminal_text_push(&filter, text.text + at, min_size(piece, text.left - at), &answer);
    }
    for (size_t at = 0, turn = 0; at < text.left; at += piece, turn++) {
        columns_push(columns, (int32_t)(turn % (size_t)count), text.text + at,
                     min_size(piece, text.left - at));
        draw(columns, &out);
    }
    columns_join(columns);
    draw(columns, &out);
    invariant(out.length >= answer.length && !memcmp(strbuf_cstr(&out) + out.length - answer.length,
                                                     strbuf_cstr(&answer), answer.length),
              "the answer does not follow the join");
    strbuf_free(&out);
    strbuf_free(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    int32_t width = input_byte(&input);
    uint8_t flags = input_byte(&input);
    size_t piece = 1 + (size_t)input_byte(&input) % 64;
    int32_t count = 1 + (flags >> 4 & 3);
    char *title = input_string(input);
    const char *const titles[] = {title, NULL, "", title};
    check_text(input, piece, max_i32(width, 2));
    struct columns *columns = columns_create(width, flags & 15);
    check_columns(columns, count, flags & 64 ? titles : NULL, input, piece);
    columns_free(columns);
    free(title);
    return 0;
}
