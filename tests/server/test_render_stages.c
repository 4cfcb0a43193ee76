/* Answers with stages, to the byte: reading order, branch events, what is cut and what is given. */
#include "base/base.h"
#include "server/render.h"
#include "support_tokenizer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tokenizer *tokenizer;
static struct token_list prompt;
static struct render_options options;
static struct renderer *renderer;
static struct strbuf out, expected;
static struct token_log log_;
static int32_t eos = TEST_EOS;

static void begin(void)
{
    tokenizer = test_tokenizer();
    cr_assert(token_log_init(&log_, 8192, 2));
    token_list_append(&prompt, BYTE_ID('P'));
    token_list_append(&prompt, BYTE_ID('q'));
    options = (struct render_options){
        .tokenizer = tokenizer,
        .id = "id",
        .model = "m",
        .stream = true,
        .choices = 1,
        .n = 1,
        .stop_ids = &eos,
        .stop_id_count = 1,
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
    strbuf_free(&expected);
    token_log_release(&log_);
}

TestSuite(render_stages, .init = begin, .fini = end);

static void start(void)
{
    renderer = renderer_create(&options);
}

/* --- records; where they go is the choice of `place` */

static struct token_record place;

static void record(struct token_record record)
{
    record.choice = place.choice, record.stage = place.stage;
    token_log_append(&log_, record, NULL);
    cr_assert(renderer_read(renderer, &log_, SIZE_MAX, options.stream ? &out : NULL));
    cr_assert_not(renderer_has_news(renderer, &log_));
}

static void stage(uint16_t number, uint16_t branches, bool parallel, int32_t stops)
{
    place.stage = number;
    record((struct token_record){
        .kind = RECORD_STAGE, .branch = branches, .parallel = parallel, .stops = stops});
}

static void given(uint16_t branch, const char *bytes)
{
    for (; *bytes; bytes++)
        record((struct token_record){
            .kind = RECORD_GIVEN, .branch = branch, .token = BYTE_ID(*bytes)});
}

/* A token that shows again what is shown already but for its end. */
static void again(uint16_t branch, const char *bytes, uint32_t skip)
{
    for (; *bytes; bytes++, skip = 0)
        record((struct token_record){
            .kind = RECORD_GIVEN, .branch = branch, .token = BYTE_ID(*bytes), .skip = skip});
}

static void tokens(uint16_t branch, const char *bytes)
{
    for (; *bytes; bytes++)
        record((struct token_record){
            .kind = RECORD_TOKEN, .branch = branch, .token = BYTE_ID(*bytes), .logprob = -1});
}

static void eos_token(uint16_t branch)
{
    record((struct token_record){
        .kind = RECORD_TOKEN, .branch = branch, .token = TEST_EOS, .logprob = -2, .ends = true});
}

static void ended(uint16_t branch, enum finish_reason reason)
{
    record((struct token_record){.kind = RECORD_END, .branch = branch, .reason = (uint8_t)reason});
}

static void finish(enum finish_reason reason)
{
    record((struct token_record){.kind = RECORD_FINISH, .reason = (uint8_t)reason});
}

/* --- what is expected */

#define TEXT_HEAD \
    "{\"id\":\"id\",\"object\":\"text_completion\",\"created\":0,\"model\":\"m\",\"choices\":["
#define CHUNK_HEAD                                                                         \
    "{\"id\":\"id\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"m\",\"" \
    "choices\":["

/* A chunk of text; `more` is what follows finish_reason, `last` what follows the choices. */
static void chunk(const char *text, const char *reason, const char *more, const char *last)
{
    strbuf_format(&expected,
                  "data: " TEXT_HEAD "{\"index\":%d,\"text\":\"%s\",\"logprobs\":null,"
                  "\"finish_reason\":%s%s}]%s}\n\n",
                  place.choice, text, reason, more, last);
}

static void text(const char *words)
{
    chunk(words, "null", "", "");
}

static void event(const char *words, int32_t stage_number, int32_t branch, const char *name)
{
    char label[128];
    snprintf(label, sizeof label, ",\"espalier\":{\"stage\":%d,\"branch\":%d,\"event\":\"%s\"}",
             stage_number, branch, name);
    chunk(words, "null", "", label);
}

static void expect(void)
{
    cr_expect_str_eq(strbuf_cstr(&out), strbuf_cstr(&expected));
    strbuf_clear(&out);
    strbuf_clear(&expected);
}

static void expect_words(const char *words)
{
    cr_expect(strstr(strbuf_cstr(&out), words), "%s\nis not in\n%s", words, strbuf_cstr(&out));
}

static void answer(void)
{
    struct usage usage = {2, 3, 1};
    renderer_answer(renderer, &usage, NULL, &out);
}

/* --- reading order */

Test(render_stages, serial_stages_stream_at_once)
{
    start();
    stage(0, 1, false, -1);
    given(0, "1.");
    expect(); /* nothing before the first token */
    tokens(0, "ab");
    text("1.a"), text("b");
    expect();
    eos_token(0);
    ended(0, FINISH_STOP);
    stage(1, 1, false, -1);
    given(0, " 2.");
    expect();
    tokens(0, "c");
    text(" 2.c");
    ended(0, FINISH_LENGTH);
    finish(FINISH_STOP);
    chunk("", "\"length\"", "", "");
    expect();
}

Test(render_stages, a_later_branch_waits_for_those_before)
{
    start();
    stage(3, 3, true, -1);
    given(0, "A:"), given(1, "B:"), given(2, "C:");
    tokens(1, "x");
    tokens(2, "y");
    expect();
    tokens(0, "a");
    text("A:a");
    expect();
    ended(1, FINISH_STOP);
    tokens(2, "z");
    expect();
    ended(0, FINISH_STOP); /* one chunk a token, also of those that waited */
    text("B:x"), text("C:y"), text("z");
    expect();
    tokens(2, "!"); /* now it is its turn */
    text("!");
    ended(2, FINISH_STOP);
    stage(4, 1, false, -1);
    given(0, "D:");
    ended(0, FINISH_STOP);
    finish(FINISH_STOP);
    chunk("D:", "\"stop\"", "", "");
    expect();
}

Test(render_stages, reading_stops_where_enough_is_read)
{
    start();
    stage(0, 2, true, -1);
    for (int32_t i = 0; i < 100; i++)
        tokens(1, "x");
    expect();
    token_log_append(&log_, (struct token_record){.kind = RECORD_END, .branch = 0}, NULL);
    cr_assert_not(renderer_read(renderer, &log_, 1, &out));
    text("x");
    expect();
    cr_assert(renderer_has_news(renderer, &log_), "the rest waits, although the log was read");
    for (int32_t i = 1; i < 100; i++)
        text("x");
    while (!renderer_read(renderer, &log_, out.length + 1, &out))
        ;
    expect();
    cr_assert_not(renderer_has_news(renderer, &log_));
}

Test(render_stages, branches_finish_in_reverse)
{
    enum { BRANCHES = 64 };
    char words[8];
    start();
    stage(0, BRANCHES, true, -1);
    for (int32_t i = 0; i < BRANCHES; i++)
        given((uint16_t)i, "-");
    for (int32_t i = BRANCHES - 1; i > 0; i--) {
        snprintf(words, sizeof words, "%c", 'A' + i % 26);
        tokens((uint16_t)i, words);
        ended((uint16_t)i, FINISH_LENGTH);
    }
    expect();
    tokens(0, "A");
    text("-A");
    expect();
    ended(0, FINISH_STOP);
    for (int32_t i = 1; i < BRANCHES; i++) {
        snprintf(words, sizeof words, "-%c", 'A' + i % 26);
        text(words);
    }
    expect();
    finish(FINISH_LENGTH);
    chunk("", "\"length\"", "", "");
    expect();
}

Test(render_stages, branches_of_zero_tokens_show_their_prompts)
{
    start();
    stage(0, 3, true, -1);
    given(0, "A"), given(2, "C");
    ended(2, FINISH_LENGTH);
    ended(1, FINISH_LENGTH);
    ended(0, FINISH_LENGTH);
    stage(1, 1, false, -1);
    tokens(0, "d");
    text("ACd");
    ended(0, FINISH_STOP);
    finish(FINISH_STOP);
    chunk("", "\"stop\"", "", "");
    expect();
}

Test(render_stages, an_unfinished_character_ends_with_its_branch)
{
    options.return_token_ids = true;
    start();
    stage(0, 2, true, -1);
    given(0, "A"), given(1, "B");
    tokens(0, "x\xf0\x9f");
    tokens(1, "\x98\x80y"); /* would complete it, were it one text */
    ended(1, FINISH_LENGTH);
    strbuf_clear(&out);
    ended(0, FINISH_LENGTH);
    chunk("B", "null", ",\"token_ids\":[69]", "");
    strbuf_clear(&expected);
    expect_words("\"text\":\"B\xef\xbf\xbd\"");
    strbuf_clear(&out);
    finish(FINISH_LENGTH);
    chunk("", "\"length\"", ",\"token_ids\":[]", "");
    expect();
}

Test(render_stages, a_character_is_put_together_within_its_branch)
{
    options.stream = false, options.return_token_ids = true;
    start();
    stage(0, 2, true, -1);
    given(0, "\xf0\x9f\x98\x80"), given(1, "|");
    tokens(0, "\xc3");
    tokens(1, "\xc3");
    tokens(0, "\xa9");
    tokens(1, "\xaf");
    ended(1, FINISH_LENGTH);
    ended(0, FINISH_STOP);
    finish(FINISH_STOP);
    answer();
    expect_words(
        "\"text\":\"\xf0\x9f\x98\x80\xc3\xa9|\xc3\xaf\",\"logprobs\":null,"
        "\"finish_reason\":\"length\",\"token_ids\":[243,162,155,131,198,172,127,198,178]");
}

Test(render_stages, a_prompt_of_ids_may_end_within_a_character)
{
    start();
    stage(0, 1, false, -1);
    given(0, "\xc3");
    tokens(0, "\xa9");
    text("\xef\xbf\xbd\xef\xbf\xbd");
    expect();
}

/* --- stop strings */

static const char *const line[] = {"\n\n"}, *const word[] = {"END"}, *const own[] = {"Z"};
static const struct stop_set sets[] = {{line, 1}, {word, 1}, {NULL, 0}};

static void with_stops(void)
{
    options.stops = own, options.stop_count = 1;
    options.stop_sets = sets;
}

Test(render_stages, each_stage_has_its_own_stop_strings)
{
    with_stops();
    options.stream = false;
    start();
    stage(0, 1, false, 0);
    tokens(0, "aZEND\n\n");
    ended(0, FINISH_STOP);
    stage(1, 1, false, 1);
    tokens(0, "bZ\n\nEND");
    ended(0, FINISH_STOP);
    stage(2, 1, false, 2);
    tokens(0, "cZEND\n\n");
    ended(0, FINISH_LENGTH);
    stage(3, 1, false, -1);
    tokens(0, "dEND\n\nZ");
    ended(0, FINISH_LENGTH); /* completed by the last token allowed: a stop */
    finish(FINISH_STOP);
    answer();
    expect_words("\"text\":\"aZENDbZ\\n\\ncZEND\\n\\ndEND\\n\\n\",\"logprobs\":null,"
                 "\"finish_reason\":\"stop\"");
}

Test(render_stages, a_stop_string_is_not_matched_across_branches)
{
    with_stops();
    start();
    stage(0, 3, true, 1);
    given(2, "EN"); /* nor in what is given */
    tokens(0, "aEN");
    tokens(1, "DbE");
    tokens(2, "Dc");
    ended(2, FINISH_STOP);
    ended(1, FINISH_STOP);
    ended(0, FINISH_STOP);
    text("a"), text(""), text("");
    text("END"), text("b"), text("");
    text("EEND"), text("c");
    expect();
}

Test(render_stages, a_stop_string_takes_its_tokens_out_of_the_ids)
{
    with_stops();
    options.return_token_ids = true;
    start();
    stage(0, 2, true, 1);
    tokens(0, "aEENx");
    chunk("a", "null", ",\"token_ids\":[100],\"prompt_token_ids\":[83,116]", "");
    chunk("", "null", ",\"token_ids\":[]", "");
    chunk("E", "null", ",\"token_ids\":[72]", "");
    chunk("", "null", ",\"token_ids\":[]", "");
    chunk("ENx", "null", ",\"token_ids\":[72,81,123]", "");
    expect();
    tokens(0, "END");
    ended(0, FINISH_STOP);
    strbuf_clear(&out);
    eos_token(1);
    ended(1, FINISH_STOP);
    finish(FINISH_STOP);
    chunk("", "\"stop\"", ",\"token_ids\":[]", "");
    expect();
}

/* What is shown of a cut token comes again, read by itself. */
Test(render_stages, what_was_cut_is_shown_once_and_has_its_ids)
{
    int32_t id = BYTE_ID(0xff);
    size_t length;
    const char *bytes;
    do
        bytes = tokenizer_token_view(tokenizer, ++id, false, &length);
    while (length < 2 || length != strlen(bytes) || bytes[0] == bytes[1]);
    const char head[2] = {bytes[0], 0}, *const stop = bytes + 1;
    const struct stop_set set = {&stop, 1};
    options.stop_sets = &set;
    options.stream = false, options.return_token_ids = true;
    start();
    stage(0, 1, false, 0);
    record((struct token_record){.kind = RECORD_TOKEN, .token = id});
    ended(0, FINISH_STOP);
    stage(1, 1, false, -1); /* serial: before the next prompt */
    again(0, head, 1);
    given(0, "|");
    ended(0, FINISH_STOP);
    stage(2, 2, true, 0);
    record((struct token_record){.kind = RECORD_TOKEN, .token = id, .branch = 0});
    again(0, head, 1); /* branch: behind its tokens */
    ended(0, FINISH_STOP);
    record((struct token_record){.kind = RECORD_TOKEN, .token = id, .branch = 1});
    again(1, head, 1);
    ended(1, FINISH_STOP);
    finish(FINISH_STOP);
    answer();
    char words[256];
    snprintf(words, sizeof words,
             "\"text\":\"%s|%s%s\",\"logprobs\":null,\"finish_reason\":\"stop\","
             "\"token_ids\":[%d,%d,%d,%d]",
             head, head, head, BYTE_ID(head[0]), BYTE_ID('|'), BYTE_ID(head[0]), BYTE_ID(head[0]));
    expect_words(words);
}

Test(render_stages, text_behind_a_tag_is_not_shown)
{
    options.return_token_ids = true;
    start();
    stage(0, 1, false, -1);
    tokens(0, "a");
    strbuf_clear(&out);
    record((struct token_record){.kind = RECORD_TOKEN, .token = BYTE_ID('b'), .skip = 1});
    chunk("", "null", ",\"token_ids\":[]", "");
    tokens(0, "c");
    chunk("", "null", ",\"token_ids\":[]", "");
    ended(0, FINISH_STOP);
    expect();
}

/* --- log probabilities and token ids */

Test(render_stages, completions_logprobs_in_reading_order)
{
    with_stops();
    options.stream = false, options.logprobs = options.echo = true;
    start();
    stage(0, 1, false, 1);
    record((struct token_record){.kind = RECORD_PROMPT, .token = BYTE_ID('q'), .logprob = -0.5f});
    tokens(0, "aEND"); /* cut, but sampled */
    ended(0, FINISH_STOP);
    stage(1, 2, true, 1);
    given(0, "x"), given(1, "y");
    tokens(1, "c");
    tokens(0, "b");
    eos_token(1);
    ended(1, FINISH_STOP);
    ended(0, FINISH_STOP);
    finish(FINISH_STOP);
    answer();
    expect_words("\"text\":\"Pqaxbyc\",\"logprobs\":{\"text_offset\":[0,1,2,3,4,5,3,4,5,6,7],"
                 "\"token_logprobs\":[null,-0.5,-1,-1,-1,-1,null,-1,null,-1,-2],"
                 "\"tokens\":[\"P\",\"q\",\"a\",\"E\",\"N\",\"D\",\"x\",\"b\",\"y\",\"c\",\"");
    expect_words("\"top_logprobs\":[null,{\"q\":-0.5},{\"a\":-1},{\"E\":-1},{\"N\":-1},{\"D\":-1},"
                 "null,{\"b\":-1},null,{\"c\":-1},{");
}

Test(render_stages, what_is_given_again_has_no_second_entry)
{
    with_stops();
    options.stream = false, options.logprobs = true;
    start();
    stage(0, 1, false, 1);
    tokens(0, "aEND");
    ended(0, FINISH_STOP);
    stage(1, 1, false, 1);
    again(0, "a\xc3\xa9|", 3); /* as if the stop string had cut the token "a\xe9E" */
    tokens(0, "b");
    ended(0, FINISH_STOP);
    finish(FINISH_STOP);
    answer();
    expect_words("\"text\":\"a|b\",\"logprobs\":{\"text_offset\":[0,1,2,3,1,2],"
                 "\"token_logprobs\":[-1,-1,-1,-1,null,-1],"
                 "\"tokens\":[\"a\",\"E\",\"N\",\"D\",\"|\",\"b\"]");
}

Test(render_stages, chat_logprobs_are_of_sampled_tokens)
{
    options.stream = false, options.logprobs = options.chat = true;
    start();
    stage(0, 2, true, -1);
    given(0, "x"), given(1, "y");
    tokens(1, "b");
    tokens(0, "a");
    ended(1, FINISH_STOP);
    ended(0, FINISH_STOP);
    finish(FINISH_STOP);
    answer();
    expect_words("\"content\":\"xayb\"},\"logprobs\":{\"content\":["
                 "{\"token\":\"a\",\"logprob\":-1,\"bytes\":[97],\"top_logprobs\":[]},"
                 "{\"token\":\"b\",\"logprob\":-1,\"bytes\":[98],\"top_logprobs\":[]}]");
}

Test(render_stages, an_eos_s_logprob_leaves_with_the_next_chunk)
{
    options.logprobs = true;
    start();
    stage(0, 2, true, -1);
    eos_token(0);
    cr_expect_eq(out.length, 0);
    ended(0, FINISH_STOP);
    tokens(1, "a");
    expect_words("\"text\":\"a\",\"logprobs\":{\"text_offset\":[0,0],\"token_logprobs\":[-2,-1]");
}

Test(render_stages, token_ids_are_in_reading_order)
{
    options.return_token_ids = true;
    start();
    stage(0, 2, true, -1);
    given(0, "A"), given(1, "B");
    tokens(1, "b");
    tokens(0, "a");
    chunk("Aa", "null", ",\"token_ids\":[68,100],\"prompt_token_ids\":[83,116]", "");
    expect();
    ended(1, FINISH_STOP);
    ended(0, FINISH_STOP);
    chunk("Bb", "null", ",\"token_ids\":[69,101]", "");
    expect();
}

/* --- both endpoints, several choices, failures */

Test(render_stages, a_chat_stream_with_branches)
{
    options.chat = true;
    start();
    stage(0, 2, true, -1);
    given(0, "A"), given(1, "B");
    tokens(1, "b");
    tokens(0, "a");
    ended(0, FINISH_STOP);
    ended(1, FINISH_STOP);
    finish(FINISH_STOP);
    strbuf_text(&expected,
                "data: " CHUNK_HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":"
                "\"Aa\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
                "data: " CHUNK_HEAD "{\"index\":0,\"delta\":{\"content\":\"Bb\"},"
                "\"logprobs\":null,\"finish_reason\":null}]}\n\n"
                "data: " CHUNK_HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,"
                "\"finish_reason\":\"stop\"}]}\n\n");
    expect();
}

Test(render_stages, choices_with_stages_keep_apart)
{
    options.choices = 2;
    options.prompts = (const struct token_list[]){prompt, prompt};
    start();
    for (place.choice = 0; place.choice < 2; place.choice++)
        stage(0, 2, true, -1);
    place.choice = 1, tokens(1, "d");
    place.choice = 0, tokens(1, "b");
    expect();
    place.choice = 1, ended(0, FINISH_STOP), text("d");
    place.choice = 0, tokens(0, "a"), text("a");
    place.choice = 1, tokens(1, "D"), text("D");
    place.choice = 0, ended(0, FINISH_STOP), text("b");
    expect();
    place.choice = 1, ended(1, FINISH_STOP), finish(FINISH_STOP);
    chunk("", "\"stop\"", "", "");
    place.choice = 0, ended(1, FINISH_LENGTH), finish(FINISH_LENGTH);
    chunk("", "\"length\"", "", "");
    expect();
}

Test(render_stages, a_failure_in_the_middle_has_no_last_chunk)
{
    start();
    stage(0, 2, true, -1);
    tokens(1, "b");
    tokens(0, "a");
    strbuf_clear(&out);
    ended(1, FINISH_ERROR);
    finish(FINISH_ERROR);
    expect();
    cr_expect_eq(renderer_failure(renderer), FINISH_ERROR);
}

Test(render_stages, only_the_last_stage_decides_the_reason)
{
    start();
    stage(0, 2, true, -1);
    ended(0, FINISH_LENGTH);
    ended(1, FINISH_LENGTH);
    stage(1, 2, true, -1);
    ended(0, FINISH_STOP);
    ended(1, FINISH_STOP);
    finish(FINISH_LENGTH);
    chunk("", "\"stop\"", "", "");
    expect();
}

/* --- branch events */

Test(render_stages, branch_events_come_as_they_are_sampled)
{
    options.branch_events = true;
    start();
    stage(0, 1, false, -1);
    given(0, "1.");
    tokens(0, "a");
    event("1.a", 0, 0, "token");
    eos_token(0);
    ended(0, FINISH_STOP);
    expect();
    stage(1, 3, true, -1);
    given(0, "A:"), given(2, "C:");
    tokens(1, "b");
    event("A:", 1, 0, "fork"), event("", 1, 1, "fork"), event("C:", 1, 2, "fork");
    event("b", 1, 1, "token");
    expect();
    tokens(2, "c");
    event("c", 1, 2, "token");
    eos_token(2);
    ended(2, FINISH_STOP);
    tokens(0, "a");
    event("a", 1, 0, "token");
    ended(0, FINISH_STOP);
    expect();
    ended(1, FINISH_LENGTH);
    event("", 1, 0, "join");
    expect();
    stage(2, 1, false, -1);
    given(0, "x");
    tokens(0, "y");
    event("xy", 2, 0, "token");
    ended(0, FINISH_STOP);
    finish(FINISH_STOP);
    chunk("", "\"stop\"", "", "");
    expect();
}

Test(render_stages, branch_events_show_what_was_held_back_with_its_branch)
{
    with_stops();
    options.branch_events = options.return_token_ids = true;
    start();
    stage(0, 2, true, 1);
    ended(1, FINISH_LENGTH);
    strbuf_clear(&out);
    tokens(0, "EN");
    strbuf_clear(&out);
    ended(0, FINISH_LENGTH);
    const char *ids = ",\"token_ids\":[72,81]", *none = ",\"token_ids\":[]";
    chunk("EN", "null", ids, ",\"espalier\":{\"stage\":0,\"branch\":0,\"event\":\"token\"}");
    chunk("", "null", none, ",\"espalier\":{\"stage\":0,\"branch\":0,\"event\":\"join\"}");
    finish(FINISH_LENGTH);
    chunk("", "\"length\"", none, "");
    expect();
}

/* What came is the beginning of the right stream: not the start of a stop string, nor a prompt that
 * no token follows. */
Test(render_stages, branch_events_keep_back_what_a_failure_cut)
{
    with_stops();
    options.branch_events = true;
    start();
    stage(0, 2, true, 1);
    tokens(0, "aEN");
    given(1, "B");
    strbuf_clear(&out);
    ended(0, FINISH_ERROR);
    ended(1, FINISH_ERROR);
    finish(FINISH_ERROR);
    expect();
}

Test(render_stages, branch_events_match_stop_strings_in_each_branch)
{
    with_stops();
    options.branch_events = true;
    start();
    stage(0, 2, true, 1);
    tokens(0, "E");
    tokens(1, "N");
    tokens(0, "N");
    tokens(1, "D");
    tokens(0, "D");
    event("", 0, 0, "fork"), event("", 0, 1, "fork");
    event("", 0, 0, "token"), event("N", 0, 1, "token"), event("", 0, 0, "token");
    event("D", 0, 1, "token"), event("", 0, 0, "token");
    expect();
    ended(0, FINISH_STOP);
    ended(1, FINISH_STOP);
    event("", 0, 0, "join");
    expect();
}

Test(render_stages, branch_events_count_text_in_each_branch)
{
    options.branch_events = options.logprobs = true;
    start();
    stage(0, 2, true, -1);
    given(0, "xx"), given(1, "y");
    tokens(0, "a");
    expect_words("\"text\":\"a\",\"logprobs\":{\"text_offset\":[2],");
    strbuf_clear(&out);
    tokens(1, "b");
    expect_words("\"text\":\"b\",\"logprobs\":{\"text_offset\":[1],");
    strbuf_clear(&out);
    eos_token(0);
    expect_words("\"text\":\"\",\"logprobs\":{\"text_offset\":[3],\"token_logprobs\":[-2]");
    expect_words("\"espalier\":{\"stage\":0,\"branch\":0,\"event\":\"token\"}");
}

Test(render_stages, branch_events_of_an_answer_without_stages)
{
    options.branch_events = true;
    start();
    tokens(0, "a");
    event("a", 0, 0, "token");
    finish(FINISH_LENGTH);
    chunk("", "\"length\"", "", ",\"espalier\":{\"stage\":0,\"branch\":0,\"event\":\"token\"}");
    expect();
}

Test(render_stages, a_failed_stage_is_not_joined)
{
    options.branch_events = true;
    start();
    stage(0, 1, true, -1);
    tokens(0, "a");
    strbuf_clear(&out);
    ended(0, FINISH_ABORT);
    finish(FINISH_ABORT);
    expect();
}

/* --- timings */

static const struct timings timings = {
    .queue_ms = 0.5, .ttft_ms = 12.25, .tpot_ms = NAN, .e2e_ms = 100, .steps = 7};
#define TIMES                                                                         \
    "\"timings\":{\"queue_ms\":0.500,\"ttft_ms\":12.250,\"tpot_ms\":null,\"e2e_ms\":" \
    "100.000,\"steps\":7,\"deferred_branch_steps\":0,\"slo_met\":"
#define USAGE                                                                    \
    "\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3,\"total_tokens\":5," \
    "\"prompt_tokens_details\":{\"cached_tokens\":1}}"

Test(render_stages, timings_end_a_stream)
{
    struct usage usage = {2, 3, 1};
    start();
    renderer_stream_end(renderer, &usage, &timings, NULL, &out);
    strbuf_text(&expected, "data: " TEXT_HEAD "]," TIMES "null}}\n\ndata: [DONE]\n\n");
    expect();
}

Test(render_stages, timings_come_with_the_usage)
{
    struct usage usage = {2, 3, 1};
    struct timings t = timings;
    t.has_slo = true, t.empty_outline = t.malformed_branching = true, t.outline_beyond = 3;
    options.include_usage = true;
    start();
    renderer_stream_end(renderer, &usage, &t, NULL, &out);
    strbuf_text(&expected, "data: " TEXT_HEAD "]," USAGE "," TIMES
                           "false,\"malformed_branching\":true,\"empty_outline\":true,"
                           "\"outline_beyond\":3}}\n\ndata: [DONE]\n\n");
    expect();
}

Test(render_stages, timings_of_a_document)
{
    struct usage usage = {2, 3, 1};
    struct timings t = timings;
    t.has_slo = t.slo_met = true;
    options.stream = false;
    start();
    finish(FINISH_STOP);
    renderer_answer(renderer, &usage, &t, &out);
    expect_words("]," USAGE "," TIMES "true}}");
}
