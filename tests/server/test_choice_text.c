/* What a sequence shows, which of its tokens stay in the context, and what is left of a cut one. */
#include "server/choice_text.h"
#include "base/base.h"
#include "support_tokenizer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tokenizer *tokenizer;
static struct choice_text text;
static struct strbuf out;

static void begin(void)
{
    tokenizer = test_tokenizer();
}

static void end(void)
{
    choice_text_release(&text);
    tokenizer_free(tokenizer);
    strbuf_free(&out);
}

TestSuite(choice_text, .init = begin, .fini = end);

static void start(const char *stop)
{
    choice_text_init(&text, &stop, stop != NULL);
    choice_text_keep(&text);
}

static void push(const char *bytes)
{
    for (; *bytes; bytes++)
        choice_text_push(&text, tokenizer, BYTE_ID(*bytes), 0, false, &out);
}

static void expect(const char *shown, int32_t kept, const char *rest)
{
    choice_text_end(&text, &out);
    cr_expect_str_eq(strbuf_cstr(&out), shown);
    cr_expect_eq(text.kept, kept, "%d", text.kept);
    cr_expect_str_eq(strbuf_cstr(&text.rest), rest);
}

/* A token of several bytes, which the tests cut. */
static int32_t word(size_t least, const char **bytes)
{
    for (int32_t id = BYTE_ID(0xff) + 1; id < TEST_VOCAB; id++) {
        size_t length;
        *bytes = tokenizer_token_view(tokenizer, id, false, &length);
        if (length >= least && length == strlen(*bytes) && (*bytes)[0] != (*bytes)[1]) return id;
    }
    cr_assert_fail("no token of %zu bytes", least);
    return -1;
}

Test(choice_text, all_is_kept_without_a_stop)
{
    start(NULL);
    push("ab\xc3\xa9");
    expect("ab\xc3\xa9", 4, "");
}

Test(choice_text, an_unfinished_character_is_dropped)
{
    start(NULL);
    push("a\xf0\x9f\x98");
    expect("a", 1, "");
}

Test(choice_text, broken_bytes_are_kept_once_they_show)
{
    start(NULL);
    push("\xf0\x9f"
         "a\xff");
    expect("\xef\xbf\xbd"
           "a\xef\xbf\xbd",
           4, "");
}

Test(choice_text, what_began_like_a_stop_string_is_kept)
{
    start("bcd");
    push("abc");
    choice_text_settle(&text);
    cr_expect_eq(text.kept, 1);
    expect("abc", 3, "");
}

Test(choice_text, the_tokens_of_a_stop_string_leave)
{
    start("bcd");
    push("abcd");
    cr_expect(text.stopped);
    expect("a", 1, "");
}

Test(choice_text, a_stop_string_cuts_a_token)
{
    const char *bytes;
    int32_t id = word(2, &bytes);
    start(bytes + 1);
    push("a");
    cr_expect(choice_text_push(&text, tokenizer, id, 0, false, &out));
    char shown[3] = {'a', bytes[0], 0};
    expect(shown, 1, shown + 1);
}

Test(choice_text, a_stop_string_from_token_to_token)
{
    const char *bytes;
    int32_t id = word(2, &bytes);
    char stop[32], shown[3] = {'a', bytes[0], 0};
    snprintf(stop, sizeof stop, "%sxy", bytes + 1);
    start(stop);
    push("a");
    cr_expect_not(choice_text_push(&text, tokenizer, id, 0, false, &out));
    push("xy");
    cr_expect(text.stopped);
    expect(shown, 1, shown + 1);
}

Test(choice_text, a_tag_cuts_a_token)
{
    const char *bytes;
    int32_t id = word(2, &bytes);
    start(NULL);
    push("a");
    choice_text_push(&text, tokenizer, id, 0, false, &out);
    choice_text_cut(&text, strlen(bytes) - 1);
    strbuf_truncate(&out, 2);
    char shown[3] = {'a', bytes[0], 0};
    expect(shown, 1, shown + 1);
    cr_expect(choice_text_push(&text, tokenizer, BYTE_ID('z'), 0, false, &out));
    cr_expect_eq(out.length, 2);
}

Test(choice_text, a_cut_at_a_token_s_end_loses_nothing)
{
    start(NULL);
    push("ab");
    choice_text_cut(&text, 0);
    expect("ab", 2, "");
}

Test(choice_text, special_tokens_have_no_text_and_stay)
{
    start("bc");
    push("a");
    choice_text_push(&text, tokenizer, TEST_EOS, 0, false, &out);
    push("bc");
    expect("a", 2, "");
}

Test(choice_text, many_tokens_may_wait)
{
    static char stop[1001], pushed[1001];
    memset(stop, 'b', sizeof stop - 1);
    stop[999] = 'c';
    memset(pushed, 'b', sizeof pushed - 1);
    start(stop);
    for (int32_t i = 0; i < 5; i++)
        push(pushed);
    cr_expect_leq(text.waiting.capacity, 2048);
    choice_text_settle(&text);
    cr_expect_eq(text.kept, 5000 - 999);
    push("c");
    cr_expect(text.stopped);
    choice_text_end(&text, &out);
    cr_expect_eq(text.kept, 5000 - 999);
    cr_expect_eq(out.length, 5000 - 999);
}
