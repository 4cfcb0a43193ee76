/* The items of an outline that a chat model wrote, and the prompts of the branches made from them
 * ("from": "outline"). Text in, views of it out; no state.
 *
 * An item is one line that begins with a number ("1." "1)" "(1)" "1:" and their full-width forms,
 * also as a heading, "## 1.") or a bullet ("-" "*" "+", a dash or a Unicode bullet). Its text is
 * what follows the marker on that line, trimmed of white space; Markdown in it is kept as written,
 * but where emphasis begins before the number ("**1. Roses:** red") it is what is emphasised. Two
 * columns or more to the right of the list it stands in, an item is nested: it is no item, nor part
 * of one. All other lines are passed over.
 */
#ifndef SERVER_OUTLINE_H
#define SERVER_OUTLINE_H

#include "base/strbuf.h"

#include <stddef.h>
#include <stdint.h>

struct outline_item {
    size_t offset, length; /* in the text that was parsed; length > 0 */
};

struct outline {
    struct outline_item *items; /* in the order of the text */
    int32_t count;
    int32_t beyond; /* items after the first `max_items` */
};

/* Fills `out`, which outline_release gives back. */
void outline_parse(const char *text, size_t length, int32_t max_items, struct outline *out);
void outline_release(struct outline *outline);

/* Appends the template with every "{item}" replaced by the item's text and every "{index}" by the
 * number (the first item's is 1). Neither is looked for in what was put in. */
void outline_fill(const char *template, size_t template_length, const char *item,
                  size_t item_length, int32_t index, struct strbuf *out);

/* The text without white space at either end; a view of it. Moves `*text`, returns the length. */
size_t outline_trim(const char **text, size_t length);

/* The bytes of "1." "1)" "(1)" "1:" or "1、" that the text begins with, 0: none. A digit right
 * behind
 * ("1.5") makes it a number in a sentence. */
size_t outline_number(const char *text, size_t length);

#endif
