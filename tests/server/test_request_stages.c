/* stages, branching, slo: what arrives, and for every rule a body that breaks it, with the field
 * that the refusal names. */
#include "base/alloc.h"
#include "base/base.h"
#include "server/request_parse.h"
#include "server/request_slo.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB 512

static struct api_request request;
static struct api_error error;
static struct server_limits limits;

static void begin(void)
{
    limits = server_limits_default();
}

TestSuite(request_stages, .init = begin);

static bool parse(enum api_endpoint endpoint, const char *body)
{
    error = (struct api_error){0};
    return api_request_parse(&request, endpoint, body, strlen(body), &limits, VOCAB, &error);
}

static void done(void)
{
    api_request_release(&request);
}

#define CHAT(rest)       "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]," rest "}"
#define TEXT(rest)       "{\"prompt\":\"hi\"," rest "}"
#define STAGES(list)     TEXT("\"stages\":[" list "]")
#define SERIAL           "{\"type\":\"serial\"}"
#define PARALLEL(list)   "{\"type\":\"parallel\",\"branches\":" list "}"
#define OUTLINE(more)    "{\"from\":\"outline\",\"prompt\":\"{item}\"" more "}"
#define FIELDS(s)        "{\"type\":\"serial\"," s "}"
#define BRANCHING(value) TEXT("\"branching\":" value)

/* The example of interfaces.md. */
static const char example[] =
    TEXT("\"stop\":[\"x\",\"y\"],\"max_tokens\":7,\"stages\":["
         "{\"type\":\"serial\",\"max_tokens\":96,\"stop\":[\"\\n\\n\"]},"
         "{\"type\":\"parallel\",\"branches\":{\"from\":\"outline\",\"max\":9,"
         "\"prompt\":\"\\n## {item}\\n\"},\"max_tokens\":160},"
         "{\"type\":\"serial\",\"prompt\":\"\\nNow:\"},"
         "{\"type\":\"parallel\",\"branches\":[{\"prompt\":\"\\nFor: \"},"
         "{\"prompt\":[1,511],\"max_tokens\":40}],\"max_tokens\":128,\"stop\":\"\\n\"},"
         "{\"type\":\"serial\",\"prompt\":\"a\\u0000b\",\"max_tokens\":64,\"stop\":[]}],"
         "\"slo\":{\"ttft_ms\":500,\"tpot_ms\":40.5},\"timings\":true");

Test(request_stages, every_field_arrives_and_outlives_the_document)
{
    cr_assert(parse(API_COMPLETIONS, example), "%s", error.message);
    api_request_drop_document(&request);
    cr_assert_eq(request.stage_count, 5);
    const struct api_stage *s = request.stages;
    cr_assert(!s[0].parallel && s[0].branch_count == 1 && s[0].branches[0].max_tokens == 96);
    cr_assert(!s[0].branches[0].prompt.text && !s[0].branches[0].prompt.ids);
    cr_assert_eq(s[0].stop_count, 1);
    cr_assert_str_eq(s[0].stops[0], "\n\n");

    cr_assert(s[1].parallel && s[1].outline && s[1].outline_max == 9 && s[1].branch_count == 1);
    cr_assert_str_eq(s[1].branches[0].prompt.text, "\n## {item}\n");
    cr_assert_eq(s[1].branches[0].max_tokens, 160);
    cr_assert_eq(s[1].stop_count, 2);
    cr_assert_str_eq(s[1].stops[1], "y", "the request's stop strings");

    cr_assert_eq(s[2].branches[0].max_tokens, 7, "the request's");
    cr_assert_str_eq(s[2].branches[0].prompt.text, "\nNow:");

    cr_assert(s[3].parallel && !s[3].outline && s[3].branch_count == 2);
    cr_assert_eq(s[3].branches[0].max_tokens, 128);
    cr_assert_eq(s[3].branches[1].max_tokens, 40);
    cr_assert_eq(s[3].branches[1].prompt.id_count, 2);
    cr_assert_eq(s[3].branches[1].prompt.ids[1], 511);
    cr_assert_eq(s[3].stop_count, 1);

    cr_assert_eq(s[4].branches[0].prompt.length, 3);
    cr_assert_eq(s[4].stop_count, 0, "an empty list is none");
    cr_assert(request.slo.ttft_us == 500000 && request.slo.tpot_us == 40500);
    cr_assert(request.timings && !request.branch_events);
    done();
}

