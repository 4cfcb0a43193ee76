/* Grammars that are taken and refused; the watcher over whole examples cut at every byte, over
 * malformed nestings, and over random tags. */
#include "base/base.h"
#include "server/outline.h"
#include "server/tag_grammar.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ITEMS 4

static struct tag_grammar grammar;
static struct api_error error;

static bool read_grammar(const char *json)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    cr_assert(value, "%s is no JSON", json);
    error = (struct api_error){0};
    bool taken = tag_grammar_read(value, &grammar, &error);
    json_decref(value);
    return taken;
}

#define OWN(open, item, fork)                                                          \
    "{\"open\":" open ",\"item_open\":" item ",\"item_close\":\"</i>\",\"fork\":" fork \
    ",\"path_end\":\"</w>\",\"close\":\"</b>\",\"path_prompt\":\"<w>{index} {item}\"," \
    "\"join_prompt\":\"<s>\""

Test(tag_grammar, presets)
{
    cr_assert(read_grammar("\"multiverse\""));
    cr_assert_str_eq(grammar.fork, "</Goal>");
    cr_assert_str_eq(grammar.path_prompt, "\n<Path>\n{index}:");
    cr_assert(read_grammar("\"npr\""));
    cr_assert_str_eq(grammar.open, grammar.plan_open);
    cr_assert_str_eq(grammar.join_prompt, "\n<takeaway>\n");
    cr_assert_null(tag_grammar_preset("Multiverse"));
    cr_assert_not(read_grammar("\"apar\""));
    cr_assert_str_eq(error.param, "branching.grammar");
    cr_assert(strstr(error.message, "apar") && strstr(error.message, "npr"), "%s", error.message);
}

Test(tag_grammar, an_object_with_the_same_fields)
{
    cr_assert(read_grammar(OWN("\"<b>\"", "\"<i>\"", "\"<f>\"") ",\"else\":null}"), "%s",
              error.message);
    cr_assert_str_eq(grammar.open, "<b>");
    cr_assert_str_eq(grammar.plan_open, "<b>");
    cr_assert_str_eq(grammar.path_prompt, "<w>{index} {item}");
    cr_assert(read_grammar(OWN("\"<b>\"", "\"<i>\"", "\"<f>\"") ",\"plan_open\":\"<p>\"}"));
    cr_assert_str_eq(grammar.plan_open, "<p>");
    cr_assert(read_grammar(OWN("\"<b>\"", "\"<i>\"", "\"<f>\"") ",\"plan_open\":null}"));
    cr_assert_str_eq(grammar.plan_open, "<b>");
}

static void refused_at(int line, const char *json, enum refusal refusal, const char *param)
{
    cr_assert_not(read_grammar(json), "line %d: taken", line);
    cr_assert_eq(error.refusal, refusal, "line %d: %s", line, error.message);
    cr_assert_str_eq(error.param, param, "line %d: %s", line, error.message);
    cr_assert(strstr(error.message, param), "line %d: %s", line, error.message);
}
#define refused(json, refusal, param) refused_at(__LINE__, json, REFUSAL_##refusal, param)

Test(tag_grammar, refusals_name_the_field)
{
    refused("3", INVALID_TYPE, "branching.grammar");
    refused("[]", INVALID_TYPE, "branching.grammar");
    refused("\"npr\\u0000\"", INVALID_VALUE, "branching.grammar");
    refused("\"\"", INVALID_VALUE, "branching.grammar");
    refused("{}", INVALID_VALUE, "branching.grammar.open");
    refused(OWN("null", "\"<i>\"", "\"<f>\"") "}", INVALID_VALUE, "branching.grammar.open");
    refused(OWN("7", "\"<i>\"", "\"<f>\"") "}", INVALID_TYPE, "branching.grammar.open");
    refused(OWN("\"\"", "\"<i>\"", "\"<f>\"") "}", INVALID_VALUE, "branching.grammar.open");
    refused(OWN("\"<b>\"", "\"\\u0000\"", "\"<f>\"") "}", INVALID_VALUE,
            "branching.grammar.item_open");
    refused(OWN("\"<b>\"", "\"<i>\"", "[\"<f>\"]") "}", INVALID_TYPE, "branching.grammar.fork");
    refused(OWN("\"<b>\"", "\"<b>\"", "\"<f>\"") "}", INVALID_VALUE, "branching.grammar.open");
    refused(OWN("\"<b>\"", "\"<i>\"", "\"a<i>\"") "}", INVALID_VALUE, "branching.grammar.fork");
    refused(OWN("\"<b>\"", "\"<i>\"", "\"<f>\"") ",\"plan_opn\":\"<p>\"}", INVALID_VALUE,
            "branching.grammar.plan_opn");
    refused("\"npr\\u0000\"", INVALID_VALUE, "branching.grammar");
}

