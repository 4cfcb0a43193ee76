/* Stop strings over a stream, against the definition.
 *
 * Input: a byte (bit 0: include the string; bits 1 to 4: bytes a push), stop strings one a line up
 * to an empty line, then the text. */
#include "tests/fuzz/support_input.h"

#include <stdlib.h>
#include <string.h>

#define MAX_STOPS 8

/* The stop string that is complete first (of several at one byte the longest): where it ends, or
 * -1. */
static ptrdiff_t first_stop(char *const *stops, size_t count, struct input text, size_t *length)
{
    for (size_t end = 1; end <= text.left; end++) {
        *length = 0;
        for (size_t i = 0; i < count; i++) {
            size_t n = strlen(stops[i]);
            if (n <= end && n > *length && !memcmp(text.text + end - n, stops[i], n)) *length = n;
        }
        if (*length) return (ptrdiff_t)end;
    }
    return -1;
}

/* The most bytes at the end of text[shown] that begin a stop string. */
static size_t must_hold(char *const *stops, size_t count, const char *text, size_t shown)
{
    size_t hold = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t n = strlen(stops[i]) - 1; n > hold; n--)
            if (n <= shown && !memcmp(text + shown - n, stops[i], n)) hold = n;
    return hold;
}

static void check(char *const *stops, size_t count, struct input text, size_t step, bool include)
{
    struct stop_matcher *matcher = stop_matcher_create((const char *const *)stops, count);
    struct strbuf out = {0};
    size_t length = 0, at = 0;
    ptrdiff_t end = first_stop(stops, count, text, &length);
    bool stopped = false;
    while (at < text.left && !stopped) {
        size_t piece = step < text.left - at ? step : text.left - at;
        stopped = stop_matcher_push(matcher, text.text + at, piece, include, &out);
        at += piece;
        invariant(stopped == (end >= 0 && (size_t)end <= at), "stopped at %zu, not %td", at, end);
        if (!stopped)
            invariant(out.length == at - must_hold(stops, count, text.text, at),
                      "%zu of %zu bytes shown", out.length, at);
    }
    if (stopped)
        invariant(stop_matcher_push(matcher, "more", 4, include, &out), "a stop came undone");
    else
        stop_matcher_finish(matcher, &out);
    size_t expected = end < 0 ? text.left : (size_t)end - (include ? 0 : length);
    invariant(out.length == expected && !memcmp(strbuf_cstr(&out), text.text, expected),
              "%zu bytes shown, not %zu", out.length, expected);
    stop_matcher_free(matcher);
    strbuf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    char *stops[MAX_STOPS];
    size_t count = 0;
    uint8_t flags = input_byte(&input);
    for (struct input line; (line = input_line(&input)).left && count < MAX_STOPS;)
        stops[count++] = input_string(line);
    if (count) check(stops, count, input, 1 + (flags >> 1 & 15), flags & 1);
    for (size_t i = 0; i < count; i++)
        free(stops[i]);
    return 0;
}
