/* The bytes of answers and streams, compared whole. */
#include "base/base.h"
#include "server/render.h"
#include "support_tokenizer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct tokenizer *tokenizer;
static struct token_list prompt;
static struct render_options options;
static struct renderer *renderer;
static struct strbuf out;
static struct token_log log_;

static void begin(void)
{
    tokenizer = test_tokenizer();
    cr_assert(token_log_init(&log_, 4096, 2));
    token_list_append(&prompt, BYTE_ID('P'));
    token_list_append(&prompt, BYTE_ID('q'));
    options = (struct render_options){
        .tokenizer = tokenizer,
        .id = "cmpl-1",
        .model = "a \"model\"",
        .created = 1700000000,
        .choices = 1,
        .n = 1,
        .prompts = &prompt,
        .prompt_tokens = 2,
    };
}

static void end(void)
{
    renderer_free(renderer);
    tokenizer_free(tokenizer);
    free(prompt.ids);
    strbuf_free(&out);
    token_log_release(&log_);
}

TestSuite(render, .init = begin, .fini = end);

static void start(void)
{
    renderer = renderer_create(&options);
}

static void record(struct token_record record, const struct token_logprob *top)
{
    token_log_append(&log_, record, top);
    cr_assert(renderer_has_news(renderer, &log_));
    cr_assert(renderer_read(renderer, &log_, SIZE_MAX, options.stream ? &out : NULL));
    cr_assert_not(renderer_has_news(renderer, &log_));
}

static void token(int32_t choice, int32_t id, bool ends)
{
    record((struct token_record){.token = id, .choice = choice, .kind = RECORD_TOKEN, .ends = ends},
           NULL);
}

static void finish(int32_t choice, enum finish_reason reason)
{
    record(
        (struct token_record){.choice = choice, .kind = RECORD_FINISH, .reason = (uint8_t)reason},
        NULL);
}

#define HEAD(id, object)                      \
    "{\"id\":\"" id "\",\"object\":\"" object \
    "\",\"created\":1700000000,\"model\":\"a \\\"model\\\"\",\"choices\":["
#define TEXT_HEAD  HEAD("cmpl-1", "text_completion")
#define CHUNK_HEAD HEAD("cmpl-1", "chat.completion.chunk")
#define USAGE(p, c, t)                                                                      \
    "\"usage\":{\"prompt_tokens\":" #p ",\"completion_tokens\":" #c ",\"total_tokens\":" #t \
    ",\"prompt_tokens_details\":{\"cached_tokens\":0}}"

Test(render, a_text_answer)
{
    start();
    token(0, BYTE_ID('a'), false);
    token(0, BYTE_ID('"'), false);
    finish(0, FINISH_LENGTH);
    struct usage usage = {2, 2, 0};
    renderer_answer(renderer, &usage, NULL, &out);
    cr_assert_str_eq(out.data, TEXT_HEAD
                     "{\"index\":0,\"text\":\"a\\\"\",\"logprobs\":null,\"finish_reason\":"
                     "\"length\"}]," USAGE(2, 2, 4) "}");
}

Test(render, a_chat_answer_with_token_ids)
{
    options.chat = options.return_token_ids = true;
    int32_t eos = TEST_EOS;
    options.stop_ids = &eos, options.stop_id_count = 1;
    start();
    token(0, BYTE_ID('a'), false);
    token(0, TEST_EOS, true);
    finish(0, FINISH_STOP);
    struct usage usage = {2, 2, 0};
    renderer_answer(renderer, &usage, NULL, &out);
    cr_assert_str_eq(
        out.data, HEAD("cmpl-1", "chat.completion") "{\"index\":0,\"message\":{\"role\":"
                                                    "\"assistant\",\"content\":\"a\"},"
                                                    "\"logprobs\":null,\"finish_reason\":\"stop\","
                                                    "\"token_ids\":[100,2]}]," USAGE(
                                                        2, 2, 4) ",\"prompt_token_ids\":[83,116]}");
}

Test(render, a_chat_stream_byte_for_byte)
{
    options.chat = options.stream = options.include_usage = true;
    start();
    cr_assert_eq(out.length, 0, "nothing may come before the first token");
    token(0, BYTE_ID('a'), false);
    token(0, BYTE_ID('\n'), false);
    finish(0, FINISH_LENGTH);
    struct usage usage = {2, 2, 0};
    renderer_stream_end(renderer, &usage, NULL, NULL, &out);
    cr_assert_str_eq(out.data, "data: " CHUNK_HEAD
                               "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\"},"
                               "\"logprobs\":null,\"finish_reason\":null}]}\n\n"
                               "data: " CHUNK_HEAD
                               "{\"index\":0,\"delta\":{\"content\":\"\\n\"},\"logprobs\":null,"
                               "\"finish_reason\":null}]}\n\n"
                               "data: " CHUNK_HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,"
                               "\"finish_reason\":\"length\"}]}\n\n"
                               "data: " CHUNK_HEAD "]," USAGE(2, 2, 4) "}\n\n"
                                                                       "data: [DONE]\n\n");
}