Test(tag_grammar, the_longest_tag)
{
    char tag[TAG_BYTES + 2] = {0}, json[512];
    memset(tag, 'x', TAG_BYTES);
    snprintf(json, sizeof json, OWN("\"%s\"", "\"<i>\"", "\"<f>\"") "}", tag);
    cr_assert(read_grammar(json), "%s", error.message);
    cr_assert_eq(strlen(grammar.open), TAG_BYTES);
    tag[TAG_BYTES] = 'x';
    snprintf(json, sizeof json, OWN("\"%s\"", "\"<i>\"", "\"<f>\"") "}", tag);
    refused_at(__LINE__, json, REFUSAL_INVALID_VALUE, "branching.grammar.open");
}

/* What a watcher says of a text that comes in pieces of two lengths, one after the other: the
 * events as letters with the offset behind the byte that made them, and the items of a fork. */
static void watch(const struct tag_grammar *tags, enum tag_start start, const char *text,
                  size_t length, size_t first, size_t piece, struct strbuf *out)
{
    struct tag_watcher watcher;
    tag_watcher_init(&watcher, tags, start, MAX_ITEMS);
    strbuf_clear(out);
    for (size_t at = 0, end = first; at < length; end += piece) {
        if (end > length) end = length;
        while (at < end) {
            size_t behind;
            enum tag_event event = tag_watcher_push(&watcher, text + at, end - at, &behind);
            cr_assert(behind < end - at);
            cr_assert(event != TAG_NONE || !behind);
            at = end - behind;
            if (event != TAG_NONE) strbuf_format(out, "%c%zu ", "?FEM"[event], at);
            if (event != TAG_FORK) continue;
            for (int32_t i = 0; i < watcher.count; i++) {
                strbuf_append(out, watcher.text.data + watcher.items[i].offset,
                              watcher.items[i].length);
                strbuf_char(out, '|');
            }
        }
    }
    tag_watcher_release(&watcher);
}

/* The same events however the text is cut: every split in two, and pieces of every length. */
static void expect_at(int line, const struct tag_grammar *tags, enum tag_start start,
                      const char *text, const char *events)
{
    struct strbuf out = {0};
    size_t length = strlen(text);
    for (size_t cut = 0; cut <= length; cut++) {
        watch(tags, start, text, length, cut, length, &out);
        cr_assert_str_eq(strbuf_cstr(&out), events, "line %d, cut at %zu: [%s], not [%s]", line,
                         cut, strbuf_cstr(&out), events);
        watch(tags, start, text, length, 0, cut + 1, &out);
        cr_assert_str_eq(strbuf_cstr(&out), events, "line %d, pieces of %zu: [%s], not [%s]", line,
                         cut + 1, strbuf_cstr(&out), events);
    }
    strbuf_free(&out);
}
#define multiverse(start, text, events) \
    expect_at(__LINE__, tag_grammar_preset("multiverse"), start, text, events)
#define npr(start, text, events) expect_at(__LINE__, tag_grammar_preset("npr"), start, text, events)

#define PLAN_1 "<Parallel>\n<Goal>\n<Outline>\n1: Distance.\n</Outline>\n</Goal>" /* 59 bytes */

Test(tag_grammar, a_fork_and_its_items)
{
    cr_assert_eq(strlen(PLAN_1), 59);
    multiverse(TAG_TRUNK, "Let's think in parallel.\n" PLAN_1 "\n<Path>", "F84 Distance.|");
    multiverse(TAG_TRUNK,
               "<Parallel>\n<Goal>\nThe primes.\n<Outline> 1: Prime 2 </Outline>\n"
               "<Outline>2. Prime <3 </Outline><Outline>a\nb</Outline> and </Goal>",
               "F127 Prime 2|Prime <3|a\nb|");
    npr(TAG_TRUNK, "<guideline>\n<plan>1: Add.</plan>\n<plan>2: </plan>\n</guideline>",
        "F62 Add.||");
}

