#include "base/base.h"
#include "model/tokenizer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Pushes `text` in pieces of `step` bytes; returns what was shown (caller frees), *stopped whether
 * it ended in a stop string. */
static char *run(const char *const *stops, size_t count, const char *text, size_t step,
                 bool include, bool *stopped)
{
    struct stop_matcher *matcher = stop_matcher_create(stops, count);
    struct strbuf out = {0};
    size_t length = strlen(text);
    *stopped = false;
    for (size_t at = 0; at < length && !*stopped; at += step) {
        size_t piece = step < length - at ? step : length - at;
        *stopped = stop_matcher_push(matcher, text + at, piece, include, &out);
    }
    if (!*stopped) stop_matcher_finish(matcher, &out);
    stop_matcher_free(matcher);
    return strbuf_take(&out);
}

static void check(const char *const *stops, size_t count, const char *text, bool include,
                  const char *expected, bool stops_there)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        bool stopped;
        char *shown = run(stops, count, text, step, include, &stopped);
        cr_assert_str_eq(shown, expected, "'%s' by %zu gives '%s', expected '%s'", text, step,
                         shown, expected);
        cr_assert_eq(stopped, stops_there);
        free(shown);
    }
}

#define STOPS(...) \
    (const char *const[]){__VA_ARGS__}, COUNT_OF(((const char *const[]){__VA_ARGS__}))

Test(stop_matcher, ends_before_or_after_the_string)
{
    check(STOPS("END"), "some text END more", false, "some text ", true);
    check(STOPS("END"), "some text END more", true, "some text END", true);
    check(STOPS("END"), "some text EN", false, "some text EN", false);
    check(STOPS("x"), "x", false, "", true);
}

Test(stop_matcher, a_false_start_is_given_back)
{
    check(STOPS("aab"), "aaaab!", false, "aa", true);
    check(STOPS("abcabd"), "abcabcabd", false, "abc", true);
    check(STOPS("\n\n"), "a\nb\n\nc", false, "a\nb", true);
}

Test(stop_matcher, the_first_complete_string_counts)
{
    check(STOPS("abcd", "bc"), "xabcd", false, "xa", true);
    check(STOPS("abcd", "bc"), "xabcd", true, "xabc", true);
    check(STOPS("cd", "bcd", "d"), "abcd", false, "a",
          true); /* of those that end together, the longest */
}

Test(stop_matcher, characters_of_several_bytes)
{
    check(STOPS("\xe2\x82\xac"), "5 \xe2\x82\xad 5 \xe2\x82\xac", false, "5 \xe2\x82\xad 5 ", true);
    check(STOPS("。"), "你好。再见", false, "你好", true);
}

Test(stop_matcher, holds_back_no_more_than_a_beginning)
{
    struct stop_matcher *matcher = stop_matcher_create(STOPS("stop now", "### "));
    struct strbuf out = {0};
    cr_assert_not(stop_matcher_push(matcher, "please stop", 11, false, &out));
    cr_assert_str_eq(strbuf_cstr(&out), "please ");
    cr_assert_not(stop_matcher_push(matcher, " it #", 5, false, &out));
    cr_assert_str_eq(strbuf_cstr(&out), "please stop it ");
    cr_assert_not(stop_matcher_push(matcher, "", 0, false, &out));
    cr_assert_str_eq(strbuf_cstr(&out), "please stop it ");
    stop_matcher_finish(matcher, &out);
    cr_assert_str_eq(strbuf_cstr(&out), "please stop it #");
    stop_matcher_free(matcher);
    strbuf_free(&out);
}

Test(stop_matcher, nothing_comes_after_a_stop)
{
    struct stop_matcher *matcher = stop_matcher_create(STOPS("."));
    struct strbuf out = {0};
    cr_assert(stop_matcher_push(matcher, "a.b", 3, false, &out));
    cr_assert(stop_matcher_push(matcher, "c", 1, false, &out));
    stop_matcher_finish(matcher, &out);
    cr_assert_str_eq(strbuf_cstr(&out), "a");
    stop_matcher_free(matcher);
    strbuf_free(&out);
}

Test(stop_matcher, no_strings_no_matcher)
{
    cr_assert_null(stop_matcher_create(NULL, 0));
    stop_matcher_free(NULL);
}

/* --- against a naive reference: look at every end, and there at every string */

static bool naive_stop(const char *const *stops, size_t count, const char *text, size_t *begin,
                       size_t *end)
{
    for (*end = 1; *end <= strlen(text); ++*end) {
        size_t longest = 0;
        for (size_t i = 0; i < count; i++) {
            size_t length = strlen(stops[i]);
            if (length <= *end && length > longest &&
                !memcmp(text + *end - length, stops[i], length))
                longest = length;
        }
        *begin = *end - longest;
        if (longest) return true;
    }
    return false;
}

/* The most that may be shown of a text without a stop: all but the longest suffix that begins one.
 */
static size_t naive_certain(const char *const *stops, size_t count, const char *text, size_t length)
{
    for (size_t suffix = 0; suffix < length; suffix++)
        for (size_t i = 0; i < count; i++)
            if (!strncmp(text + suffix, stops[i], length - suffix) &&
                strlen(stops[i]) > length - suffix)
                return suffix;
    return length;
}

static void random_word(struct rng *rng, char *out, size_t low, size_t high)
{
    size_t length = low + rng_below(rng, high - low + 1);
    for (size_t i = 0; i < length; i++)
        out[i] = (char)('a' + rng_below(rng, 2));
    out[length] = 0;
}

static void fuzz_once(struct rng *rng, uint64_t round)
{
    char words[4][8], text[64];
    const char *stops[4] = {words[0], words[1], words[2], words[3]};
    size_t count = 1 + rng_below(rng, 4), begin, end;
    for (size_t i = 0; i < count; i++)
        random_word(rng, words[i], 1, 6);
    random_word(rng, text, 0, 40);
    bool include = rng_below(rng, 2), stopped = false;
    bool expected = naive_stop(stops, count, text, &begin, &end);
    struct stop_matcher *matcher = stop_matcher_create(stops, count);
    struct strbuf out = {0};
    for (size_t at = 0; text[at] && !stopped;) {
        size_t piece = 1 + rng_below(rng, 5);
        if (piece > strlen(text + at)) piece = strlen(text + at);
        stopped = stop_matcher_push(matcher, text + at, piece, include, &out);
        at += piece;
        if (!stopped)
            cr_assert_eq(out.length, naive_certain(stops, count, text, at), "round %lu", round);
    }
    stop_matcher_finish(matcher, &out);
    cr_assert_eq(stopped, expected, "round %lu", round);
    if (expected) text[include ? end : begin] = 0;
    cr_assert_str_eq(strbuf_cstr(&out), text, "round %lu", round);
    stop_matcher_free(matcher);
    strbuf_free(&out);
}

Test(stop_matcher, equals_a_naive_search)
{
    struct rng rng = {7};
    for (uint64_t round = 0; round < 20000; round++)
        fuzz_once(&rng, round);
}
