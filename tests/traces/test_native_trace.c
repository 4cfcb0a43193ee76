/* The native trace: what a line means, and what a wrong one is told. */
#include "support_trace_files.h"
#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define GOOD "{\"arrival_ms\": 1.5, \"prompt_tokens\": 10, \"stages\": [3]}\n"

Test(native_trace, every_field)
{
    struct trace *trace = load_good(
        "{\"espalier_trace\": 1, \"requests\": 1, \"what\": {\"else\": []}}\n"
        "{\"arrival_ms\": 2.25, \"prompt_tokens\": 1155, \"cached_tokens\": 3, \"prefix\": "
        "[[17, 512], [9007199254740993, 500]], \"stages\": [48, [130, 96, 171], [7], 60], "
        "\"slo\": {\"ttft_ms\": 2000, \"tpot_ms\": 12.5}, \"class\": \"chat\", \"new\": 1}");
    cr_assert_eq(trace->count, 1);
    struct trace_prefix prefixes[] = {{17, 512}, {9007199254740993, 500}};
    int32_t tokens[] = {48, 130, 96, 171, 7, 60};
    struct trace_stage stages[] = {
        {false, 1, tokens}, {true, 3, tokens + 1}, {true, 1, tokens + 4}, {false, 1, tokens + 5}};
    struct trace_request expected = {2.25, 1155, 3, prefixes, 2, stages, 4, 2000, 12.5, "chat"};
    expect_same_request(&trace->requests[0], &expected);
    cr_assert(trace_request_branches(&trace->requests[0]));
    cr_assert_eq(trace_request_output(&trace->requests[0]), 512);
    trace_free(trace);
}

Test(native_trace, what_may_be_missing)
{
    struct trace *trace = load_good("\n" GOOD "  \n{\"arrival_ms\": 2, \"prompt_tokens\": 1.0, "
                                    "\"stages\": [[4]], \"slo\": null, \"class\": null}\r\n\r\n");
    cr_assert_eq(trace->count, 2);
    cr_assert_eq(trace->requests[0].arrival_ms, 1.5);
    cr_assert_eq(trace->requests[0].prefix_count, 0);
    cr_assert_eq(trace->requests[0].ttft_ms, 0);
    cr_assert_str_eq(trace->requests[1].class_name, "");
    cr_assert(trace->requests[1].stages[0].parallel);
    trace_free(trace);
}