Test(request_stages, null_and_absent_are_defaults)
{
    cr_assert(parse(API_COMPLETIONS, TEXT("\"stages\":null,\"branching\":null,\"slo\":null,"
                                          "\"timings\":null")),
              "%s", error.message);
    cr_assert(!request.stages && !request.grammar && !request.slo.ttft_us && !request.timings);
    done();
    cr_assert(
        parse(API_COMPLETIONS,
              STAGES("{\"type\":\"serial\",\"prompt\":null,\"max_tokens\":null,\"stop\":null,"
                     "\"branches\":null,\"unknown\":null}," PARALLEL(OUTLINE(",\"max\":null")))),
        "%s", error.message);
    cr_assert_eq(request.stages[0].branches[0].max_tokens, MAX_TOKENS_COMPLETIONS);
    cr_assert_eq(request.stages[1].outline_max, 32);
    done();
}

Test(request_stages, a_chat_takes_them_too)
{
    cr_assert(parse(API_CHAT, CHAT("\"max_completion_tokens\":5,\"stages\":[" SERIAL
                                   "," PARALLEL("[{},{\"prompt\":\"\"}]") "]")),
              "%s", error.message);
    cr_assert_eq(request.stages[1].branches[1].max_tokens, 5);
    done();
    cr_assert(parse(API_CHAT, CHAT("\"stages\":[" PARALLEL("[{\"max_tokens\":3}]") "]")), "%s",
              error.message);
    done();
}

Test(request_stages, zero_tokens_with_a_prompt_and_without)
{
    cr_assert(
        parse(API_COMPLETIONS, STAGES(FIELDS("\"prompt\":\"a\",\"max_tokens\":0") "," PARALLEL(
                                   "[{\"prompt\":[5],\"max_tokens\":0},{\"max_tokens\":0}]"))),
        "%s", error.message);
    cr_assert_eq(request.stages[0].branches[0].max_tokens, 0);
    cr_assert_eq(request.stages[1].branches[1].max_tokens, 0);
    done();
}

Test(request_stages, switches_of_a_stream)
{
    cr_assert(parse(API_COMPLETIONS, TEXT("\"stream\":true,\"stream_options\":{\"timings\":true,"
                                          "\"branch_events\":true}")),
              "%s", error.message);
    cr_assert(request.timings && request.branch_events);
    done();
    cr_assert(parse(API_COMPLETIONS, TEXT("\"timings\":true,\"stream\":true,"
                                          "\"stream_options\":{\"timings\":false}")),
              "%s", error.message);
    cr_assert(request.timings, "one of the two is enough");
    done();
}

Test(request_stages, log_probabilities_of_what_is_written)
{
    cr_assert(parse(API_COMPLETIONS, TEXT("\"logprobs\":2,\"stages\":[" SERIAL "]")), "%s",
              error.message);
    cr_assert(request.sample.want_logprob && request.stage_count == 1);
    done();
    cr_assert(parse(API_COMPLETIONS, TEXT("\"echo\":true,\"stages\":[" SERIAL "]")), "%s",
              error.message);
    cr_assert(request.echo);
    done();
}

/* 64 branches of one token with stages around them; an outline of 100. */
Test(request_stages, wide_stages_within_the_default_limits)
{
    struct strbuf list = {0};
    for (int i = 0; i < 64; i++)
        strbuf_text(&list, i ? ",{}" : "{}");
    char body[1024];
    snprintf(body, sizeof body,
             STAGES(SERIAL ",{\"type\":\"parallel\",\"max_tokens\":1,\"branches\":[%s]}," SERIAL
                           "," PARALLEL(OUTLINE(",\"max\":100")) "," SERIAL),
             strbuf_cstr(&list));
    strbuf_free(&list);
    cr_assert(parse(API_COMPLETIONS, body), "%s", error.message);
    cr_assert_eq(request.stages[1].branch_count, 64);
    cr_assert_eq(request.stages[3].outline_max, 100);
    done();
}