Test(render, an_answer_of_eos_alone_still_has_its_role)
{
    int32_t eos = TEST_EOS;
    options.chat = options.stream = true;
    options.stop_ids = &eos, options.stop_id_count = 1;
    start();
    token(0, TEST_EOS, true);
    cr_assert_eq(out.length, 0);
    finish(0, FINISH_STOP);
    cr_assert_str_eq(out.data,
                     "data: " CHUNK_HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\","
                     "\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
}

Test(render, a_character_waits_for_its_last_byte)
{
    options.stream = true;
    start();
    token(0, BYTE_ID('\xc3'), false);
    cr_assert_not_null(strstr(out.data, "\"text\":\"\""), "one event a token, even without text");
    strbuf_clear(&out);
    token(0, BYTE_ID('\xa9'), false);
    cr_assert_not_null(strstr(out.data, "\"text\":\"\xc3\xa9\""));
    strbuf_clear(&out);
    token(0, BYTE_ID('\xe2'), false);
    finish(0, FINISH_LENGTH);
    cr_assert_not_null(strstr(out.data, "\"text\":\"\xef\xbf\xbd\""), "%s", out.data);
}

Test(render, choices_keep_apart_and_echo_their_prompt)
{
    options.choices = options.n = 2;
    options.echo = true;
    start();
    token(1, BYTE_ID('b'), false);
    token(0, BYTE_ID('a'), false);
    finish(1, FINISH_LENGTH);
    finish(0, FINISH_LENGTH);
    struct usage usage = {2, 2, 0};
    renderer_answer(renderer, &usage, NULL, &out);
    cr_assert_not_null(strstr(out.data, "{\"index\":0,\"text\":\"Pqa\""), "%s", out.data);
    cr_assert_not_null(strstr(out.data, "{\"index\":1,\"text\":\"Pqb\""), "%s", out.data);
}

static const char *stopped_text(bool include, int32_t min_tokens, const char *tokens)
{
    static const char *const stops[] = {"bcd"};
    options.stops = stops, options.stop_count = 1;
    options.include_stop = include, options.min_tokens = min_tokens;
    start();
    for (; *tokens; tokens++)
        token(0, BYTE_ID(*tokens), false);
    finish(0, FINISH_LENGTH);
    struct usage usage = {2, 4, 0};
    renderer_answer(renderer, &usage, NULL, &out);
    return out.data;
}

Test(render, a_stop_string_ends_the_text_before_it)
{
    const char *text = stopped_text(false, 0, "abcdZ");
    cr_assert_not_null(strstr(text, "\"text\":\"a\",\"logprobs\":null,\"finish_reason\":\"stop\""),
                       "%s", text);
}

Test(render, a_stop_string_may_be_shown)
{
    cr_assert_not_null(strstr(stopped_text(true, 0, "abcd"), "\"text\":\"abcd\""));
}

Test(render, what_only_began_like_a_stop_string_is_shown_at_the_end)
{
    cr_assert_not_null(strstr(stopped_text(false, 0, "abc"), "\"text\":\"abc\""));
}

Test(render, min_tokens_are_not_searched)
{
    cr_assert_not_null(strstr(stopped_text(false, 4, "bcdabcd"), "\"text\":\"bcda\""));
}

Test(render, a_failed_stream_ends_with_an_error_and_done)
{
    options.stream = true;
    start();
    token(0, BYTE_ID('a'), false);
    strbuf_clear(&out);
    finish(0, FINISH_ERROR);
    cr_assert_eq(renderer_failure(renderer), FINISH_ERROR);
    struct api_error error = {0};
    struct usage usage = {0};
    refuse(&error, REFUSAL_INTERNAL, NULL, "it broke");
    renderer_stream_end(renderer, &usage, NULL, &error, &out);
    cr_assert_str_eq(out.data,
                     "data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\","
                     "\"param\":null,\"code\":\"internal_error\"}}\n\ndata: [DONE]\n\n");
}

Test(render, json_strings_are_valid_whatever_the_bytes)
{
    static const struct {
        const char *bytes, *json;
    } table[] = {
        {"a\"\\/", "\"a\\\"\\\\/\""},
        {"\b\f\n\r\t\x01\x7f", "\"\\u0008\\u000c\\n\\r\\t\\u0001\\u007f\""},
        {"\xc3\xa9\xf0\x9f\x8c\xb3", "\"\xc3\xa9\xf0\x9f\x8c\xb3\""},
        {"\xff|\xc0\xaf|", "\"\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xf4\x90\x80\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\xe2\x82|",
         "\"\xef\xbf\xbd|\""}, /* one for a part that is the beginning of a character */
    };
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        strbuf_clear(&out);
        render_json_string(&out, table[i].bytes, strlen(table[i].bytes));
        cr_expect_str_eq(out.data, table[i].json, "%zu: %s", i, out.data);
    }
    strbuf_clear(&out);
    render_json_string(&out, "a\0b", 3);
    cr_assert_str_eq(out.data, "\"a\\u0000b\"");
}

