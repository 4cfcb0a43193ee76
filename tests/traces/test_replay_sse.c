#include "traces/replay/event.h"
#include "traces/replay/sse.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* Data of all events, each followed by '|'. */
struct heard {
    struct strbuf text;
    int stop_after; /* events; 0: never */
};

static bool hear(void *context, const char *data, size_t length)
{
    struct heard *heard = context;
    strbuf_append(&heard->text, data, length);
    strbuf_char(&heard->text, '|');
    return --heard->stop_after != 0;
}

/* Fed in pieces of `piece` bytes, each in memory of its own so that a sanitizer sees every step
 * beyond it. */
static enum sse_status feed(const char *text, size_t length, size_t piece, struct heard *heard)
{
    struct sse_reader reader = {0};
    enum sse_status status = SSE_OK;
    for (size_t at = 0; at < length && status == SSE_OK; at += piece) {
        size_t count = length - at < piece ? length - at : piece;
        char *bytes = malloc(count);
        memcpy(bytes, text + at, count);
        status = sse_feed(&reader, bytes, count, hear, heard);
        free(bytes);
    }
    sse_free(&reader);
    return status;
}

static void expect(const char *text, enum sse_status status, const char *data)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        struct heard heard = {0};
        cr_assert_eq(feed(text, strlen(text), piece, &heard), status, "%s, pieces of %zu", text,
                     piece);
        cr_assert_str_eq(strbuf_cstr(&heard.text), data, "%s, pieces of %zu", text, piece);
        strbuf_free(&heard.text);
    }
}

Test(sse, events_come_whole_however_their_bytes_do)
{
    expect("data: a\n\ndata: b\n\n", SSE_OK, "a|b|");
    expect("data: a\r\n\r\ndata:b\r\n\r\n", SSE_OK, "a|b|");
    expect("data:  two blanks \n\n", SSE_OK, " two blanks |");
    expect("data: a\ndata: b\ndata\n\n", SSE_OK, "a\nb\n|");
    expect("data\n\n", SSE_OK, "|");
    expect(": a comment\nevent: x\nid: 1\nretry: 5\ndata: a\nevent\n\n\n\n", SSE_OK, "a|");
    expect("\n\nevent: nothing\n\n", SSE_OK, "");
}

Test(sse, a_byte_order_mark_opens_a_stream_and_nothing_else)
{
    expect("\xef\xbb\xbf"
           "data: a\n\ndata: b\n\n",
           SSE_OK, "a|b|");
    expect("\xef\xbb\xbf\n\ndata: b\n\n", SSE_OK, "b|");
    expect("\xef\xbb\xbf", SSE_OK, "");
    expect("data: a\n\n\xef\xbb\xbf"
           "data: b\n\n",
           SSE_BAD_LINE, "a|");
    expect("\xef\xbb\xbf\xef\xbb\xbf"
           "data: a\n\n",
           SSE_BAD_LINE, "");
}

Test(sse, what_is_not_complete_is_no_event)
{
    expect("data: a\n\ndata: b", SSE_OK, "a|");
    expect("data: a\n\ndata: b\n", SSE_OK, "a|");
}

Test(sse, other_lines_are_malformed)
{
    expect("data: a\n\n<html>\n\n", SSE_BAD_LINE, "a|");
    expect("{\"error\": 1}\n", SSE_BAD_LINE, "");
    expect("datum: a\n", SSE_BAD_LINE, "");
    expect(" data: a\n", SSE_BAD_LINE, "");
}

Test(sse, reading_stops_when_it_is_told_to)
{
    struct heard heard = {.stop_after = 2};
    const char text[] = "data: a\n\ndata: b\n\ndata: c\n\n";
    cr_assert_eq(feed(text, sizeof text - 1, sizeof text - 1, &heard), SSE_STOPPED);
    cr_assert_str_eq(strbuf_cstr(&heard.text), "a|b|");
    strbuf_free(&heard.text);
}

Test(sse, lines_and_events_are_bounded)
{
    struct heard heard = {0};
    size_t length = SSE_LIMIT + 100;
    char *text = malloc(length);
    memset(text, 'x', length);
    memcpy(text, "data: ", 6);
    cr_assert_eq(feed(text, length, 4096, &heard), SSE_TOO_LONG);
    cr_assert_eq(feed(text, length, length, &heard), SSE_TOO_LONG);
    /* Short lines of one event that never ends. */
    for (size_t i = 0; i + 8 <= length; i += 8)
        memcpy(text + i, "data: x\n", 8);
    cr_assert_eq(feed(text, length - length % 8, 4096, &heard), SSE_OK);
    char *twice = malloc(8 * length);
    for (size_t i = 0; i < 8 * length / 8; i++)
        memcpy(twice + 8 * i, "data: x\n", 8);
    cr_assert_eq(feed(twice, 8 * length, 4096, &heard), SSE_TOO_LONG);
    cr_assert_eq(heard.text.length, 0);
    strbuf_free(&heard.text);
    free(twice);
    free(text);
}

/* --- what stands in an event */

static bool parse(const char *text, struct stream_event *event)
{
    struct error what = {0};
    bool sound = event_parse(text, strlen(text), event, &what);
    cr_assert_eq(sound, what.status == ST_OK, "%s", text);
    return sound;
}