Test(request_stages, grammars)
{
    cr_assert(parse(API_CHAT, CHAT("\"branching\":{\"grammar\":\"npr\"}")), "%s", error.message);
    api_request_drop_document(&request);
    cr_assert_str_eq(request.grammar->fork, "</guideline>");
    done();
    cr_assert(parse(API_COMPLETIONS,
                    BRANCHING("{\"grammar\":{\"open\":\"<a>\",\"item_open\":\"<b>\","
                              "\"item_close\":\"</b>\",\"fork\":\"</a>\",\"path_end\":\"</c>\","
                              "\"close\":\"</d>\",\"path_prompt\":\"<c>{index}\","
                              "\"join_prompt\":\"<d>\"}}")),
              "%s", error.message);
    cr_assert_str_eq(request.grammar->path_prompt, "<c>{index}");
    done();
}

static const struct {
    enum api_endpoint endpoint;
    const char *body;
    enum refusal refusal;
    const char *param;
    const char *words; /* in the message */
} refused[] = {
    {API_COMPLETIONS, TEXT("\"stages\":{}"), REFUSAL_INVALID_TYPE, "stages", "a list"},
    {API_COMPLETIONS, TEXT("\"stages\":false"), REFUSAL_INVALID_TYPE, "stages", "a list"},
    {API_COMPLETIONS, STAGES(""), REFUSAL_INVALID_VALUE, "stages", "1 to 16"},
    {API_COMPLETIONS, STAGES("1"), REFUSAL_INVALID_TYPE, "stages[0]", "an object"},
    {API_COMPLETIONS, STAGES("null"), REFUSAL_INVALID_TYPE, "stages[0]", "an object"},
    {API_COMPLETIONS, STAGES("{}"), REFUSAL_INVALID_VALUE, "stages[0].type", "parallel"},
    {API_COMPLETIONS, STAGES(SERIAL ",{\"type\":\"Serial\"}"), REFUSAL_INVALID_VALUE,
     "stages[1].type", "serial"},
    {API_COMPLETIONS, STAGES("{\"type\":\"serial\\u0000\"}"), REFUSAL_INVALID_VALUE,
     "stages[0].type", "serial"},
    {API_COMPLETIONS, STAGES("{\"type\":7}"), REFUSAL_INVALID_VALUE, "stages[0].type", "serial"},
    {API_COMPLETIONS, STAGES(FIELDS("\"max_token\":1")), REFUSAL_INVALID_VALUE,
     "stages[0].max_token", "takes type, prompt, max_tokens, stop"},
    {API_COMPLETIONS, STAGES(FIELDS("\"branches\":[{}]")), REFUSAL_INVALID_VALUE,
     "stages[0].branches", "a serial stage takes"},
    {API_COMPLETIONS, STAGES("{\"type\":\"parallel\",\"branches\":[{}],\"prompt\":\"a\"}"),
     REFUSAL_INVALID_VALUE, "stages[0].prompt", "takes type, branches, max_tokens, stop"},
    {API_COMPLETIONS, STAGES(FIELDS("\"prompt\":7")), REFUSAL_INVALID_TYPE, "stages[0].prompt",
     "a string or a list"},
    {API_COMPLETIONS, STAGES(FIELDS("\"prompt\":[1,512]")), REFUSAL_INVALID_VALUE,
     "stages[0].prompt[1]", "511"},
    {API_COMPLETIONS, STAGES(FIELDS("\"prompt\":[\"a\"]")), REFUSAL_INVALID_TYPE,
     "stages[0].prompt[0]", "an integer"},
    {API_COMPLETIONS, STAGES(FIELDS("\"max_tokens\":-1")), REFUSAL_INVALID_VALUE,
     "stages[0].max_tokens", "between 0"},
    {API_COMPLETIONS, STAGES(FIELDS("\"max_tokens\":2147483648")), REFUSAL_INVALID_VALUE,
     "stages[0].max_tokens", "2147483647"},
    {API_COMPLETIONS, STAGES(FIELDS("\"max_tokens\":1.5")), REFUSAL_INVALID_TYPE,
     "stages[0].max_tokens", "an integer"},
    {API_COMPLETIONS, STAGES(FIELDS("\"stop\":[\"a\",\"\"]")), REFUSAL_INVALID_VALUE,
     "stages[0].stop[1]", "1 to 256"},
    {API_COMPLETIONS, STAGES(FIELDS("\"stop\":7")), REFUSAL_INVALID_TYPE, "stages[0].stop",
     "a string"},
    {API_CHAT, CHAT("\"stages\":[" SERIAL "]"), REFUSAL_INVALID_VALUE, "stages[0].max_tokens",
     "is required"},
    {API_CHAT, CHAT("\"stages\":[" PARALLEL("[{\"max_tokens\":1},{}]") "]"), REFUSAL_INVALID_VALUE,
     "stages[0].branches[1].max_tokens", "is required"},

    {API_COMPLETIONS, STAGES("{\"type\":\"parallel\"}"), REFUSAL_INVALID_TYPE, "stages[0].branches",
     "absent"},
    {API_COMPLETIONS, STAGES(PARALLEL("3")), REFUSAL_INVALID_TYPE, "stages[0].branches", "a list"},
    {API_COMPLETIONS, STAGES(PARALLEL("[]")), REFUSAL_INVALID_VALUE, "stages[0].branches",
     "1 to 128"},
    {API_COMPLETIONS, STAGES(PARALLEL("[\"a\"]")), REFUSAL_INVALID_TYPE, "stages[0].branches[0]",
     "an object"},
    {API_COMPLETIONS, STAGES(PARALLEL("[{\"prompt\":[-1]}]")), REFUSAL_INVALID_VALUE,
     "stages[0].branches[0].prompt[0]", "between 0"},
    {API_COMPLETIONS, STAGES(PARALLEL("[{\"stop\":\"a\"}]")), REFUSAL_INVALID_VALUE,
     "stages[0].branches[0].stop", "a branch takes prompt, max_tokens"},

    {API_COMPLETIONS, STAGES(PARALLEL("[{\"stages\":[]}]")), REFUSAL_UNSUPPORTED,
     "stages[0].branches[0].stages", "nested parallel stages are not supported"},
    {API_COMPLETIONS, STAGES(PARALLEL("[{\"branches\":[{}]}]")), REFUSAL_UNSUPPORTED,
     "stages[0].branches[0].branches", "nested parallel stages are not supported"},
    {API_COMPLETIONS, STAGES(PARALLEL("[{\"type\":\"parallel\"}]")), REFUSAL_UNSUPPORTED,
     "stages[0].branches[0].type", "nested parallel stages are not supported"},
    {API_COMPLETIONS, STAGES(FIELDS("\"stages\":[" SERIAL "]")), REFUSAL_UNSUPPORTED,
     "stages[0].stages", "nested parallel stages are not supported"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL(OUTLINE(",\"branches\":[{}]"))),
     REFUSAL_UNSUPPORTED, "stages[1].branches.branches", "nested"},

    {API_COMPLETIONS, STAGES(PARALLEL(OUTLINE(""))), REFUSAL_INVALID_VALUE,
     "stages[0].branches.from", "the serial stage just before"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL("[{}]") "," PARALLEL(OUTLINE(""))),
     REFUSAL_INVALID_VALUE, "stages[2].branches.from", "the serial stage just before"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL("{\"prompt\":\"a\"}")), REFUSAL_INVALID_VALUE,
     "stages[1].branches.from", "outline"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL("{\"from\":\"list\",\"prompt\":\"a\"}")),
     REFUSAL_INVALID_VALUE, "stages[1].branches.from", "outline"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL("{\"from\":\"outline\"}")), REFUSAL_INVALID_TYPE,
     "stages[1].branches.prompt", "{item}"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL("{\"from\":\"outline\",\"prompt\":[1]}")),
     REFUSAL_INVALID_TYPE, "stages[1].branches.prompt", "a string"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL(OUTLINE(",\"max\":0"))), REFUSAL_INVALID_VALUE,
     "stages[1].branches.max", "between 1 and 128"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL(OUTLINE(",\"max\":129"))), REFUSAL_INVALID_VALUE,
     "stages[1].branches.max", "between 1 and 128"},
    {API_COMPLETIONS, STAGES(SERIAL "," PARALLEL(OUTLINE(",\"most\":3"))), REFUSAL_INVALID_VALUE,
     "stages[1].branches.most", "an outline takes from, max, prompt, max_tokens"},

    {API_COMPLETIONS, TEXT("\"n\":2,\"stages\":[" SERIAL "]"), REFUSAL_INVALID_VALUE, "n",
     "n must be 1 with stages"},
    {API_COMPLETIONS, "{\"prompt\":[\"a\",\"b\"],\"stages\":[" SERIAL "]}", REFUSAL_INVALID_VALUE,
     "prompt", "one prompt with stages, not 2"},
    {API_COMPLETIONS, "{\"prompt\":[[1],[2],[3]],\"branching\":{\"grammar\":\"npr\"}}",
     REFUSAL_INVALID_VALUE, "prompt", "one prompt with branching, not 3"},
    {API_COMPLETIONS, TEXT("\"echo\":true,\"logprobs\":1,\"branching\":{\"grammar\":\"npr\"}"),
     REFUSAL_UNSUPPORTED, "echo", "with branching"},
    {API_COMPLETIONS, TEXT("\"min_tokens\":1,\"stages\":[" SERIAL "]"), REFUSAL_INVALID_VALUE,
     "min_tokens", "with stages"},
    {API_COMPLETIONS, TEXT("\"echo\":true,\"logprobs\":0,\"stages\":[" SERIAL "]"),
     REFUSAL_UNSUPPORTED, "echo", "with stages"},
    {API_COMPLETIONS, TEXT("\"branching\":{\"grammar\":\"npr\"},\"stages\":[" SERIAL "]"),
     REFUSAL_INVALID_VALUE, "branching", "not both"},

    {API_COMPLETIONS, BRANCHING("\"npr\""), REFUSAL_INVALID_TYPE, "branching", "an object"},
    {API_COMPLETIONS, BRANCHING("{}"), REFUSAL_INVALID_VALUE, "branching.grammar", "is required"},
    {API_COMPLETIONS, BRANCHING("{\"grammar\":\"other\"}"), REFUSAL_INVALID_VALUE,
     "branching.grammar", "multiverse"},
    {API_COMPLETIONS, BRANCHING("{\"grammar\":[1]}"), REFUSAL_INVALID_TYPE, "branching.grammar",
     "multiverse"},
    {API_COMPLETIONS, BRANCHING("{\"grammar\":null}"), REFUSAL_INVALID_VALUE, "branching.grammar",
     "is required"},
    {API_COMPLETIONS, BRANCHING("{\"grammar\":{\"opne\":\"<a>\"}}"), REFUSAL_INVALID_VALUE,
     "branching.grammar.opne", "a grammar takes open, plan_open"},
    {API_COMPLETIONS, BRANCHING("{\"gramar\":\"npr\"}"), REFUSAL_INVALID_VALUE, "branching.gramar",
     "branching takes grammar"},
    {API_COMPLETIONS, TEXT("\"n\":2,\"branching\":{\"grammar\":\"npr\"}"), REFUSAL_INVALID_VALUE,
     "n", "with branching"},

    {API_COMPLETIONS, TEXT("\"slo\":5"), REFUSAL_INVALID_TYPE, "slo", "an object"},
    {API_COMPLETIONS, TEXT("\"slo\":{\"ttft_ms\":0}"), REFUSAL_INVALID_VALUE, "slo.ttft_ms",
     "milliseconds"},
    {API_COMPLETIONS, TEXT("\"slo\":{\"tpot_ms\":-1}"), REFUSAL_INVALID_VALUE, "slo.tpot_ms",
     "milliseconds"},
    {API_COMPLETIONS, TEXT("\"slo\":{\"tpot_ms\":1e300}"), REFUSAL_INVALID_VALUE, "slo.tpot_ms",
     "milliseconds"},
    {API_COMPLETIONS, TEXT("\"slo\":{\"tpot_ms\":\"40\"}"), REFUSAL_INVALID_TYPE, "slo.tpot_ms",
     "a string"},
    {API_COMPLETIONS, TEXT("\"timings\":1"), REFUSAL_INVALID_TYPE, "timings", "true or false"},
    {API_COMPLETIONS, TEXT("\"stream\":true,\"stream_options\":{\"branch_events\":1}"),
     REFUSAL_INVALID_TYPE, "stream_options.branch_events", "true or false"},
    {API_COMPLETIONS, TEXT("\"stream\":true,\"stream_options\":{\"timings\":1}"),
     REFUSAL_INVALID_TYPE, "stream_options.timings", "true or false"},
};

