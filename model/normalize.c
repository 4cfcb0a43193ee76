/* utf8proc_map would do all of this, but it orders combining marks by insertion: quadratic in the
 * length of a run of them, and a client chooses that length. So its tables decompose and compose,
 * and the ordering between the two (stable, by combining class) is done here, by counting.
 */
#include "model/normalize.h"
#include "base/base.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool nfc_may_change(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= 0xcc) return true; /* U+0300 is CC 80 */
    return false;
}

static int combining_class(utf8proc_int32_t codepoint)
{
    return utf8proc_get_property(codepoint)->combining_class;
}

/* Orders marks[count] by class, equal ones in their old order; `copy` has room for count. */
static void order_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *copy)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++)
        starts[combining_class(marks[i]) + 1]++;
    for (int class = 0; class < 256; class ++)
        starts[class + 1] += starts[class];
    memcpy(copy, marks, count * sizeof *marks);
    for (size_t i = 0; i < count; i++)
        marks[starts[combining_class(copy[i])]++] = copy[i];
}

static void order_all(utf8proc_int32_t *codepoints, size_t count, utf8proc_int32_t *copy)
{
    for (size_t i = 0; i < count;) {
        size_t end = i;
        bool sorted = true;
        while (end < count && combining_class(codepoints[end])) {
            if (end > i && combining_class(codepoints[end]) < combining_class(codepoints[end - 1]))
                sorted = false;
            end++;
        }
        if (!sorted) order_marks(codepoints + i, end - i, copy);
        i = end + 1;
    }
}

/* The longest canonical decomposition of one code point (U+1F82 and its kin have four). */
#define MAX_DECOMPOSED 8

/* Decomposes valid text into codepoints, which has room for MAX_DECOMPOSED more than is used. */
static size_t decompose(const char *text, size_t length, utf8proc_int32_t *codepoints)
{
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        struct utf8_step step = utf8_step(text + at, length - at);
        int boundary = 0;
        utf8proc_ssize_t made = utf8proc_decompose_char(
            (utf8proc_int32_t)step.codepoint, codepoints + count, MAX_DECOMPOSED,
            UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
        invariant(made >= 0 && made <= MAX_DECOMPOSED, "U+%04X decomposes into %zd", step.codepoint,
                  (ssize_t)made);
        count += (size_t)made;
        at += step.length;
    }
    return count;
}

/* Composes codepoints[count] in place and appends them. utf8proc's composition swallows U+11A7 (the
 * place before the first Hangul final) behind a syllable; it composes with nothing, so the text is
 * composed up to each and after it. */
static void compose(utf8proc_int32_t *codepoints, size_t count, struct strbuf *out)
{
    utf8proc_uint8_t bytes[4];
    for (size_t at = 0; at < count;) {
        size_t end = at;
        while (end < count && codepoints[end] != 0x11a7)
            end++;
        utf8proc_ssize_t composed = utf8proc_normalize_utf32(
            codepoints + at, (utf8proc_ssize_t)(end - at), UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        for (utf8proc_ssize_t i = 0; i < composed; i++)
            strbuf_append(out, bytes,
                          (size_t)utf8proc_encode_char(codepoints[at + (size_t)i], bytes));
        if (end < count) strbuf_text(out, "\xe1\x86\xa7");
        at = end + 1;
    }
}

/* NFC of whole characters. A byte of UTF-8 decomposes into at most 1.5 code points (U+0344, two
 * bytes, gives two; three-byte characters give at most four); twice the bytes is room enough. */
static bool normalize_valid(const char *text, size_t length, struct strbuf *out)
{
    size_t room;
    if (!checked_mul(length, 2, &room) || !checked_add(room, MAX_DECOMPOSED, &room)) return false;
    utf8proc_int32_t *codepoints = try_alloc(room, sizeof *codepoints);
    utf8proc_int32_t *copy = try_alloc(room, sizeof *copy);
    if (codepoints && copy) {
        size_t count = decompose(text, length, codepoints);
        order_all(codepoints, count, copy);
        compose(codepoints, count, out);
    }
    bool done = codepoints && copy;
    free(codepoints);
    free(copy);
    return done;
}

bool nfc_append(const char *text, size_t length, struct strbuf *out)
{
    while (length > 0) {
        size_t valid = utf8_valid_prefix(text, length);
        if (valid && !normalize_valid(text, valid, out)) return false;
        text += valid;
        length -= valid;
        if (!length) break;
        struct utf8_step step = utf8_step(text, length);
        strbuf_append(out, text, step.length);
        text += step.length;
        length -= step.length;
    }
    return true;
}
