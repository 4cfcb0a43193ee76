/* Outlines as chat models write them, item for item; branch prompts made from them. */
#include "base/base.h"
#include "server/outline.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* The items with a "|" behind each. */
static void expect_at(int line, const char *text, int32_t max_items, const char *items,
                      int32_t beyond)
{
    struct outline outline;
    struct strbuf got = {0};
    outline_parse(text, strlen(text), max_items, &outline);
    for (int32_t i = 0; i < outline.count; i++) {
        strbuf_append(&got, text + outline.items[i].offset, outline.items[i].length);
        strbuf_char(&got, '|');
    }
    cr_assert_str_eq(strbuf_cstr(&got), items, "line %d: [%s], not [%s]", line, strbuf_cstr(&got),
                     items);
    cr_assert_eq(outline.beyond, beyond, "line %d: %d beyond, not %d", line, outline.beyond,
                 beyond);
    outline_release(&outline);
    strbuf_free(&got);
}
#define expect(text, items) expect_at(__LINE__, text, 100, items, 0)

Test(outline, every_marker)
{
    expect("1. a\n2. b\n3. c", "a|b|c|");
    expect("1) a\n2) b\n", "a|b|");
    expect("(1) a\n(2) b\n", "a|b|");
    expect("1: a\n2: b\n10: c\n", "a|b|c|");
    expect("1.a\n2)b", "a|b|");
    expect("- a\n* b\n+ c\n", "a|b|c|");
    expect("• a\n•b\n◦ c\n● d\n‣ e\n", "a|b|c|d|e|");
    expect("-\ta\n1.\tb", "a|b|");
}

Test(outline, what_stands_around_it)
{
    expect("Here are three tips:\n\n1. Water early.\n\nMore about water.\n\n2. Mulch.\n\nEnjoy!\n",
           "Water early.|Mulch.|");
    expect("No list at all.\nNot here either.", "");
    expect("", "");
    expect("\n\n \n", "");
}

Test(outline, white_space_and_line_ends)
{
    expect("1. a  \r\n2.   b\t\r\n\r\n3. c\r\n", "a|b|c|");
    expect("  1. a\n  2. b\n", "a|b|");
    expect("1. two words \n", "two words|");
}

Test(outline, emphasis_in_an_item_stays)
{
    expect("1. **Roses**: red\n2. *tulips*\n3. `code`", "**Roses**: red|*tulips*|`code`|");
    expect("- **a**\n- b", "**a**|b|");
}

Test(outline, emphasis_around_a_number_goes_with_it)
{
    expect("**1.** a\n**2.** b", "a|b|");
    expect("**1. Roses**\n**2) Tulips**\n", "Roses|Tulips|");
    expect("**Bold words**\n**Bold:** words\n", "");
    expect("**1. Roses:** red ones\n**2) Tulips** - yellow\n**3. Lilies**:\n",
           "Roses:|Tulips|Lilies|");
    expect("**1.** **Roses**: red\n**2. Never closed\n", "**Roses**: red|Never closed|");
    expect("**1.**\n**2. **\n", "");
}

Test(outline, numbered_headings)
{
    expect("# Plan\n\n## 1. Roses\nRed.\n\n### **2. Tulips**\n\n#3: Lilies\n",
           "Roses|Tulips|Lilies|");
    expect("# Words\n#\n## - a\n### **b**\n####### 1. seven\n###\t4. four\n", "four|");
}

Test(outline, other_scripts)
{
    expect("1、玫瑰\n2．郁金香\n3：百合\n（4）蕨\n5）草\n", "玫瑰|郁金香|百合|蕨|草|");
    expect("– a\n— b\n–c\n—\n► d\n➤ e\n", "a|b|d|e|");
    expect("（1、a\n1、2\n1\xe3\x80\n", "");
}

Test(outline, nested_items_are_passed_over)
{
    expect("1. a\n   - a1\n   - a2\n2. b\n\t1. b1\n3. c", "a|b|c|");
    expect("- a\n  - a1\n    - a11\n- b", "a|b|");
    expect("1. a\n 2. b\n", "a|b|");
    expect(" 1. a\n2. b\n  - b1\n", "a|b|");
    expect("    1. a\n    2. b\n", "a|b|");
}

