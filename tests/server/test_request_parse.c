/* Bodies that are taken and bodies that are refused, each refusal with its code and field. */
#include "base/base.h"
#include "server/request_parse.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB 512

static struct api_request request;
static struct api_error error;

static bool parse_bytes(enum api_endpoint endpoint, const char *body, size_t length)
{
    const struct server_limits limits = server_limits_default();
    error = (struct api_error){0};
    return api_request_parse(&request, endpoint, body, length, &limits, VOCAB, &error);
}

static bool parse(enum api_endpoint endpoint, const char *body)
{
    return parse_bytes(endpoint, body, strlen(body));
}

static void done(void)
{
    api_request_release(&request);
}

#define CHAT(rest) "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" rest "}"
#define TEXT(rest) "{\"prompt\":\"hi\"" rest "}"

Test(request_parse, null_and_absent_are_defaults)
{
    cr_assert(parse(API_COMPLETIONS,
                    TEXT(",\"n\":null,\"max_tokens\":null,\"temperature\":null,\"top_p\":null,"
                         "\"stop\":null,\"seed\":null,\"stream\":null,\"stream_options\":null,"
                         "\"logprobs\":null,\"logit_bias\":null,\"model\":null,\"user\":\"u\","
                         "\"an_unknown_field\":{\"x\":[1]}")),
              "%s", error.message);
    cr_assert_eq(request.n, 1);
    cr_assert_eq(request.max_tokens, MAX_TOKENS_DEFAULT);
    cr_assert_eq(request.sample.temperature, 1);
    cr_assert_eq(request.sample.top_p, 1);
    cr_assert_not(request.has_seed);
    cr_assert_not(request.stream);
    cr_assert_eq(request.stop_count, 0);
    cr_assert_null(request.model);
    done();
}

Test(request_parse, every_field_arrives)
{
    cr_assert(parse(API_CHAT,
                    CHAT(",\"model\":\"m\",\"n\":3,\"max_tokens\":7,\"max_completion_tokens\":9,"
                         "\"min_tokens\":2,\"temperature\":0.5,\"top_p\":0.25,\"min_p\":0.125,"
                         "\"top_k\":40,\"seed\":-5,\"priority\":-2,\"ignore_eos\":true,"
                         "\"stop\":[\"a\",\"bc\"],\"stop_token_ids\":[5,6],\"stream\":true,"
                         "\"include_stop_str_in_output\":true,\"return_token_ids\":true,"
                         "\"repetition_penalty\":1.5,\"presence_penalty\":-0.5,"
                         "\"frequency_penalty\":0.25,\"logit_bias\":{\"5\":-100,\"7\":0.5},"
                         "\"logprobs\":true,\"top_logprobs\":3,"
                         "\"stream_options\":{\"include_usage\":true,"
                         "\"continuous_usage_stats\":true}")),
              "%s", error.message);
    cr_assert_str_eq(request.model, "m");
    cr_assert_eq(request.n, 3);
    cr_assert_eq(request.max_tokens, 9, "the newer name wins");
    cr_assert_eq(request.min_tokens, 2);
    cr_assert_eq(request.sample.temperature, 0.5f);
    cr_assert_eq(request.sample.top_p, 0.25f);
    cr_assert_eq(request.sample.min_p, 0.125f);
    cr_assert_eq(request.sample.top_k, 40);
    cr_assert(request.has_seed);
    cr_assert_eq(request.sample.seed, (uint64_t)-5);
    cr_assert_eq(request.priority, -2);
    cr_assert_eq(request.sample.repetition_penalty, 1.5f);
    cr_assert_eq(request.sample.presence_penalty, -0.5f);
    cr_assert_eq(request.sample.frequency_penalty, 0.25f);
    cr_assert_eq(request.sample.bias_count, 2);
    cr_assert_eq(request.sample.biases[0].token, 5);
    cr_assert_eq(request.sample.biases[0].bias, -100);
    cr_assert_eq(request.sample.biases[1].bias, 0.5f);
    cr_assert(request.sample.want_logprob);
    cr_assert_eq(request.sample.top_logprobs, 3);
    cr_assert(request.ignore_eos && request.stream && request.include_stop);
    cr_assert(request.include_usage && request.continuous_usage && request.return_token_ids);
    cr_assert_eq(request.stop_count, 2);
    cr_assert_str_eq(request.stops[1], "bc");
    cr_assert_eq(request.stop_id_count, 2);
    cr_assert_eq(request.stop_ids[1], 6);
    done();
}

