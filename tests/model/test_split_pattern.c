/* What a model's regular expression becomes, what is refused, and that none of them can hang us. */
#include "model/pretokenize.h"
#include "model/split_pattern.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <string.h>

static void becomes(const char *pattern, const char *expected)
{
    struct strbuf out = {0};
    struct error err = {0};
    cr_assert_eq(split_pattern_translate(pattern, strlen(pattern), &out, &err), ST_OK, "%s: %s",
                 pattern, err.text);
    cr_assert_str_eq(strbuf_cstr(&out), expected);
    strbuf_free(&out);
}

Test(split_pattern, what_is_the_same_in_both_stays)
{
    becomes("(?i:'s|'t)|[^\\r\\n\\p{L}]?\\p{L}+|.", "(?i:'s|'t)|[^\\r\\n\\p{L}]?\\p{L}+|.");
    becomes("\\p{N}{1,3}|a{2,}?|b*+", "\\p{N}{1,3}|a{2,}?|b*+");
    becomes("(?<=a)(?<!b)(?=c)(?!d)(?>e)", "(?<=a)(?<!b)(?=c)(?!d)(?>e)");
}

Test(split_pattern, what_differs_is_rewritten)
{
    becomes("\\d\\h", "[\\p{Nd}][0-9a-fA-F]");
    becomes("\\p{N}{1,3}+", "(?:\\p{N}{1,3})+");
    becomes("\xc3\xa9{1,2}+", "(?:\xc3\xa9{1,2})+");
    becomes("(ab){,2}{x}", "(?:ab){0,2}\\{x}");
    becomes("\\u0041\\x42\\x{1F600}\\v", "\\x{41}\\x{42}\\x{1f600}\\x{b}");
    becomes("\\p{Han}\\P{^Letter}[\\d-]", "\\p{sc:Han}\\p{L}[\\p{Nd}\\-]");
    becomes("(?m:.)", "(?s:.)");
    becomes("[]a]", "[\\]a]");
}

static void refused(const char *pattern, size_t length, const char *words)
{
    struct strbuf out = {0};
    struct error err = {0};
    cr_assert_neq(split_pattern_translate(pattern, length, &out, &err), ST_OK, "%s", pattern);
    cr_assert(strstr(err.text, words), "'%s' says nothing of '%s'", err.text, words);
    strbuf_free(&out);
}

Test(split_pattern, what_has_no_equal_is_refused_by_name)
{
    static const struct {
        const char *pattern, *words;
    } cases[] = {{"a(?<n>b)", "this kind of group at byte 1"},
                 {"(a)\\1", "this escape at byte 3"},
                 {"[a&&b]", "intersection"},
                 {"[a[b]]", "class inside a class"},
                 {"[a", "class without end"},
                 {"(a", "inside a group"},
                 {"a)", "')'"},
                 {"+", "quantifier of nothing"},
                 {"a|*", "quantifier of nothing"},
                 {"a{2}?", "{n}?"},
                 {"\\p{L", "property"},
                 {"\\pL", "property"},
                 {"\\xff", "number"},
                 {"\\u12", "number"},
                 {"\\", "escape"},
                 {"[\\W]", "escape"},
                 {"\\K", "escape"},
                 {"\xff", "UTF-8"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        refused(cases[i].pattern, strlen(cases[i].pattern), cases[i].words);
    refused("a\0b", 3, "NUL");
    struct strbuf deep = {0};
    for (int i = 0; i < 65; i++)
        strbuf_char(&deep, '(');
    refused(deep.data, deep.length, "nesting");
    while (deep.length <= SPLIT_PATTERN_MAX)
        strbuf_char(&deep, 'a');
    refused(deep.data, deep.length, "allowed are 16384");
    strbuf_free(&deep);
}

/* --- hostile patterns */

static enum status create(const char *pattern, struct pretokenize **out, struct error *err)
{
    struct tokenizer_spec spec = {.pretokenizer = PRETOKENIZE_STEPS, .step_count = 1};
    spec.steps[0] = (struct split_step){.pattern = pattern, .length = strlen(pattern)};
    return pretokenize_create(&spec, out, err);
}

/* All pieces of a text; the sum of their lengths, or a negative PIECES_ value. */
static long walk(const char *pattern, const struct strbuf *text)
{
    struct pretokenize *pretokenize;
    struct pieces pieces;
    struct error err = {0};
    const char *piece;
    size_t length;
    long sum = 0;
    int more;
    cr_assert_eq(create(pattern, &pretokenize, &err), ST_OK, "%s", err.text);
    cr_assert(pieces_begin(&pieces, pretokenize));
    pieces_start(&pieces, text->data, text->length);
    while ((more = pieces_next(&pieces, &piece, &length)) > 0)
        sum += (long)length;
    pieces_end(&pieces);
    pretokenize_free(pretokenize);
    return more < 0 ? more : sum;
}

Test(split_pattern, what_pcre2_refuses_is_refused_with_its_words)
{
    struct pretokenize *pretokenize;
    struct error err = {0};
    cr_assert_eq(create("\\p{Nonsense}", &pretokenize, &err), ST_UNSUPPORTED);
    cr_assert(strstr(err.text, "'\\p{Nonsense}': unknown property"), "%s", err.text);
    cr_assert_eq(create("(?<=a+)b", &pretokenize, &err), ST_UNSUPPORTED);
    cr_assert_eq(create("((a{1,999}){1,999}){1,999}", &pretokenize, &err), ST_UNSUPPORTED);
}

/* Patterns that need exponential or cubic time end with an error, not with the universe. */
Test(split_pattern, endless_matches_are_given_up)
{
    struct strbuf text = {0};
    while (text.length < 30000)
        strbuf_char(&text, 'a');
    strbuf_text(&text, "!b!c"); /* what PCRE2 knows a match must hold is there */
    cr_assert_eq(walk("(a*)*b", &text), PIECES_NO_TIME);
    cr_assert_eq(walk("(a|aa)+b", &text), PIECES_NO_TIME);
    cr_assert_eq(walk("(?:a+b|a)*c", &text), PIECES_NO_TIME);
    strbuf_free(&text);
}

/* A match may need more than the JIT's first stack; then it gets more. */
Test(split_pattern, deep_matches_are_found)
{
    struct strbuf text = {0};
    while (text.length < 20000)
        strbuf_text(&text, "ab");
    cr_assert_eq(walk("(?:a|b)+c|(?:(?:a|c)(?:b|d))+", &text), (long)text.length);
    strbuf_free(&text);
}