/* Each line stands second; `words` have to be in the message, beside "line 2". */
static const struct {
    const char *line, *words[3];
} malformed[] = {
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 10", {"expected a JSON object", "at byte"}},
    {"[1, 2]", {"found '[1, 2]'", "expected a JSON object"}},
    {"17", {"found '17'", "expected a JSON object"}},
    {"{}", {"arrival_ms", "found nothing", "expected a number from 0"}},
    {"{\"arrival_ms\": -1, \"prompt_tokens\": 1, \"stages\": [1]}", {"arrival_ms", "-1"}},
    {"{\"arrival_ms\": \"x\", \"prompt_tokens\": 1, \"stages\": [1]}", {"arrival_ms", "x"}},
    {"{\"arrival_ms\": 1e300, \"prompt_tokens\": 1, \"stages\": [1]}", {"arrival_ms", "e300"}},
    {"{\"arrival_ms\": 1e999, \"prompt_tokens\": 1, \"stages\": [1]}", {"real number overflow"}},
    {"{\"arrival_ms\": 1, \"stages\": [1]}", {"prompt_tokens: found nothing", "expected a whole"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 0, \"stages\": [1]}", {"prompt_tokens: found '0'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 1.5, \"stages\": [1]}", {"found '1.5'", "whole"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 99999999999, \"stages\": [1]}", {"1000000000"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 99999999999999999999, \"stages\": [1]}",
     {"too big integer"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 1000000000, \"stages\": [1]}",
     {"found 1000000001 tokens", "at most 1000000000"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5}", {"stages: found nothing", "at least one stage"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": []}", {"stages: found '[]'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": 7}", {"stages: found '7'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [3, []]}", {"stages[1]: found []"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [3, \"a\"]}",
     {"stages[1]: found '\"a\"'", "serial", "list of numbers"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [3, [1, 0]]}",
     {"stages[1][1]: found '0'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [3, [1, [2]]]}",
     {"stages[1][1]: found '[2]'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"prefix\": 3}",
     {"prefix: found"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"prefix\": [3]}",
     {"prefix[0]: found '3'", "[id, tokens]"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"prefix\": [[1, 2, 3]]}",
     {"prefix[0]: found '[1,2,3]'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"prefix\": [[-1, 2]]}",
     {"prefix[0]: found '[-1,2]'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"prefix\": [[1, 2], [1, 0]]}",
     {"prefix[1][1]: found '0'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"prefix\": [[1, 2], [1, 4]]}",
     {"prefix: found 6 tokens in a prompt of 5"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"cached_tokens\": 5}",
     {"cached_tokens: found 5", "0 to 4"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"slo\": 3}", {"slo: found '3'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"slo\": {\"tpot_ms\": -2}}",
     {"slo.tpot_ms: found '-2'"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"class\": 3}", {"class: found"}},
    {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"stages\": [1], \"class\": \"a\\u0000b\"}",
     {"\\u0000"}},
    {"{\"espalier_trace\": 1}", {"second header"}},
    {"{\"espalier_trace\": 2}", {"espalier_trace: found '2'", "version 1"}},
};

Test(native_trace, malformed_lines)
{
    for (size_t i = 0; i < COUNT_OF(malformed); i++) {
        struct strbuf text = {0};
        strbuf_format(&text, GOOD "%s\n" GOOD, malformed[i].line);
        struct loaded strict = load_text(strbuf_cstr(&text), (struct trace_read_options){0});
        cr_assert_eq(strict.status, ST_INVALID, "%s", malformed[i].line);
        cr_assert(strstr(strict.err.text, "line 2: "), "%s", strict.err.text);
        for (int w = 0; w < 3 && malformed[i].words[w]; w++)
            cr_assert(strstr(strict.err.text, malformed[i].words[w]), "'%s' is not in: %s",
                      malformed[i].words[w], strict.err.text);
        struct loaded lax =
            load_text(strbuf_cstr(&text), (struct trace_read_options){.skip_bad = true});
        cr_assert_eq(lax.status, ST_OK, "%s", lax.err.text);
        cr_assert_eq(lax.trace->count, 2);
        cr_assert_eq(lax.counts.bad_lines, 1);
        cr_assert_eq(lax.counts.lines, 3);
        cr_assert(!strncmp(lax.counts.first_bad, "line 2: ", 8), "%s", lax.counts.first_bad);
        trace_free(lax.trace);
        strbuf_free(&text);
    }
}

Test(native_trace, a_header_of_another_version_in_front)
{
    struct loaded loaded =
        load_text("{\"espalier_trace\": 7}\n" GOOD, (struct trace_read_options){0});
    cr_assert_eq(loaded.status, ST_INVALID);
    cr_assert(strstr(loaded.err.text, "line 1: espalier_trace: found '7'"), "%s", loaded.err.text);
}

Test(native_trace, a_header_alone_is_a_trace_without_requests)
{
    struct trace *trace = load_good("{\"espalier_trace\": 1}");
    cr_assert_eq(trace->count, 0);
    trace_free(trace);
}

Test(native_trace, the_limit_ends_before_a_bad_line)
{
    for (int64_t limit = 1; limit <= 3; limit++) {
        struct loaded loaded =
            load_text(GOOD GOOD "bad\n" GOOD, (struct trace_read_options){.limit = limit});
        cr_assert_eq(loaded.status, limit < 3 ? ST_OK : ST_INVALID, "%s", loaded.err.text);
        if (limit == 3) continue;
        cr_assert_eq(loaded.trace->count, limit);
        trace_free(loaded.trace);
    }
}

/* Plain lines are read without a tree, and others by jansson: both get the same doubles. */
Test(native_trace, times_are_the_same_by_either_reader)
{
    struct rng rng = {12};
    struct strbuf plain = {0}, other = {0};
    double last = 0;
    for (int i = 0; i < 3000; i++) {
        last += rng_unit(&rng) * pow(10, (double)rng_below(&rng, 6));
        int decimals = (int)rng_below(&rng, 19);
        strbuf_format(&plain, "{\"arrival_ms\": %.*f, \"prompt_tokens\": 1, \"stages\": [1]}\n",
                      decimals, last);
        strbuf_format(&other,
                      "{\"x\": 0, \"arrival_ms\": %.*f, \"prompt_tokens\": 1, \"stages\": [1]}\n",
                      decimals, last);
        last += 2; /* rounding keeps the order */
    }
    struct trace *a = load_good(strbuf_cstr(&plain)), *b = load_good(strbuf_cstr(&other));
    expect_same_trace(a, b);
    trace_free(a);
    trace_free(b);
    strbuf_free(&plain);
    strbuf_free(&other);
}

/* Each is JSON, or is not, by the same rules as ever: what plain lines may have is no more. */
Test(native_trace, what_looks_plain_and_is_not)
{
    static const struct {
        const char *line;
        bool good;
    } cases[] = {
        {"{\"arrival_ms\":1,\"prompt_tokens\":7,\"stages\":[1]}", true},
        {"\t{ \"stages\" : [ 1 , [ 2 , 3 ] ] , \"prompt_tokens\" : 7 , \"arrival_ms\" : 1 }\t",
         true},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 5, \"prompt_tokens\": 7, \"stages\": [1]}", true},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1], \"prefix\": []}", true},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1], \"slo\": {}}", true},
        {"{\"arrival_ms\": 1e0, \"prompt_tokens\": 7, \"stages\": [1], \"class\": \"\\u0041\"}",
         true},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 07, \"stages\": [1]}", false},
        {"{\"arrival_ms\": 1., \"prompt_tokens\": 7, \"stages\": [1]}", false},
        {"{\"arrival_ms\": .1, \"prompt_tokens\": 7, \"stages\": [1]}", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1],}", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1,]}", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1]}}", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1]} 1", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1]", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [[1], [2}", false},
        {"{\"arrival_ms\": 1, \"prompt_tokens\": 7, \"stages\": [1], \"class\": \"a}", false},
        {"{\"arrival_ms\": 1 \"prompt_tokens\": 7, \"stages\": [1]}", false},
        {"{arrival_ms: 1, \"prompt_tokens\": 7, \"stages\": [1]}", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct strbuf text = {0};
        strbuf_format(&text, GOOD "%s\n", cases[i].line);
        struct loaded loaded =
            load_text(strbuf_cstr(&text), (struct trace_read_options){.skip_bad = true});
        cr_assert_eq(loaded.status, ST_OK);
        cr_assert_eq(loaded.trace->count, cases[i].good ? 2 : 1, "%s", cases[i].line);
        if (cases[i].good) {
            cr_assert_eq(loaded.trace->requests[0].arrival_ms, 1);
            cr_assert_eq(loaded.trace->requests[0].prompt_tokens, 7);
        }
        trace_free(loaded.trace);
        strbuf_free(&text);
    }
}
