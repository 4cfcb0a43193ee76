/* One step through UTF-8 that may be broken.
 *
 * A broken sequence is cut as Unicode recommends (chapter 3, "maximal subpart"): the longest prefix
 * of a valid sequence, or one byte. Each such part becomes one U+FFFD where text is shown.
 */
#ifndef MODEL_UTF8_H
#define MODEL_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum utf8_kind {
    UTF8_WHOLE,      /* one character */
    UTF8_BROKEN,     /* no continuation can repair it */
    UTF8_UNFINISHED, /* the text ends inside a character */
};

struct utf8_step {
    enum utf8_kind kind;
    uint32_t length;    /* bytes, 1 to 4 */
    uint32_t codepoint; /* when whole */
};

/* What stands at text[0], length >= 1. */
static inline struct utf8_step utf8_step(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char lead = s[0];
    if (lead < 0x80) return (struct utf8_step){UTF8_WHOLE, 1, lead};
    if (lead < 0xc2 || lead > 0xf4) return (struct utf8_step){UTF8_BROKEN, 1, 0};
    uint32_t need = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t codepoint = lead & (0x7fu >> need);
    /* The second byte is narrower after four leads: no overlong forms, no surrogates, no more than
     * 10FFFF. */
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    for (uint32_t i = 1; i < need; i++) {
        if (i == length) return (struct utf8_step){UTF8_UNFINISHED, i, 0};
        if (s[i] < low || s[i] > high) return (struct utf8_step){UTF8_BROKEN, i, 0};
        codepoint = codepoint << 6 | (s[i] & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    return (struct utf8_step){UTF8_WHOLE, need, codepoint};
}

/* Bytes at the start of text that are whole characters. */
static inline size_t utf8_valid_prefix(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        struct utf8_step step = utf8_step(text + at, length - at);
        if (step.kind != UTF8_WHOLE) break;
        at += step.length;
    }
    return at;
}

#endif