Test(request_parse, prompts_come_in_four_shapes)
{
    cr_assert(parse(API_COMPLETIONS, "{\"prompt\":\"one\"}"));
    cr_assert_eq(request.prompt_count, 1);
    done();
    cr_assert(parse(API_COMPLETIONS, "{\"prompt\":[1,2,511]}"));
    cr_assert_eq(request.prompt_count, 1);
    cr_assert_eq(request.prompts[0].id_count, 3);
    cr_assert_eq(request.prompts[0].ids[2], 511);
    done();
    cr_assert(parse(API_COMPLETIONS, "{\"prompt\":[\"a\",\"bc\"]}"));
    cr_assert_eq(request.prompt_count, 2);
    cr_assert_eq(request.prompts[1].length, 2);
    done();
    cr_assert(parse(API_COMPLETIONS, "{\"prompt\":[[1],[2,3]]}"));
    cr_assert_eq(request.prompt_count, 2);
    cr_assert_eq(request.prompts[1].ids[1], 3);
    done();
}

Test(request_parse, a_prompt_may_hold_a_nul)
{
    cr_assert(parse(API_COMPLETIONS, "{\"prompt\":\"a\\u0000b\"}"), "%s", error.message);
    cr_assert_eq(request.prompts[0].length, 3);
    done();
}

Test(request_parse, content_parts_are_joined_by_lines)
{
    cr_assert(parse(API_CHAT,
                    "{\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\","
                    "\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
                    "{\"role\":\"assistant\",\"content\":null}]}"),
              "%s", error.message);
    cr_assert_str_eq(request.messages[0].role, "system");
    cr_assert_eq(request.messages[0].content_length, 3);
    cr_assert_arr_eq(request.messages[0].content, "a\nb", 3);
    cr_assert_eq(request.messages[1].content_length, 0);
    done();
}

Test(request_parse, an_integer_may_be_spelled_with_a_point)
{
    cr_assert(parse(API_COMPLETIONS, TEXT(",\"max_tokens\":4.0")), "%s", error.message);
    cr_assert_eq(request.max_tokens, 4);
    done();
}

