/* Outlines: items are trimmed views of the text in its order, the same with either line end, and a
 * limit only cuts the list; prompts made of them equal to the definition.
 *
 * Input: a byte (the limit), a template as one line, then the text. */
#include "tests/fuzz/support_input.h"
#include "server/outline.h"

#include <stdlib.h>
#include <string.h>

#define NO_LIMIT INT32_MAX

static void check_items(const struct outline *outline, struct input text)
{
    size_t end = 0;
    for (int32_t i = 0; i < outline->count; i++) {
        const struct outline_item *item = &outline->items[i];
        const char *view = text.text + item->offset;
        invariant(item->length && item->offset > end && item->offset <= text.left &&
                      item->length <= text.left - item->offset,
                  "item %d: [%zu, +%zu) of %zu bytes", i, item->offset, item->length, text.left);
        invariant(!memchr(view, '\n', item->length), "item %d has two lines", i);
        invariant(outline_trim(&view, item->length) == item->length, "item %d: white space", i);
        end = item->offset + item->length;
        invariant(end == text.left || text.text[end - 1] != '\n', "item %d ends behind a line", i);
    }
}

static void check_limit(const struct outline *all, struct input text, int32_t limit)
{
    struct outline some;
    outline_parse(text.text, text.left, limit, &some);
    invariant(some.count <= limit, "%d items, at most %d", some.count, limit);
    invariant(some.count + some.beyond == all->count && (!some.beyond || some.count == limit),
              "%d + %d items of %d", some.count, some.beyond, all->count);
    for (int32_t i = 0; i < some.count; i++)
        invariant(some.items[i].offset == all->items[i].offset &&
                      some.items[i].length == all->items[i].length,
                  "item %d is another with a limit", i);
    outline_release(&some);
}

/* "\r\n" for "\n": the same items, further behind. */
static void check_line_ends(const struct outline *all, struct input text)
{
    struct strbuf copy = {0};
    struct outline same;
    for (size_t i = 0; i < text.left; i++) {
        if (text.text[i] == '\n') strbuf_char(&copy, '\r');
        strbuf_char(&copy, text.text[i]);
    }
    outline_parse(strbuf_cstr(&copy), copy.length, NO_LIMIT, &same);
    invariant(same.count == all->count, "%d items with \\r\\n, not %d", same.count, all->count);
    for (int32_t i = 0; i < same.count; i++)
        invariant(same.items[i].length == all->items[i].length &&
                      !memcmp(copy.data + same.items[i].offset, text.text + all->items[i].offset,
                              same.items[i].length),
                  "item %d is another with \\r\\n", i);
    outline_release(&same);
    strbuf_free(&copy);
}

/* The template's parts between the places, from left to right. */
static void fill_slowly(const char *rest, struct input item, int32_t index, struct strbuf *out)
{
    for (const char *brace; (brace = strchr(rest, '{')); rest = brace) {
        strbuf_append(out, rest, (size_t)(brace - rest));
        if (!strncmp(brace, "{item}", 6)) {
            strbuf_append(out, item.text, item.left);
            brace += 6;
        } else if (!strncmp(brace, "{index}", 7)) {
            strbuf_format(out, "%d", index);
            brace += 7;
        } else {
            strbuf_char(out, *brace++);
        }
    }
    strbuf_text(out, rest);
}

static void check_fill(const char *template, struct input item, int32_t index)
{
    struct strbuf filled = {0}, slowly = {0};
    outline_fill(template, strlen(template), item.text, item.left, index, &filled);
    fill_slowly(template, item, index, &slowly);
    invariant(filled.length == slowly.length &&
                  !memcmp(strbuf_cstr(&filled), strbuf_cstr(&slowly), slowly.length),
              "filled with %zu bytes, not %zu", filled.length, slowly.length);
    strbuf_free(&filled);
    strbuf_free(&slowly);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    int32_t limit = input_byte(&input) % 16;
    char *template = input_string(input_line(&input));
    struct outline all;
    outline_parse(input.text, input.left, NO_LIMIT, &all);
    invariant(!all.beyond, "%d items beyond no limit", all.beyond);
    check_items(&all, input);
    check_limit(&all, input, limit);
    check_line_ends(&all, input);
    for (int32_t i = 0; i < all.count; i++)
        check_fill(template, (struct input){input.text + all.items[i].offset, all.items[i].length},
                   i + 1);
    outline_release(&all);
    free(template);
    return 0;
}
