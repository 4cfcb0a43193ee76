/* Tag grammars: refused by field, or one no tag of which contains another; the watcher finds the
 * same however the text is cut, each event once and where its tag ends, in bounded memory.
 *
 * Input: a byte (bits 0 and 1: where the sequence begins; bits 2 to 4: items allowed; bit 5: the
 * text 40 times), a byte (bytes a push), the grammar's JSON as one line, then the text. */
#include "tests/fuzz/support_input.h"
#include "server/tag_grammar.h"

#include <stdlib.h>
#include <string.h>

#define TAGS 7

static const char *tag_text(const struct tag_grammar *g, size_t tag)
{
    const char *const tags[TAGS] = {g->open, g->plan_open, g->item_open, g->item_close,
                                    g->fork, g->path_end,  g->close};
    return tags[tag];
}

static void check_grammar(const struct tag_grammar *grammar)
{
    for (size_t i = 0; i < TAGS; i++) {
        const char *tag = tag_text(grammar, i);
        invariant(*tag && strlen(tag) <= TAG_BYTES, "tag %zu of %zu bytes", i, strlen(tag));
        for (size_t j = 0; j < TAGS; j++)
            invariant(i == j || i + j == 1 || !strstr(tag, tag_text(grammar, j)),
                      "'%s' contains '%s'", tag, tag_text(grammar, j));
        invariant(!strstr(grammar->plan_open, grammar->open) ||
                      !strcmp(grammar->plan_open, grammar->open),
                  "plan_open contains open");
    }
    invariant(*grammar->path_prompt && *grammar->join_prompt, "an empty prompt");
}

static bool read_grammar(struct input line, struct tag_grammar *grammar)
{
    struct api_error error = {0};
    json_t *value = json_loadb(line.text, line.left, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!value) return false;
    bool taken = tag_grammar_read(value, grammar, &error);
    if (taken)
        check_grammar(grammar);
    else
        invariant(!strncmp(error.param, "branching.grammar", 17) && *error.message,
                  "refused '%s': '%s'", error.param, error.message);
    json_decref(value);
    return taken;
}

/* What one watcher saw of a text. */
struct seen {
    size_t at[4]; /* by event: the byte behind it, 0: never */
    struct strbuf items;
};

static void check_items(const struct tag_watcher *watcher, struct strbuf *out)
{
    invariant(watcher->count > 0 && watcher->count <= watcher->max_items, "%d items",
              watcher->count);
    for (int32_t i = 0; i < watcher->count; i++) {
        const struct tag_item *item = &watcher->items[i];
        invariant(item->offset <= watcher->text.length &&
                      item->length <= watcher->text.length - item->offset,
                  "item %d: [%zu, +%zu) of %zu bytes", i, item->offset, item->length,
                  watcher->text.length);
        for (size_t tag = 0; tag < TAGS; tag++) {
            const char *text = tag_text(watcher->grammar, tag);
            invariant(!memmem(watcher->text.data + item->offset, item->length, text, strlen(text)),
                      "item %d contains '%s'", i, text);
        }
        strbuf_append(out, watcher->text.data + item->offset, item->length);
        strbuf_char(out, '|');
    }
}

static void check_event(const struct tag_watcher *watcher, enum tag_start start,
                        enum tag_event event, struct input before, struct seen *seen)
{
    invariant(!seen->at[event], "event %d twice", event);
    invariant(!seen->at[TAG_FORK] && !seen->at[TAG_PATH_END], "event %d behind the end", event);
    seen->at[event] = before.left;
    if (event == TAG_MALFORMED) {
        invariant(watcher->malformed, "malformed is not said");
        return;
    }
    invariant((start == TAG_PATH) == (event == TAG_PATH_END), "event %d, start %d", event, start);
    invariant(event == TAG_PATH_END || !seen->at[TAG_MALFORMED], "a fork of malformed text");
    const char *tag = event == TAG_FORK ? watcher->grammar->fork : watcher->grammar->path_end;
    size_t length = strlen(tag);
    invariant(before.left >= length && !memcmp(before.text + before.left - length, tag, length),
              "event %d without its tag", event);
    if (event == TAG_FORK) check_items(watcher, &seen->items);
}

static void watch(const struct tag_grammar *grammar, enum tag_start start, int32_t max_items,
                  struct input text, size_t piece, struct seen *seen)
{
    struct tag_watcher watcher;
    tag_watcher_init(&watcher, grammar, start, max_items);
    for (size_t at = 0, end = 0; at < text.left;) {
        if (at == end) end = text.left - at < piece ? text.left : at + piece;
        size_t behind;
        enum tag_event event = tag_watcher_push(&watcher, text.text + at, end - at, &behind);
        invariant(behind < end - at && (event || !behind), "%zu behind", behind);
        at = end - behind;
        if (event) check_event(&watcher, start, event, (struct input){text.text, at}, seen);
        invariant(watcher.text.length <= TAG_ITEMS_BYTES &&
                      watcher.text.capacity <= 4 * TAG_ITEMS_BYTES,
                  "%zu of %zu bytes held", watcher.text.length, watcher.text.capacity);
    }
    tag_watcher_release(&watcher);
}

static void check_watcher(const struct tag_grammar *grammar, enum tag_start start,
                          int32_t max_items, struct input text, size_t piece)
{
    struct seen whole = {0}, cut = {0};
    watch(grammar, start, max_items, text, SIZE_MAX, &whole);
    watch(grammar, start, max_items, text, piece, &cut);
    for (size_t event = 0; event < COUNT_OF(whole.at); event++)
        invariant(whole.at[event] == cut.at[event], "event %zu at %zu, in pieces at %zu", event,
                  whole.at[event], cut.at[event]);
    invariant(whole.items.length == cut.items.length &&
                  !memcmp(strbuf_cstr(&whole.items), strbuf_cstr(&cut.items), cut.items.length),
              "other items in pieces");
    strbuf_free(&whole.items);
    strbuf_free(&cut.items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    uint8_t flags = input_byte(&input);
    size_t piece = 1 + (size_t)input_byte(&input);
    struct tag_grammar grammar;
    if (!read_grammar(input_line(&input), &grammar)) return 0;
    struct strbuf text = {0};
    for (int32_t i = 0; i < (flags & 32 ? 40 : 1); i++)
        strbuf_append(&text, input.text, input.left);
    check_watcher(&grammar, (enum tag_start)((flags & 3) % 3), 1 + (flags >> 2 & 7),
                  (struct input){strbuf_cstr(&text), text.length}, piece);
    strbuf_free(&text);
    return 0;
}