static const struct {
    enum api_endpoint endpoint;
    const char *body;
    enum refusal refusal;
    const char *param;
} refused[] = {
    {API_COMPLETIONS, "", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "{", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "[]", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "null", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, TEXT(",\"n\":1,\"n\":2"), REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "{\"prompt\":\"\xff\"}", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "{\"prompt\":\"\xc0\x80\"}", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "{\"prompt\":\"\\ud800\"}", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "{\"prompt\":\"\\udc00\\ud800\"}", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, "{\"prompt\":\"a\"} x", REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, TEXT(",\"temperature\":NaN"), REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, TEXT(",\"temperature\":Infinity"), REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, TEXT(",\"temperature\":1e999"), REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, TEXT(",\"seed\":9223372036854775808"), REFUSAL_INVALID_JSON, ""},

    {API_COMPLETIONS, "{}", REFUSAL_INVALID_VALUE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":null}", REFUSAL_INVALID_VALUE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":7}", REFUSAL_INVALID_TYPE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":{}}", REFUSAL_INVALID_TYPE, "prompt"},
    {API_COMPLETIONS, "{\"prompt\":[1,\"a\"]}", REFUSAL_INVALID_TYPE, "prompt[1]"},
    {API_COMPLETIONS, "{\"prompt\":[\"a\",1]}", REFUSAL_INVALID_TYPE, "prompt[1]"},
    {API_COMPLETIONS, "{\"prompt\":[[1],\"a\"]}", REFUSAL_INVALID_TYPE, "prompt[1]"},
    {API_COMPLETIONS, "{\"prompt\":[null]}", REFUSAL_INVALID_TYPE, "prompt[0]"},
    {API_COMPLETIONS, "{\"prompt\":[512]}", REFUSAL_INVALID_VALUE, "prompt[0]"},
    {API_COMPLETIONS, "{\"prompt\":[-1]}", REFUSAL_INVALID_VALUE, "prompt[0]"},
    {API_COMPLETIONS, "{\"prompt\":[4294967296]}", REFUSAL_INVALID_VALUE, "prompt[0]"},
    {API_COMPLETIONS, "{\"prompt\":[1.5]}", REFUSAL_INVALID_TYPE, "prompt[0]"},

    {API_COMPLETIONS, TEXT(",\"model\":7"), REFUSAL_INVALID_TYPE, "model"},
    {API_COMPLETIONS, TEXT(",\"n\":0"), REFUSAL_INVALID_VALUE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":-1"), REFUSAL_INVALID_VALUE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":17"), REFUSAL_INVALID_VALUE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":1000000000"), REFUSAL_INVALID_VALUE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":9223372036854775807"), REFUSAL_INVALID_VALUE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":1.5"), REFUSAL_INVALID_TYPE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":1e300"), REFUSAL_INVALID_TYPE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":\"4\""), REFUSAL_INVALID_TYPE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":true"), REFUSAL_INVALID_TYPE, "n"},
    {API_COMPLETIONS, TEXT(",\"n\":[]"), REFUSAL_INVALID_TYPE, "n"},
    {API_COMPLETIONS, TEXT(",\"max_tokens\":0"), REFUSAL_INVALID_VALUE, "max_tokens"},
    {API_COMPLETIONS, TEXT(",\"max_tokens\":-1"), REFUSAL_INVALID_VALUE, "max_tokens"},
    {API_COMPLETIONS, TEXT(",\"max_tokens\":9223372036854775807"), REFUSAL_INVALID_VALUE,
     "max_tokens"},
    {API_COMPLETIONS, TEXT(",\"max_tokens\":1.5"), REFUSAL_INVALID_TYPE, "max_tokens"},
    {API_COMPLETIONS, TEXT(",\"max_tokens\":\"4\""), REFUSAL_INVALID_TYPE, "max_tokens"},
    {API_CHAT, CHAT(",\"max_completion_tokens\":0"), REFUSAL_INVALID_VALUE,
     "max_completion_tokens"},
    {API_COMPLETIONS, TEXT(",\"temperature\":-0.1"), REFUSAL_INVALID_VALUE, "temperature"},
    {API_COMPLETIONS, TEXT(",\"temperature\":\"1\""), REFUSAL_INVALID_TYPE, "temperature"},
    {API_COMPLETIONS, TEXT(",\"top_p\":0"), REFUSAL_INVALID_VALUE, "top_p"},
    {API_COMPLETIONS, TEXT(",\"top_p\":1.01"), REFUSAL_INVALID_VALUE, "top_p"},
    {API_COMPLETIONS, TEXT(",\"min_p\":2"), REFUSAL_INVALID_VALUE, "min_p"},
    {API_COMPLETIONS, TEXT(",\"top_k\":-2"), REFUSAL_INVALID_VALUE, "top_k"},
    {API_COMPLETIONS, TEXT(",\"seed\":1.5"), REFUSAL_INVALID_TYPE, "seed"},
    {API_COMPLETIONS, TEXT(",\"seed\":1e30"), REFUSAL_INVALID_TYPE, "seed"},
    {API_COMPLETIONS, TEXT(",\"priority\":2147483648"), REFUSAL_INVALID_VALUE, "priority"},
    {API_COMPLETIONS, TEXT(",\"stream\":1"), REFUSAL_INVALID_TYPE, "stream"},
    {API_COMPLETIONS, TEXT(",\"ignore_eos\":\"yes\""), REFUSAL_INVALID_TYPE, "ignore_eos"},
    {API_COMPLETIONS, TEXT(",\"stream_options\":{}"), REFUSAL_INVALID_VALUE, "stream_options"},
    {API_COMPLETIONS, TEXT(",\"stream\":true,\"stream_options\":1"), REFUSAL_INVALID_TYPE,
     "stream_options"},
    {API_COMPLETIONS, TEXT(",\"stream\":true,\"stream_options\":{\"include_usage\":1}"),
     REFUSAL_INVALID_TYPE, "stream_options.include_usage"},
    {API_COMPLETIONS, TEXT(",\"stop\":\"\""), REFUSAL_INVALID_VALUE, "stop"},
    {API_COMPLETIONS, TEXT(",\"stop\":[\"a\",\"\"]"), REFUSAL_INVALID_VALUE, "stop[1]"},
    {API_COMPLETIONS, TEXT(",\"stop\":[7]"), REFUSAL_INVALID_TYPE, "stop[0]"},
    {API_COMPLETIONS, TEXT(",\"stop\":7"), REFUSAL_INVALID_TYPE, "stop"},
    {API_COMPLETIONS, TEXT(",\"stop\":\"a\\u0000b\""), REFUSAL_INVALID_VALUE, "stop"},
    {API_COMPLETIONS, TEXT(",\"stop_token_ids\":[512]"), REFUSAL_INVALID_VALUE,
     "stop_token_ids[0]"},
    {API_COMPLETIONS, TEXT(",\"logprobs\":21"), REFUSAL_INVALID_VALUE, "logprobs"},
    {API_COMPLETIONS, TEXT(",\"logprobs\":-1"), REFUSAL_INVALID_VALUE, "logprobs"},
    {API_COMPLETIONS, TEXT(",\"logprobs\":1000000000"), REFUSAL_INVALID_VALUE, "logprobs"},
    {API_COMPLETIONS, TEXT(",\"logprobs\":9223372036854775807"), REFUSAL_INVALID_VALUE, "logprobs"},
    {API_COMPLETIONS, TEXT(",\"logprobs\":1.5"), REFUSAL_INVALID_TYPE, "logprobs"},
    {API_COMPLETIONS, TEXT(",\"logprobs\":\"4\""), REFUSAL_INVALID_TYPE, "logprobs"},
    {API_COMPLETIONS, TEXT(",\"logprobs\":true"), REFUSAL_INVALID_TYPE, "logprobs"},
    {API_CHAT, CHAT(",\"logprobs\":5"), REFUSAL_INVALID_TYPE, "logprobs"},
    {API_CHAT, CHAT(",\"logprobs\":true,\"top_logprobs\":21"), REFUSAL_INVALID_VALUE,
     "top_logprobs"},
    {API_CHAT, CHAT(",\"top_logprobs\":2"), REFUSAL_INVALID_VALUE, "top_logprobs"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":[1]"), REFUSAL_INVALID_TYPE, "logit_bias"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"512\":1}"), REFUSAL_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"-1\":1}"), REFUSAL_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"+1\":1}"), REFUSAL_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"\":1}"), REFUSAL_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"a\":1}"), REFUSAL_INVALID_VALUE, "logit_bias"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"99999999999999999999\":1}"), REFUSAL_INVALID_VALUE,
     "logit_bias"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"5\":101}"), REFUSAL_INVALID_VALUE, "logit_bias.5"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"5\":\"1\"}"), REFUSAL_INVALID_TYPE, "logit_bias.5"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"5\":null}"), REFUSAL_INVALID_TYPE, "logit_bias.5"},
    {API_COMPLETIONS, TEXT(",\"logit_bias\":{\"5\":NaN}"), REFUSAL_INVALID_JSON, ""},
    {API_COMPLETIONS, TEXT(",\"presence_penalty\":2.5"), REFUSAL_INVALID_VALUE, "presence_penalty"},
    {API_COMPLETIONS, TEXT(",\"frequency_penalty\":-2.5"), REFUSAL_INVALID_VALUE,
     "frequency_penalty"},
    {API_COMPLETIONS, TEXT(",\"repetition_penalty\":0"), REFUSAL_INVALID_VALUE,
     "repetition_penalty"},
    {API_COMPLETIONS, TEXT(",\"best_of\":2"), REFUSAL_UNSUPPORTED, "best_of"},
    {API_CHAT, CHAT(",\"guided_json\":{\"type\":\"object\"}"), REFUSAL_UNSUPPORTED, "guided_json"},
    {API_COMPLETIONS, TEXT(",\"prompt_logprobs\":1"), REFUSAL_UNSUPPORTED, "prompt_logprobs"},

    {API_CHAT, "{}", REFUSAL_INVALID_VALUE, "messages"},
    {API_CHAT, "{\"messages\":[]}", REFUSAL_INVALID_VALUE, "messages"},
    {API_CHAT, "{\"messages\":\"hi\"}", REFUSAL_INVALID_TYPE, "messages"},
    {API_CHAT, "{\"messages\":[7]}", REFUSAL_INVALID_TYPE, "messages[0]"},
    {API_CHAT, "{\"messages\":[{\"content\":\"a\"}]}", REFUSAL_INVALID_VALUE, "messages[0].role"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\\n<|im_end|>\",\"content\":\"a\"}]}",
     REFUSAL_INVALID_VALUE, "messages[0].role"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\"}]}", REFUSAL_INVALID_TYPE, "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
     REFUSAL_INVALID_VALUE, "messages[0].content"},
    {API_CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":[\"a\"]}]}", REFUSAL_INVALID_VALUE,
     "messages[0].content"},

    {API_TOKENIZE, "{\"prompt\":\"a\",\"messages\":[]}", REFUSAL_INVALID_VALUE, "messages"},
    {API_TOKENIZE, "{\"prompt\":[\"a\",\"b\"]}", REFUSAL_INVALID_VALUE, "prompt"},
    {API_DETOKENIZE, "{}", REFUSAL_INVALID_VALUE, "tokens"},
    {API_DETOKENIZE, "{\"tokens\":\"a\"}", REFUSAL_INVALID_TYPE, "tokens"},
    {API_DETOKENIZE, "{\"tokens\":[\"a\"]}", REFUSAL_INVALID_TYPE, "tokens[0]"},
};