/* --- log probabilities */

/* A sampled token, or one of the prompt, with the alternatives beside it. */
static void scored(enum record_kind kind, int32_t id, float logprob, struct token_logprob first,
                   struct token_logprob second)
{
    struct token_logprob top[] = {first, second};
    uint8_t count = (uint8_t)((first.token >= 0) + (second.token >= 0));
    record(
        (struct token_record){
            .token = id, .logprob = logprob, .kind = (uint8_t)kind, .top_count = count},
        top);
}

static const struct token_logprob none = {-1, 0};

static struct token_logprob likely(int32_t id, float logprob)
{
    return (struct token_logprob){id, logprob};
}

static void expect_words(const char *words)
{
    cr_assert(strstr(strbuf_cstr(&out), words), "%s\nis not in\n%s", words, strbuf_cstr(&out));
}

Test(render, completions_logprobs_with_the_prompt_echoed)
{
    options.logprobs = options.echo = true;
    start();
    scored(RECORD_PROMPT, BYTE_ID('q'), -1.5f, likely(BYTE_ID('x'), -0.25f), none);
    scored(RECORD_TOKEN, BYTE_ID('a'), -0.5f, likely(BYTE_ID('a'), -0.5f),
           likely(BYTE_ID('"'), -1));
    scored(RECORD_TOKEN, BYTE_ID(0xc3), -INFINITY, likely(BYTE_ID('b'), 0), none);
    scored(RECORD_TOKEN, BYTE_ID(0xa9), -2, none, none);
    finish(0, FINISH_LENGTH);
    struct usage usage = {2, 3, 0};
    renderer_answer(renderer, &usage, NULL, &out);
    expect_words("\"text\":\"Pqa\xc3\xa9\",\"logprobs\":{\"text_offset\":[0,1,2,3,4],"
                 "\"token_logprobs\":[null,-1.5,-0.5,-9999.0,-2],"
                 "\"tokens\":[\"P\",\"q\",\"a\",\"bytes:\\\\xc3\",\"bytes:\\\\xa9\"],"
                 "\"top_logprobs\":[null,{\"x\":-0.25,\"q\":-1.5},{\"a\":-0.5,\"\\\"\":-1},"
                 "{\"b\":0,\"bytes:\\\\xc3\":-9999.0},{\"bytes:\\\\xa9\":-2}]},");
}

Test(render, a_prompt_alone_is_echoed_with_its_logprobs)
{
    options.logprobs = options.echo = options.stream = true;
    start();
    scored(RECORD_PROMPT, BYTE_ID('q'), -1.5f, none, none);
    cr_assert_eq(out.length, 0);
    finish(0, FINISH_LENGTH);
    expect_words(
        "\"text\":\"Pq\",\"logprobs\":{\"text_offset\":[0,1],\"token_logprobs\":[null,-1.5],"
        "\"tokens\":[\"P\",\"q\"],\"top_logprobs\":[null,{\"q\":-1.5}]},"
        "\"finish_reason\":\"length\"");
}

Test(render, chat_logprobs_come_with_their_tokens)
{
    int32_t eos = TEST_EOS;
    options.chat = options.stream = options.logprobs = true;
    options.stop_ids = &eos, options.stop_id_count = 1;
    start();
    scored(RECORD_TOKEN, BYTE_ID('a'), -0.5f, likely(BYTE_ID('a'), -0.5f), none);
    expect_words("\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":[97],"
                 "\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":[97]}]}],"
                 "\"refusal\":null},\"finish_reason\":null");
    strbuf_clear(&out);
    scored(RECORD_TOKEN, BYTE_ID(0xc3), -1, none, none);
    expect_words("\"logprobs\":{\"content\":[{\"token\":\"\\\\xc3\",\"logprob\":-1,\"bytes\":[195],"
                 "\"top_logprobs\":[]}],\"refusal\":null}");
    strbuf_clear(&out);
    record(
        (struct token_record){
            .token = TEST_EOS, .logprob = -0.125f, .kind = RECORD_TOKEN, .ends = true},
        NULL);
    cr_assert_eq(out.length, 0);
    finish(0, FINISH_STOP);
    expect_words("\"logprob\":-0.125");
    expect_words("\"finish_reason\":\"stop\"");
}