Test(outline, what_is_no_item)
{
    expect("---\n***\n___\n- - -\n* * *\n-----\n", "");
    expect("-5 degrees\n*emphasis*\n+1\n1.5 litres\n12:30 lunch\n(2024)5\n", "");
    expect("(a) x\na. y\n(1. z\n1 x\n1\n(1\n()\n.\n)\n", "");
    expect("1.\n2. \n-\n- \n*\t\n•\n(3)\n4. d", "d|");
    expect("1234567890. too long a number\n123456789. a", "a|");
}

Test(outline, items_beyond_the_limit_are_counted)
{
    expect_at(__LINE__, "1. a\n2. b\n3. c\n   - x\n4. d", 2, "a|b|", 2);
    expect_at(__LINE__, "1. a\n2. b", 2, "a|b|", 0);
    expect_at(__LINE__, "1. a\n2. b", 0, "", 2);
    struct strbuf text = {0};
    for (int32_t i = 1; i <= 100; i++)
        strbuf_format(&text, "%d. item %d\n", i, i);
    struct outline outline;
    outline_parse(strbuf_cstr(&text), text.length, 100, &outline);
    cr_assert_eq(outline.count, 100);
    cr_assert_eq(outline.beyond, 0);
    const struct outline_item *last = &outline.items[99];
    cr_assert(last->length == 8 && !memcmp(text.data + last->offset, "item 100", 8));
    outline_release(&outline);
    strbuf_free(&text);
}

Test(outline, a_byte_zero_is_a_byte)
{
    static const char text[] = "1. a\0b\n\0. c\n\0 d\n- e";
    struct outline outline;
    outline_parse(text, sizeof text - 1, 9, &outline);
    cr_assert_eq(outline.count, 2);
    cr_assert_eq(outline.items[0].length, 3);
    cr_assert_eq(text[outline.items[1].offset], 'e');
    outline_release(&outline);
}

static void expect_filled(const char *template, const char *item, int32_t index, const char *filled)
{
    struct strbuf out = {0};
    outline_fill(template, strlen(template), item, strlen(item), index, &out);
    cr_assert_str_eq(strbuf_cstr(&out), filled, "[%s], not [%s]", strbuf_cstr(&out), filled);
    strbuf_free(&out);
}

Test(outline, prompts)
{
    expect_filled("\n## {item}\n", "Roses", 1, "\n## Roses\n");
    expect_filled("{index}. {item} ({item}, {index})", "a", 12, "12. a (a, 12)");
    expect_filled("{item", "a", 1, "{item");
    expect_filled("{{item}} {Item} {items}", "a", 1, "{a} {Item} {items}");
    expect_filled("{item}", "{index} {item}", 3, "{index} {item}");
    expect_filled("no place", "a", 1, "no place");
    expect_filled("", "a", 1, "");
}

/* Whatever the bytes: items lie inside the text on one line each, in order, trimmed, and there are
 * as many with a smaller limit. */
Test(outline, random_bytes)
{
    static const char alphabet[] = "1.2):(-*+ \t\n\r\n ab_\xe2\x80\xa2\0";
    uint64_t state = 7;
    char text[64];
    for (int32_t round = 0; round < 20000; round++) {
        size_t length = (size_t)(round % 60);
        for (size_t i = 0; i < length; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            text[i] = alphabet[(state >> 33) % (sizeof alphabet - 1)];
        }
        struct outline all, some;
        outline_parse(text, length, 100, &all);
        outline_parse(text, length, 2, &some);
        cr_assert_eq(all.count, some.count + some.beyond);
        size_t end = 0;
        for (int32_t i = 0; i < all.count; i++) {
            const struct outline_item *item = &all.items[i];
            const char *view = text + item->offset;
            cr_assert(item->length && item->offset > end && item->offset + item->length <= length);
            cr_assert_null(memchr(view, '\n', item->length));
            cr_assert_eq(outline_trim(&view, item->length), item->length);
            end = item->offset + item->length;
        }
        outline_release(&all);
        outline_release(&some);
    }
}