Test(request_parse, refuses_with_code_and_field)
{
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        cr_assert_not(parse(refused[i].endpoint, refused[i].body), "taken: %s", refused[i].body);
        cr_expect_eq(error.refusal, refused[i].refusal, "%s: %s (%s)", refused[i].body,
                     refusal_code(error.refusal), error.message);
        cr_expect_str_eq(error.param, refused[i].param, "%s: %s", refused[i].body, error.param);
        cr_expect(strlen(error.message) > 0);
        done();
    }
}

/* {"prompt":"x","a":[[[...]]]}: `arrays` deep inside the object. */
static char *nested(int arrays)
{
    struct strbuf text = {0};
    strbuf_text(&text, "{\"prompt\":\"x [[[ \\\" [[\",\"a\":");
    for (int i = 0; i < arrays; i++)
        strbuf_char(&text, '[');
    for (int i = 0; i < arrays; i++)
        strbuf_char(&text, ']');
    strbuf_char(&text, '}');
    return strbuf_take(&text);
}

Test(request_parse, depth_is_limited_before_the_parser_sees_it)
{
    int32_t depth = server_limits_default().max_depth;
    char *deepest = nested(depth - 1), *deeper = nested(depth), *absurd = nested(1000000);
    cr_assert(parse(API_COMPLETIONS, deepest), "%s", error.message);
    done();
    cr_assert_not(parse(API_COMPLETIONS, deeper));
    cr_assert_eq(error.refusal, REFUSAL_INVALID_JSON);
    done();
    cr_assert_not(parse(API_COMPLETIONS, absurd));
    done();
    free(deepest), free(deeper), free(absurd);
}