Test(event, a_completions_chunk)
{
    struct stream_event event;
    cr_assert(
        parse("{\"choices\":[{\"index\":2,\"text\":\" a\",\"finish_reason\":null},"
              "{\"index\":0,\"text\":\"\",\"finish_reason\":\"length\",\"token_ids\":[1,2]}]}",
              &event));
    cr_assert_eq(event.choice_count, 2);
    cr_assert(event.choices[0].has_text && event.choices[0].index == 2);
    cr_assert_eq(event.choices[0].token_ids, -1);
    cr_assert_str_eq(event.choices[0].finish, "");
    cr_assert(!event.choices[1].has_text && event.choices[1].token_ids == 2);
    cr_assert_str_eq(event.choices[1].finish, "length");
    cr_assert_eq(event.branch_event, BRANCH_NONE);
    cr_assert(event.usage_completion == -1 && event.usage_prompt == -1 && !event.failed);
}

Test(event, a_chats_chunk)
{
    struct stream_event event;
    cr_assert(
        parse("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", &event));
    cr_assert(event.choices[0].role_only && !event.choices[0].has_text);
    cr_assert(
        parse("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"x\"}}]}", &event));
    cr_assert(!event.choices[0].role_only && event.choices[0].has_text);
    /* SGLang's later chunks: a part of a character, and not who speaks. */
    cr_assert(parse("{\"choices\":[{\"delta\":{\"role\":null,\"content\":\"\"}}]}", &event));
    cr_assert(!event.choices[0].role_only && !event.choices[0].has_text);
    cr_assert(parse("{\"choices\":[{\"delta\":{\"reasoning_content\":\"x\"}}]}", &event));
    cr_assert(event.choices[0].has_text);
}

Test(event, branches_and_usage)
{
    struct stream_event event;
    cr_assert(parse("{\"choices\":[],\"espalier\":{\"stage\":3,\"branch\":1,\"event\":\"fork\"},"
                    "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9,"
                    "\"prompt_tokens_details\":{\"cached_tokens\":4}}}",
                    &event));
    cr_assert(event.branch_event == BRANCH_FORK && event.stage == 3 && event.branch == 1);
    cr_assert(event.usage_prompt == 7 && event.usage_completion == 9 && event.usage_cached == 4);
    cr_assert(parse("{\"choices\":[],\"usage\":null,\"error\":null}", &event));
    cr_assert(event.usage_prompt == -1 && !event.failed);
}

Test(event, errors_have_codes)
{
    struct stream_event event;
    cr_assert(parse("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":\"c\"}}", &event));
    cr_assert(event.failed);
    cr_assert_str_eq(event.error_code, "c");
    cr_assert(parse("{\"error\":{\"message\":\"m\",\"type\":\"t\",\"code\":null}}", &event));
    cr_assert_str_eq(event.error_code, "t");
    cr_assert(parse("{\"error\":{\"code\":503}}", &event));
    cr_assert_str_eq(event.error_code, "503");
    cr_assert(parse("{\"error\":\"out of \\u0007luck\"}", &event));
    cr_assert_str_eq(event.error_code, "out of ?luck");
    cr_assert(
        parse("{\"object\":\"error\",\"message\":\"m\",\"code\":400}", &event)); /* old vLLM */
    cr_assert(event.failed);
    cr_assert_str_eq(event.error_code, "400");
    char code[64];
    event_error_code("<html>", 6, code);
    cr_assert_str_eq(code, "");
    event_error_code("{\"code\":\"x\"}", 12, code);
    cr_assert_str_eq(code, "x");
    event_error_code("[1]", 3, code);
    cr_assert_str_eq(code, "");
}

Test(event, other_shapes_are_malformed)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "7",
        "{\"choices\":3}",
        "{\"choices\":[3]}",
        "{\"choices\":[{\"index\":-1}]}",
        "{\"choices\":[{\"index\":1e99}]}",
        "{\"choices\":[{\"index\":\"0\"}]}",
        "{\"choices\":[{\"finish_reason\":3}]}",
        "{\"choices\":[],\"espalier\":{\"stage\":0,\"branch\":0,\"event\":\"leaf\"}}",
        "{\"choices\":[],\"espalier\":{\"stage\":-1,\"branch\":0,\"event\":\"join\"}}",
        "{\"choices\":[],\"espalier\":7}",
        "{\"choices\":[],\"usage\":{\"prompt_tokens\":1.5}}",
        "{\"choices\":[{\"text\":\"\xff\"}]}",
    };
    struct stream_event event;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert(!parse(bad[i], &event), "%s", bad[i]);
}

Test(event, more_choices_than_anybody_asks_for)
{
    struct strbuf text = {0};
    struct stream_event event;
    strbuf_text(&text, "{\"choices\":[{}");
    for (int i = 1; i < EVENT_CHOICES; i++)
        strbuf_text(&text, ",{}");
    size_t length = text.length;
    strbuf_text(&text, "]}");
    cr_assert(parse(strbuf_cstr(&text), &event));
    cr_assert_eq(event.choice_count, EVENT_CHOICES);
    strbuf_truncate(&text, length);
    strbuf_text(&text, ",{}]}");
    cr_assert(!parse(strbuf_cstr(&text), &event));
    strbuf_free(&text);
}