Test(tag_grammar, what_looks_like_the_beginning_of_a_tag)
{
    multiverse(TAG_TRUNK, "a < b, <<Parallel, <Para <Parallel ><parallel>", "");
    multiverse(TAG_TRUNK, "<<Parallel><Goal><<Outline>x<</Outline></</Goal>", "F48 x<|");
    multiverse(TAG_PATH, " it is </Path </</Path>\n", "E23 ");
}

Test(tag_grammar, a_path_and_its_end)
{
    multiverse(TAG_PATH, " 9 km an hour.\n</Path>\n<Path>", "E22 ");
    npr(TAG_PATH, " so x = 1\n</step>", "E17 ");
    multiverse(TAG_PATH, " it goes on", "");
}

Test(tag_grammar, the_next_block_after_a_join)
{
    multiverse(TAG_JOINED, "So.\n</Conclusion>\n</Parallel>\n" PLAN_1, "F89 Distance.|");
    npr(TAG_JOINED, "x\n</takeaway>\n<guideline><plan>1: a</plan></guideline>", "F54 a|");
    npr(TAG_JOINED, "x\n</takeaway>\nThe answer is 2.", "");
}

Test(tag_grammar, malformed_in_the_trunk)
{
    multiverse(TAG_TRUNK, "</Path>" PLAN_1, "M7 ");
    multiverse(TAG_TRUNK, "a</Goal>" PLAN_1, "M8 ");
    multiverse(TAG_TRUNK, "</Parallel>" PLAN_1, "M11 ");
    multiverse(TAG_TRUNK, "<Goal>" PLAN_1, "M6 ");
    multiverse(TAG_TRUNK, "<Outline>" PLAN_1, "M9 ");
    multiverse(TAG_TRUNK, "<Parallel><Outline>", "M19 ");
    multiverse(TAG_TRUNK, "<Parallel><Parallel><Goal>", "M20 ");
    multiverse(TAG_TRUNK, "<Parallel><Goal>none</Goal>", "M27 ");
    multiverse(TAG_TRUNK, "<Parallel><Goal><Goal>", "M22 ");
    multiverse(TAG_TRUNK, "<Parallel><Goal></Outline>", "M26 ");
    multiverse(TAG_TRUNK, "<Parallel><Goal><Outline>a</Goal>", "M33 ");
    multiverse(TAG_TRUNK, "<Parallel><Goal><Outline>a<Outline>", "M35 ");
    multiverse(TAG_TRUNK, "<Parallel><Goal><Outline> \n</Outline>", "M37 ");
    multiverse(TAG_JOINED, "x</Path></Parallel>" PLAN_1, "M8 ");
    multiverse(TAG_JOINED, PLAN_1, "M10 ");
    npr(TAG_TRUNK, "<guideline><guideline>", "M22 ");
}

Test(tag_grammar, more_items_than_allowed)
{
    npr(TAG_TRUNK,
        "<guideline><plan>a</plan><plan>b</plan><plan>c</plan><plan>d</plan></guideline>",
        "F79 a|b|c|d|");
    npr(TAG_TRUNK,
        "<guideline><plan>a</plan><plan>b</plan><plan>c</plan><plan>d</plan><plan>e</plan>",
        "M73 ");
}

Test(tag_grammar, a_block_inside_a_path_is_text)
{
    multiverse(TAG_PATH, " a " PLAN_1 "<Path>1: b</Path><Path>2: c</Path></Parallel> d</Path>",
               "M13 E116 ");
    npr(TAG_PATH,
        "<guideline><plan>1: a</plan></guideline><step>1: b</step><takeaway>c</takeaway>"
        "</step>",
        "M11 E86 ");
    multiverse(TAG_PATH, "<Outline>a</Path>", "M9 E17 ");
    multiverse(TAG_PATH, "</Parallel></Path>", "M11 E18 ");
    multiverse(TAG_PATH, "<Parallel><Parallel></Path></Parallel></Path></Parallel></Path>",
               "M10 E63 ");
}

