#include "server/tag_grammar.h"
#include "base/alloc.h"
#include "server/outline.h"
#include "server/request_content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Multiverse: arXiv 2506.09991. Tags and prompts as its engine has them (Multiverse-Engine,
 * sglang/srt/managers: schedule_batch.py puts "\n<Path>\n1:" behind </Goal>, scheduler.py
 * "<Conclusion>\n" behind the newline after the last </Path>), as read in a public copy of it. NPR:
 * arXiv 2512.07461, the tags from quotations of its table 1; the prompts "\n<step>\n1:" and
 * "<takeaway>\n" from a study by others, its engine's code was not seen. Here a path ends with its
 * end tag, so the newline between is part of join_prompt. */
static const struct {
    const char *name;
    struct tag_grammar grammar;
} presets[] = {
    {"multiverse",
     {.open = "<Parallel>",
      .plan_open = "<Goal>",
      .item_open = "<Outline>",
      .item_close = "</Outline>",
      .fork = "</Goal>",
      .path_end = "</Path>",
      .close = "</Parallel>",
      .path_prompt = "\n<Path>\n{index}:",
      .join_prompt = "\n<Conclusion>\n"}},
    {"npr",
     {.open = "<guideline>",
      .plan_open = "<guideline>",
      .item_open = "<plan>",
      .item_close = "</plan>",
      .fork = "</guideline>",
      .path_end = "</step>",
      .close = "</takeaway>",
      .path_prompt = "\n<step>\n{index}:",
      .join_prompt = "\n<takeaway>\n"}},
};

/* The tags in the order of enum tag, then the prompts. */
enum tag { OPEN, PLAN_OPEN, ITEM_OPEN, ITEM_CLOSE, FORK, PATH_END, CLOSE, TAGS, NO_TAG = TAGS };

#define FIELD(field) \
#field, offsetof(struct tag_grammar, field), sizeof presets[0].grammar.field - 1
static const struct {
    const char *name;
    size_t offset, limit;
} fields[] = {
    {FIELD(open)},       {FIELD(plan_open)},   {FIELD(item_open)},
    {FIELD(item_close)}, {FIELD(fork)},        {FIELD(path_end)},
    {FIELD(close)},      {FIELD(path_prompt)}, {FIELD(join_prompt)},
};
#define FIELDS (sizeof fields / sizeof *fields)

static const char *field_text(const struct tag_grammar *grammar, size_t field)
{
    return (const char *)grammar + fields[field].offset;
}

const struct tag_grammar *tag_grammar_preset(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        if (!strcmp(name, presets[i].name)) return &presets[i].grammar;
    return NULL;
}

static bool read_field(const json_t *object, size_t field, struct tag_grammar *out,
                       struct api_error *error)
{
    char name[64];
    snprintf(name, sizeof name, "branching.grammar.%s", fields[field].name);
    const json_t *value = json_field(object, fields[field].name);
    if (!value && field == PLAN_OPEN) value = json_field(object, fields[OPEN].name);
    if (!value)
        return refuse(error, REFUSAL_INVALID_VALUE, name, "%s is missing from the grammar", name);
    if (!json_is_string(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be a string, not %s", name,
                      json_type_name(value));
    size_t length = json_string_length(value);
    if (!length || length > fields[field].limit)
        return refuse(error, REFUSAL_INVALID_VALUE, name, "%s has %zu bytes; 1 to %zu are allowed",
                      name, length, fields[field].limit);
    if (memchr(json_string_value(value), 0, length))
        return refuse(error, REFUSAL_INVALID_VALUE, name, "%s contains a byte 0", name);
    memcpy((char *)out + fields[field].offset, json_string_value(value), length);
    return true;
}

/* Two tags that could both be complete, or a tag that could never be. */
static bool check_tags(const struct tag_grammar *grammar, struct api_error *error)
{
    for (size_t i = 0; i < TAGS; i++)
        for (size_t j = 0; j < TAGS; j++) {
            const char *tag = field_text(grammar, i), *other = field_text(grammar, j);
            bool one_tag = i + j == OPEN + PLAN_OPEN && !strcmp(tag, other);
            if (i == j || one_tag || !strstr(tag, other)) continue;
            char name[64];
            snprintf(name, sizeof name, "branching.grammar.%s", fields[i].name);
            return refuse(error, REFUSAL_INVALID_VALUE, name,
                          "%s '%s' contains branching.grammar.%s '%s': no tag may contain another",
                          name, tag, fields[j].name, other);
        }
    return true;
}

/* plan_open may be absent, so a misspelt one would pass in silence. */
static bool check_names(json_t *object, struct api_error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        size_t field = 0;
        while (field < FIELDS && strcmp(fields[field].name, name) != 0)
            field++;
        if (field < FIELDS || json_is_null(value)) continue;
        char path[64];
        snprintf(path, sizeof path, "branching.grammar.%.20s", name);
        return refuse(error, REFUSAL_INVALID_VALUE, path,
                      "%s is not allowed; a grammar takes open, plan_open, item_open, item_close, "
                      "fork, path_end, close, path_prompt, join_prompt",
                      path);
    }
    return true;
}