Test(request_parse, a_hundred_thousand_stop_strings_are_refused)
{
    struct strbuf text = {0};
    strbuf_text(&text, "{\"prompt\":\"x\",\"stop\":[\"a\"");
    for (int i = 0; i < 100000; i++)
        strbuf_text(&text, ",\"a\"");
    strbuf_text(&text, "]}");
    cr_assert_not(parse_bytes(API_COMPLETIONS, text.data, text.length));
    cr_assert_str_eq(error.param, "stop");
    done();
    strbuf_free(&text);
}

/* A list of `count` zeros, and then no JSON. */
static struct strbuf broken_list(size_t count)
{
    struct strbuf text = {0};
    strbuf_text(&text, "{\"prompt\":[0");
    for (size_t i = 1; i < count; i++)
        strbuf_append(&text, ",0", 2);
    strbuf_text(&text, "x]}");
    return text;
}

/* In quadratic time this would take half an hour, so the suite's own limit is the clock. */
Test(request_parse, a_long_broken_body_is_given_up_at_once)
{
    struct strbuf body = broken_list(5000000);
    cr_assert_not(parse_bytes(API_COMPLETIONS, body.data, body.length));
    cr_assert_eq(error.refusal, REFUSAL_INVALID_JSON);
    done();
    strbuf_free(&body);
}

Test(request_parse, a_broken_body_without_memory_is_a_refusal_too)
{
    struct strbuf body = broken_list(300);
    int64_t failures = 0;
    for (int64_t n = 1;; n++) {
        alloc_fail_after(n);
        cr_assert_not(parse_bytes(API_COMPLETIONS, body.data, body.length));
        alloc_fail_after(0);
        done();
        if (error.refusal == REFUSAL_INVALID_JSON) break;
        cr_assert_eq(refusal_status(error.refusal), 503);
        failures++;
    }
    cr_assert_geq(failures, 300);
    strbuf_free(&body);
}

Test(request_parse, every_truncation_is_refused)
{
    const char *body = CHAT(",\"stop\":[\"\\u00e9\",\"b\"],\"n\":2,\"temperature\":1.25e0");
    for (size_t length = 0; length < strlen(body); length++) {
        cr_assert_not(parse_bytes(API_CHAT, body, length), "taken at %zu", length);
        done();
    }
}

Test(request_parse, memory_that_cannot_be_had_is_a_refusal)
{
    const char *body = "{\"prompt\":[[1,2],[3]],\"stop\":[\"a\"],\"stop_token_ids\":[4],"
                       "\"logit_bias\":{\"1\":2}}";
    int64_t failures = 0;
    for (int64_t n = 1;; n++) {
        alloc_fail_after(n);
        bool taken = parse(API_COMPLETIONS, body);
        alloc_fail_after(0);
        done();
        if (taken) break;
        cr_assert_eq(refusal_status(error.refusal), 503);
        failures++;
    }
    cr_assert_geq(failures, 6);
}