Test(tag_grammar, items_are_bounded)
{
    struct tag_watcher watcher;
    tag_watcher_init(&watcher, tag_grammar_preset("npr"), TAG_TRUNK, MAX_ITEMS);
    size_t behind, taken = 0;
    cr_assert_eq(tag_watcher_push(&watcher, "<guideline><plan>", 17, &behind), TAG_NONE);
    enum tag_event event;
    while ((event = tag_watcher_push(&watcher, "a", 1, &behind)) == TAG_NONE)
        taken++;
    cr_assert_eq(event, TAG_MALFORMED);
    cr_assert_eq(taken, TAG_ITEMS_BYTES);
    cr_assert(watcher.malformed);
    cr_assert_eq(watcher.text.capacity, 0);
    cr_assert_eq(tag_watcher_push(&watcher, "</plan></guideline>", 19, &behind), TAG_NONE);
    tag_watcher_release(&watcher);
}

Test(tag_grammar, tags_of_the_longest_length_and_ones_of_one_byte)
{
    char tag[TAG_BYTES + 1] = {0};
    memset(tag, 'x', TAG_BYTES);
    struct tag_grammar own = {.open = "(",
                              .plan_open = "(",
                              .item_open = "[",
                              .item_close = "]",
                              .path_end = ";",
                              .close = ")"};
    memcpy(own.fork, tag, sizeof tag);
    char text[256];
    snprintf(text, sizeof text, "a([b][2. c]%.63s %s.", tag, tag);
    expect_at(__LINE__, &own, TAG_TRUNK, text, "F139 b|c|");
}

Test(tag_grammar, path_prompts_take_items_and_numbers)
{
    cr_assert(read_grammar(OWN("\"<b>\"", "\"<i>\"", "\"<f>\"") "}"));
    struct strbuf out = {0};
    outline_fill(grammar.path_prompt, strlen(grammar.path_prompt), "a", 1, 2, &out);
    cr_assert_str_eq(strbuf_cstr(&out), "<w>2 a");
    strbuf_free(&out);
}

/* Random tags and bytes: whatever comes, the events do not depend on where the text is cut, each
 * comes at most once, a trunk has no end of a path and a path no fork. */
Test(tag_grammar, random_tags)
{
    static const char *const words[] = {"<b>",  "<p>",  "<i>", "</i>", "<f>", "</w>",
                                        "</b>", "1: a", "<",   "/",    "\n",  "x>"};
    cr_assert(read_grammar(OWN("\"<b>\"", "\"<i>\"", "\"<f>\"") ",\"plan_open\":\"<p>\"}"));
    struct strbuf text = {0}, whole = {0}, cut = {0};
    uint64_t state = 3;
    int32_t events[4] = {0};
    for (int32_t round = 0; round < 30000; round++) {
        strbuf_text(&text, round & 1 ? "<b><p><i>a</i>" : "");
        for (int32_t i = 0; i < 12; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            strbuf_text(&text, words[(state >> 33) % (sizeof words / sizeof *words)]);
        }
        enum tag_start start = (enum tag_start)(round / 2 % 3);
        watch(&grammar, start, text.data, text.length, text.length, 1, &whole);
        watch(&grammar, start, text.data, text.length, 0, 1 + (size_t)(state >> 60), &cut);
        cr_assert_str_eq(strbuf_cstr(&whole), strbuf_cstr(&cut), "%s", text.data);
        bool fork = strchr(strbuf_cstr(&whole), 'F'), end = strchr(strbuf_cstr(&whole), 'E');
        const char *flag = strchr(strbuf_cstr(&whole), 'M');
        cr_assert(!(start == TAG_PATH ? fork : end), "%s: %s", text.data, strbuf_cstr(&whole));
        cr_assert(!flag || !strchr(flag + 1, 'M'));
        cr_assert(!flag || !fork);
        events[0] += fork;
        events[1] += end;
        events[2] += flag != NULL;
        strbuf_clear(&text);
    }
    cr_assert(events[0] > 50 && events[1] > 50 && events[2] > 50, "%d, %d, %d", events[0],
              events[1], events[2]);
    strbuf_free(&text);
    strbuf_free(&whole);
    strbuf_free(&cut);
}