Test(request_stages, refuses_with_code_and_field)
{
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        cr_assert_not(parse(refused[i].endpoint, refused[i].body), "taken: %s", refused[i].body);
        cr_expect_eq(error.refusal, refused[i].refusal, "%s: %s (%s)", refused[i].body,
                     refusal_code(error.refusal), error.message);
        cr_expect_str_eq(error.param, refused[i].param, "%s: %s", refused[i].body, error.message);
        cr_expect(strstr(error.message, refused[i].param), "%s: %s", refused[i].body,
                  error.message);
        cr_expect(strstr(error.message, refused[i].words), "%s: %s", refused[i].body,
                  error.message);
        done();
    }
}

Test(request_stages, numbers_are_limited)
{
    limits.max_stages = 2, limits.max_branches = 3, limits.max_sequences = 4;
    cr_assert(parse(API_COMPLETIONS, STAGES(SERIAL "," PARALLEL("[{},{},{}]"))), "%s",
              error.message);
    done();
    cr_assert(parse(API_COMPLETIONS, STAGES(SERIAL "," PARALLEL(OUTLINE("")))), "%s",
              error.message);
    cr_assert_eq(request.stages[1].outline_max, 3, "the default is no more than is allowed");
    done();
    static const struct {
        const char *body, *param, *words;
    } beyond[] = {
        {STAGES(SERIAL "," SERIAL "," SERIAL), "stages", "3 stages; 1 to 2"},
        {STAGES(PARALLEL("[{},{},{},{}]")), "stages[0].branches", "4 branches; 1 to 3"},
        {STAGES(PARALLEL("[{},{},{}]") "," PARALLEL("[{},{}]")), "stages", "5 sequences"},
    };
    for (size_t i = 0; i < COUNT_OF(beyond); i++) {
        cr_assert_not(parse(API_COMPLETIONS, beyond[i].body), "%s", beyond[i].body);
        cr_expect_eq(error.refusal, REFUSAL_INVALID_VALUE);
        cr_expect_str_eq(error.param, beyond[i].param);
        cr_expect(strstr(error.message, beyond[i].words), "%s", error.message);
        done();
    }
}