bool tag_grammar_read(json_t *value, struct tag_grammar *out, struct api_error *error)
{
    static const char name[] = "branching.grammar";
    if (json_is_string(value)) {
        const char *word = json_word(value);
        const struct tag_grammar *preset = word ? tag_grammar_preset(word) : NULL;
        if (!preset)
            return refuse(error, REFUSAL_INVALID_VALUE, name,
                          "%s '%.40s' is unknown; \"multiverse\", \"npr\" or an object is allowed",
                          name, word);
        *out = *preset;
        return true;
    }
    if (!json_is_object(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name,
                      "%s must be \"multiverse\", \"npr\" or an object, not %s", name,
                      json_type_name(value));
    *out = (struct tag_grammar){0};
    if (!check_names(value, error)) return false;
    for (size_t i = 0; i < FIELDS; i++)
        if (!read_field(value, i, out, error)) return false;
    return check_tags(out, error);
}

enum state {
    PLAIN,   /* no tag means anything any more */
    OUTSIDE, /* open may come */
    OPENED,  /* plan_open must come */
    PLAN,    /* item_open or, behind an item, fork */
    ITEM,    /* item_close */
    PATH,    /* path_end */
    SUMMARY, /* close */
};

void tag_watcher_init(struct tag_watcher *watcher, const struct tag_grammar *grammar,
                      enum tag_start start, int32_t max_items)
{
    static const enum state states[] = {
        [TAG_TRUNK] = OUTSIDE, [TAG_PATH] = PATH, [TAG_JOINED] = SUMMARY};
    *watcher =
        (struct tag_watcher){.grammar = grammar, .max_items = max_items, .state = states[start]};
}

void tag_watcher_release(struct tag_watcher *watcher)
{
    strbuf_free(&watcher->text);
    free(watcher->items);
    *watcher = (struct tag_watcher){0};
}

/* The tag that ends with this byte. Tags share no bytes: what ended one begins no other. */
static enum tag take_byte(struct tag_watcher *watcher, char byte)
{
    if (watcher->tail_length == sizeof watcher->tail)
        memmove(watcher->tail, watcher->tail + 1, --watcher->tail_length);
    watcher->tail[watcher->tail_length++] = byte;
    for (enum tag tag = 0; tag < TAGS; tag++) {
        const char *text = field_text(watcher->grammar, tag);
        size_t length = strlen(text);
        if (text[length - 1] != byte || length > watcher->tail_length) continue;
        if (memcmp(watcher->tail + watcher->tail_length - length, text, length)) continue;
        watcher->tail_length = 0;
        return tag;
    }
    return NO_TAG;
}

static enum tag_event malformed(struct tag_watcher *watcher)
{
    if (watcher->state != PATH) {
        watcher->state = PLAIN;
        watcher->count = 0;
        strbuf_free(&watcher->text);
    }
    if (watcher->malformed) return TAG_NONE;
    watcher->malformed = true;
    return TAG_MALFORMED;
}

static enum tag_event begin_item(struct tag_watcher *watcher)
{
    if (watcher->count == watcher->max_items) return malformed(watcher);
    if (!watcher->items)
        watcher->items = must_alloc((size_t)watcher->max_items * sizeof *watcher->items);
    watcher->items[watcher->count].offset = watcher->text.length;
    watcher->state = ITEM;
    return TAG_NONE;
}

/* Models write the item's number in front of it, "1: ..."; paths are numbered by {index}. */
static enum tag_event end_item(struct tag_watcher *watcher)
{
    struct tag_item *item = &watcher->items[watcher->count];
    size_t start = item->offset, tag = strlen(watcher->grammar->item_close);
    const char *text = strbuf_cstr(&watcher->text) + start;
    size_t length = outline_trim(&text, watcher->text.length - tag - start);
    if (!length) return malformed(watcher);
    size_t number = outline_number(text, length);
    text += number;
    item->length = outline_trim(&text, length - number);
    item->offset = (size_t)(text - watcher->text.data);
    watcher->count++;
    watcher->state = PLAN;
    return TAG_NONE;
}

static enum tag_event open_block(struct tag_watcher *watcher)
{
    bool one_tag = !strcmp(watcher->grammar->open, watcher->grammar->plan_open);
    watcher->state = one_tag ? PLAN : OPENED;
    watcher->count = 0;
    strbuf_clear(&watcher->text);
    return TAG_NONE;
}

static enum tag_event finish(struct tag_watcher *watcher, enum tag_event event)
{
    watcher->state = PLAIN;
    return event;
}

/* A block inside a path stays text, but the ends of its paths are not this path's end. */
static enum tag_event path_tag(struct tag_watcher *watcher, enum tag tag)
{
    if (tag == PATH_END && !watcher->depth) return finish(watcher, TAG_PATH_END);
    if (tag == OPEN && watcher->depth < INT32_MAX) watcher->depth++;
    if (tag == CLOSE && watcher->depth) watcher->depth--;
    return malformed(watcher);
}

static enum tag_event take_tag(struct tag_watcher *watcher, enum tag tag)
{
    switch ((enum state)watcher->state) {
    case PLAIN:
        return TAG_NONE;
    case OUTSIDE:
        return tag == OPEN ? open_block(watcher) : malformed(watcher);
    case OPENED:
        if (tag != PLAN_OPEN) return malformed(watcher);
        watcher->state = PLAN;
        return TAG_NONE;
    case PLAN:
        if (tag == ITEM_OPEN) return begin_item(watcher);
        return tag == FORK && watcher->count ? finish(watcher, TAG_FORK) : malformed(watcher);
    case ITEM:
        return tag == ITEM_CLOSE ? end_item(watcher) : malformed(watcher);
    case PATH:
        return path_tag(watcher, tag);
    case SUMMARY:
        if (tag != CLOSE) return malformed(watcher);
        watcher->state = OUTSIDE;
        return TAG_NONE;
    }
    return TAG_NONE;
}

enum tag_event tag_watcher_push(struct tag_watcher *watcher, const char *bytes, size_t length,
                                size_t *behind)
{
    *behind = 0;
    for (size_t i = 0; i < length && watcher->state != PLAIN; i++) {
        enum tag tag = take_byte(watcher, bytes[i]);
        enum tag_event event = TAG_NONE;
        if (watcher->state == ITEM) {
            strbuf_char(&watcher->text, bytes[i]);
            if (watcher->text.length > TAG_ITEMS_BYTES) event = malformed(watcher);
        }
        if (tag != NO_TAG && event == TAG_NONE) event = take_tag(watcher, tag);
        if (event == TAG_NONE) continue;
        *behind = length - i - 1;
        return event;
    }
    return TAG_NONE;
}