/* Whatever a client calls its field, the refusal is one of the API's. */
Test(request_stages, a_name_without_an_end_is_cut)
{
    char body[4096], name[3000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    snprintf(body, sizeof body, STAGES(PARALLEL("[{\"%s\":1}]")), name);
    cr_assert_not(parse(API_COMPLETIONS, body));
    cr_expect_str_eq(error.param, "stages[0].branches[0].xxxxxxxxxxxxxxxxxxxx");
    done();
}

Test(request_stages, a_header_that_is_no_target_is_none)
{
    cr_assert_eq(slo_header_us("2.5"), 2500);
    cr_assert_eq(slo_header_us("1e3"), 1000000);
    cr_assert_eq(slo_header_us("0.001"), 1);
    cr_assert_eq(slo_header_us("1e9"), INT64_C(1000000000000));
    static const char *const wrong[] = {NULL,  "",     "x",    "0",   "-1",  "nan",
                                        "inf", "0x10", "1e99", "1 2", "5ms", "1,5",
                                        "--1", "1e",   " 1",   "+",   "1e-9"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        cr_expect_eq(slo_header_us(wrong[i]), 0, "'%s'", wrong[i] ? wrong[i] : "NULL");
}

Test(request_stages, a_header_wins_over_the_body)
{
    struct api_slo slo = {.ttft_us = 1, .tpot_us = 2}, headers = {.tpot_us = 3};
    slo_override(&slo, &headers);
    cr_assert(slo.ttft_us == 1 && slo.tpot_us == 3);
}

Test(request_stages, an_slo_may_have_names_for_others)
{
    cr_assert(parse(API_COMPLETIONS, TEXT("\"slo\":{\"e2e_ms\":5,\"tpot_ms\":1}")), "%s",
              error.message);
    cr_assert(request.slo.ttft_us == 0 && request.slo.tpot_us == 1000);
    done();
}

Test(request_stages, memory_that_cannot_be_had_is_a_refusal)
{
    int64_t failures = 0;
    for (int64_t n = 1;; n++) {
        alloc_fail_after(n);
        bool taken = parse(API_COMPLETIONS, example);
        alloc_fail_after(0);
        done();
        if (taken) break;
        cr_assert_eq(refusal_status(error.refusal), 503);
        failures++;
    }
    cr_assert_geq(failures, 12);
}

Test(request_stages, every_truncation_is_refused)
{
    char *copy = must_strdup(example);
    for (size_t length = strlen(example); length > 0; length--) {
        copy[length - 1] = 0;
        cr_assert_not(parse(API_COMPLETIONS, copy), "taken at %zu", length - 1);
        done();
    }
    free(copy);
}
