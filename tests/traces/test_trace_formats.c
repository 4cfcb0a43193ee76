/* The formats of others: found by their content, read to the last digit, and what a wrong line is
 * told. */
#include "support_trace_files.h"
#include "base/base.h"
#include "traces/formats/lines.h"
#include "traces/formats/reader.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\n"
#define BURST "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
#define BURST3                                                                                 \
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log " \
    "Type\n"
#define MOONCAKE \
    "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 5, \"hash_ids\": [0, 1]}\n"
#define NATIVE "{\"arrival_ms\": 0, \"prompt_tokens\": 1, \"stages\": [1]}\n"

static const struct trace_read_options strict = {0};

static void expect_detected(const char *text, enum trace_format format, size_t requests)
{
    struct loaded loaded = load_text(text, strict);
    cr_assert_eq(loaded.status, ST_OK, "%s", loaded.err.text);
    cr_assert_eq(loaded.counts.format, format, "%s", text);
    cr_assert_eq(loaded.trace->count, requests, "%s", text);
    trace_free(loaded.trace);
}

Test(trace_formats, found_by_content)
{
    expect_detected(AZURE "2023-11-16 18:15:46.6805900,374,44\n", TRACE_AZURE, 1);
    expect_detected("2023-11-16 18:15:46.6805900,374,44\n", TRACE_AZURE, 1);
    expect_detected("timestamp,contexttokens,generatedtokens", TRACE_AZURE, 0);
    expect_detected("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
                    "2024-10-15 00:00:00.5,2,900,120\n",
                    TRACE_AZURE, 1);
    expect_detected(BURST "5,ChatGPT,472,18,490,Conversation log\n", TRACE_BURSTGPT, 1);
    expect_detected(BURST3 "19440110.0,1722ac82,43,GPT-4,906,446,1352,Conversation log\n",
                    TRACE_BURSTGPT, 1);
    expect_detected("5.0,ChatGPT,472,18,490,Conversation log\n", TRACE_BURSTGPT, 1);
    expect_detected("5.0,,43,ChatGPT,472,18,490,API log\n", TRACE_BURSTGPT, 1);
    expect_detected(MOONCAKE, TRACE_MOONCAKE, 1);
    expect_detected(NATIVE, TRACE_NATIVE, 1);
    expect_detected("{\"espalier_trace\": 1}\n" NATIVE, TRACE_NATIVE, 1);
    expect_detected("\xef\xbb\xbf\r\n\n" AZURE, TRACE_AZURE, 0);
    expect_detected("\xef\xbb\xbf" MOONCAKE, TRACE_MOONCAKE, 1);
}

Test(trace_formats, what_is_none_of_them)
{
    static const char *const texts[] = {"hello\n",
                                        "a,b,c\n1,2,3\n",
                                        "{\"prompt\": \"x\"}\n",
                                        "\x7f"
                                        "ELF",
                                        "[\n",
                                        "1,2,3,4,5,6\n7"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct loaded loaded = load_text(texts[i], strict);
        bool burst = i == 5; /* six fields and numbers in the right places */
        cr_assert_eq(loaded.status, ST_INVALID, "%s", texts[i]);
        cr_assert(burst || strstr(loaded.err.text, "line 1: found '"), "%s", loaded.err.text);
        cr_assert(burst || strstr(loaded.err.text, "expected the first line of a trace"), "%s",
                  loaded.err.text);
    }
    struct loaded packed = load_text("\x1f\x8b\x08 ...", strict);
    cr_assert(strstr(packed.err.text, "found a compressed file"), "%s", packed.err.text);
    static const char *const empty[] = {"", "\n", " \t\r\n\r\n", "\xef\xbb\xbf"};
    for (size_t i = 0; i < COUNT_OF(empty); i++) {
        struct loaded loaded = load_text(empty[i], strict);
        cr_assert_eq(loaded.status, ST_INVALID);
        cr_assert(strstr(loaded.err.text, "the file is empty"), "%s", loaded.err.text);
    }
}

Test(trace_formats, a_format_that_was_named_is_taken)
{
    struct loaded loaded = load_text(NATIVE, (struct trace_read_options){.format = TRACE_MOONCAKE});
    cr_assert_eq(loaded.status, ST_INVALID);
    cr_assert(strstr(loaded.err.text, "line 1: timestamp: found nothing"), "%s", loaded.err.text);
    loaded = load_text(NATIVE, (struct trace_read_options){.format = TRACE_AZURE});
    cr_assert(strstr(loaded.err.text, "line 1: found a line without the columns"), "%s",
              loaded.err.text);
}

/* --- times */

static double gap_ms(const char *from, const char *to)
{
    struct strbuf text = {0};
    strbuf_format(&text, AZURE "%s,1,1\n%s,1,1\n", from, to);
    struct trace *trace = load_good(strbuf_cstr(&text));
    cr_assert_eq(trace->count, 2);
    cr_assert_eq(trace->requests[0].arrival_ms, 0);
    double gap = trace->requests[1].arrival_ms;
    trace_free(trace);
    strbuf_free(&text);
    return gap;
}

Test(trace_formats, azure_times)
{
    static const struct {
        const char *from, *to;
        double ms;
    } cases[] = {
        {"2023-11-16 18:15:46.6805900", "2023-11-16 18:15:50.9951690", 4314.579},
        {"2023-11-16 18:15:46.0000000", "2023-11-16 18:15:46.0000001", 0.0001},
        {"2023-11-16 23:59:59.9999999", "2023-11-17 00:00:00.0000000", 0.0001},
        {"2023-11-30 23:59:59", "2023-12-01 00:00:00", 1000},
        {"2023-12-31 23:59:59.5", "2024-01-01 00:00:00.5", 1000},
        {"2024-02-28 23:59:59", "2024-02-29 00:00:00", 1000},
        {"2024-02-29 23:59:59", "2024-03-01 00:00:00", 1000},
        {"2023-02-28 23:59:59", "2023-03-01 00:00:00", 1000},
        {"1999-12-31 00:00:00", "2000-12-31 00:00:00", 366.0 * 86400000},
        {"1900-01-01 00:00:00", "1901-01-01 00:00:00", 365.0 * 86400000},
        {"2024-05-12 00:00:00+00:00", "2024-05-12T00:00:10Z", 10000},
        {"2024-05-12 02:00:00.009930+02:00", "2024-05-11 21:00:00.009930-0300", 0},
        {"2024-05-12 02:00:00.123456789", "2024-05-12 02:00:01.123456789", 1000},
        {"\"2024-05-12 02:00:00\"", "2024-05-12 02:00:00", 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        double found = gap_ms(cases[i].from, cases[i].to);
        cr_assert_eq(found, cases[i].ms, "%s to %s: %.17g", cases[i].from, cases[i].to, found);
    }
}

static const char *const wrong_times[] = {
    "2023-11-16",
    "2023-11-16 18:15",
    "2023-11-31 00:00:00",
    "2023-02-29 00:00:00",
    "1900-02-29 00:00:00",
    "2023-13-01 00:00:00",
    "2023-00-01 00:00:00",
    "2023-01-00 00:00:00",
    "2023-11-16 24:00:00",
    "2023-11-16 18:60:00",
    "2023-11-16 18:15:61",
    "2023-11-16 18:15:46.",
    "2023-11-16 18:15:46.x",
    "2023-11-16 18:15:46 ",
    "2023-11-16 18:15:46+",
    "2023-11-16 18:15:46+00:0",
    "2023-11-16 18:15:46Z0",
    "2023-11-16_18:15:46",
    " 2023-11-16 18:15:46",
    "23-11-16 18:15:46",
    "-023-11-16 18:15:46",
    "0000-11-16 18:15:46",
    "1700158546",
    "",
};

Test(trace_formats, times_that_are_none)
{
    for (size_t i = 0; i < COUNT_OF(wrong_times); i++) {
        struct strbuf text = {0};
        strbuf_format(&text, AZURE "%s,1,1\n", wrong_times[i]);
        struct loaded loaded = load_text(strbuf_cstr(&text), strict);
        cr_assert_eq(loaded.status, ST_INVALID, "'%s' was taken", wrong_times[i]);
        cr_assert(strstr(loaded.err.text, "line 2: TIMESTAMP: found ") &&
                      strstr(loaded.err.text, "expected a time such as 2023-11-16 18:15:46.68059"),
                  "%s", loaded.err.text);
        strbuf_free(&text);
    }
}

/* --- lines that are wrong */

static const struct {
    const char *text, *words;
} malformed[] = {
    {AZURE "2023-11-16 18:15:46,374\n", "line 2: found 2 fields, expected 3 (TIMESTAMP"},
    {AZURE "2023-11-16 18:15:46,374,44,\n", "line 2: found 4 fields"},
    {AZURE "\n\n2023-11-16 18:15:46,x,44\n",
     "line 4: ContextTokens: found 'x', expected a whole number from 1"},
    {AZURE "2023-11-16 18:15:46,0,44\n", "line 2: ContextTokens: found '0'"},
    {AZURE "2023-11-16 18:15:46,-5,44\n", "ContextTokens: found '-5'"},
    {AZURE "2023-11-16 18:15:46,1.5,44\n", "ContextTokens: found '1.5'"},
    {AZURE "2023-11-16 18:15:46, 5,44\n", "ContextTokens: found ' 5'"},
    {AZURE "2023-11-16 18:15:46,,44\n", "ContextTokens: found nothing"},
    {AZURE "2023-11-16 18:15:46,5,9999999999999999999999999999\n", "to 1000000000"},
    {AZURE "2023-11-16 18:15:46,5,1e3\n", "GeneratedTokens: found '1e3'"},
    {AZURE AZURE, "line 2: TIMESTAMP: found 'TIMESTAMP'"},
    {BURST "x,ChatGPT,472,18,490,Conversation log\n",
     "line 2: Timestamp: found 'x', expected a number of seconds"},
    {BURST "-1,ChatGPT,472,18,490,Conversation log\n", "Timestamp: found '-1'"},
    {BURST "0x10,ChatGPT,472,18,490,Conversation log\n", "Timestamp: found '0x10'"},
    {BURST "nan,ChatGPT,472,18,490,Conversation log\n", "Timestamp: found 'nan'"},
    {BURST "1e99,ChatGPT,472,18,490,Conversation log\n", "Timestamp: found '1e99'"},
    {BURST "1e,ChatGPT,472,18,490,Conversation log\n", "Timestamp: found '1e'"},
    {BURST "1111111111111111111111111111111111111111111111111111111111111111111111,a,1,2,3,b\n",
     "Timestamp: found '1111111111"},
    {BURST "5,ChatGPT,472,18,490\n", "line 2: found 5 fields, expected 6 (Timestamp,[Session ID"},
    {BURST "5,a,43,ChatGPT,472,18,490,API log\n", "found 8 fields, expected 6"},
    {BURST "5,ChatGPT,0,18,18,API log\n", "Request tokens: found '0'"},
    {BURST "5,ChatGPT,9,x,18,API log\n", "Response tokens: found 'x', expected a whole"},
    {BURST3 "5,ChatGPT,472,18,490,API log\n", "found 6 fields, expected 8"},
    {MOONCAKE "{\"timestamp\": -1, \"input_length\": 5, \"output_length\": 5}\n",
     "line 2: timestamp: found '-1'"},
    {MOONCAKE "{\"input_length\": 5, \"output_length\": 5}\n", "timestamp: found nothing"},
    {MOONCAKE "{\"timestamp\": 1, \"input_length\": \"5\", \"output_length\": 5}\n",
     "input_length: found '\"5\"'"},
    {MOONCAKE "{\"timestamp\": 1, \"input_length\": 0, \"output_length\": 5}\n",
     "input_length: found '0'"},
    {MOONCAKE "{\"timestamp\": 1, \"input_length\": 512, \"output_length\": 5, \"hash_ids\": [1, "
              "2]}\n",
     "hash_ids: found 2 ids, expected a list of at most 1 for 512 tokens in blocks of 512"},
    {MOONCAKE "{\"timestamp\": 1, \"input_length\": 5, \"output_length\": 5, \"hash_ids\": 7}\n",
     "hash_ids: found no list"},
    {MOONCAKE "{\"timestamp\": 1, \"input_length\": 5, \"output_length\": 5, \"hash_ids\": [\"a\"]}"
              "\n",
     "hash_ids[0]: found '\"a\"', expected a whole number"},
    {MOONCAKE "null\n", "line 2: found 'null', expected a JSON object"},
};

/* As programs write it whose tables have gaps. */
Test(trace_formats, null_is_nothing)
{
    expect_detected(MOONCAKE "{\"timestamp\": 1, \"input_length\": 5, \"output_length\": 5, "
                             "\"hash_ids\": null}\n",
                    TRACE_MOONCAKE, 2);
    expect_detected("{\"arrival_ms\": 0, \"prompt_tokens\": 1, \"stages\": [1], \"slo\": null, "
                    "\"class\": null, \"prefix\": null, \"cached_tokens\": null}\n",
                    TRACE_NATIVE, 1);
}

Test(trace_formats, malformed_lines)
{
    for (size_t i = 0; i < COUNT_OF(malformed); i++) {
        struct loaded loaded = load_text(malformed[i].text, strict);
        cr_assert_eq(loaded.status, ST_INVALID, "%s", malformed[i].text);
        cr_assert(strstr(loaded.err.text, malformed[i].words), "'%s' is not in: %s",
                  malformed[i].words, loaded.err.text);
        loaded = load_text(malformed[i].text, (struct trace_read_options){.skip_bad = true});
        cr_assert_eq(loaded.status, ST_OK);
        cr_assert_eq(loaded.counts.bad_lines, 1);
        cr_assert(strstr(loaded.counts.first_bad, "line "), "%s", loaded.counts.first_bad);
        trace_free(loaded.trace);
    }
}

/* --- what the formats carry */

Test(trace_formats, burstgpt_times_far_from_zero_are_whole)
{
    struct trace *trace = load_good(BURST "19440110.123,ChatGPT,472,18,490,Conversation log\n"
                                          "19440110.3231,ChatGPT,472,18,490,Conversation log\n");
    cr_assert_eq(trace->requests[1].arrival_ms, 200.1); /* not 200.10000228881836 */
    trace_free(trace);
}

Test(trace_formats, burstgpt_leaves_failed_requests_out)
{
    struct loaded loaded = load_text(BURST "105,ChatGPT,472,18,490,Conversation log\n"
                                           "110,GPT-4,300,0,300,API log\n"
                                           "112.5,GPT-4,0,0,0,API log\n"
                                           "145.25,GPT-4,30,40.0,70,API log",
                                     strict);
    cr_assert_eq(loaded.status, ST_OK, "%s", loaded.err.text);
    cr_assert_eq(loaded.trace->count, 2);
    cr_assert_eq(loaded.counts.failed, 2);
    const struct trace_request *r = loaded.trace->requests;
    cr_assert_eq(r[0].arrival_ms, 0);
    cr_assert_eq(r[1].arrival_ms, 40250);
    cr_assert_eq(r[1].prompt_tokens, 30);
    cr_assert_eq(trace_request_output(&r[1]), 40);
    cr_assert_str_eq(r[0].class_name, "Conversation log");
    cr_assert_str_eq(r[1].class_name, "API log");
    trace_free(loaded.trace);
}

Test(trace_formats, mooncake_blocks_are_prefixes)
{
    struct trace *trace = load_good(
        "{\"timestamp\": 27000, \"input_length\": 1100, \"output_length\": 5, \"hash_ids\": [0, 9, "
        "4]}\n{\"timestamp\": 30000, \"input_length\": 1024, \"output_length\": 7, \"hash_ids\": "
        "[0]}\n{\"timestamp\": 30000, \"input_length\": 3, \"output_length\": 0}\n"
        "{\"timestamp\": 30000, \"input_length\": 3, \"output_length\": 1}");
    cr_assert_eq(trace->count, 3);
    const struct trace_request *r = trace->requests;
    static const struct trace_prefix blocks[] = {{0, 512}, {9, 512}, {4, 76}};
    cr_assert_eq(r[0].prefix_count, 3);
    for (int i = 0; i < 3; i++)
        cr_assert(r[0].prefixes[i].id == blocks[i].id &&
                  r[0].prefixes[i].tokens == blocks[i].tokens);
    cr_assert_eq(r[1].arrival_ms, 3000);
    cr_assert_eq(r[1].prefix_count, 1);
    cr_assert_eq(r[2].prefix_count, 0);
    trace_free(trace);
}

/* --- bytes that no format has */

Test(trace_formats, line_ends_and_strange_bytes)
{
    struct trace *unix_ends = load_good(AZURE "2023-11-16 18:15:46,374,44\n"
                                              "2023-11-16 18:15:47,3,4\n");
    struct trace *dos_ends = load_good("\xef\xbb\xbfTIMESTAMP,ContextTokens,GeneratedTokens\r\n"
                                       "2023-11-16 18:15:46,374,44\r\n\r\n"
                                       "2023-11-16 18:15:47,3,4\r");
    expect_same_trace(unix_ends, dos_ends);
    trace_free(unix_ends);
    trace_free(dos_ends);

    static const char nul[] = AZURE "2023-11-16 18:15:46,3\0007,44\n";
    struct loaded loaded = load_bytes(nul, sizeof nul - 1, strict);
    cr_assert(strstr(loaded.err.text, "line 2: ContextTokens: found '3?7'"), "%s", loaded.err.text);
    static const char nul_json[] = MOONCAKE "{\"timestamp\": 1, \0 }\n";
    loaded = load_bytes(nul_json, sizeof nul_json - 1, strict);
    cr_assert(strstr(loaded.err.text, "line 2: found '{\"timestamp\": 1, ? }'"), "%s",
              loaded.err.text);
}

/* A line of megabytes is one bad line, wherever in the buffer it begins. */
Test(trace_formats, very_long_lines)
{
    static const size_t lengths[] = {LINE_MAX_BYTES - 1, LINE_MAX_BYTES, LINE_MAX_BYTES + 1,
                                     5 * LINE_MAX_BYTES + 12345};
    for (size_t i = 0; i < COUNT_OF(lengths); i++)
        for (int last = 0; last < 2; last++) {
            struct strbuf text = {0};
            strbuf_text(&text, AZURE "2023-11-16 18:15:46,374,44\n");
            for (size_t k = 0; k < lengths[i]; k++)
                strbuf_char(&text, 'x');
            if (!last) strbuf_text(&text, "\n2023-11-16 18:15:47,1,2\n");
            struct loaded loaded = load_bytes(text.data, text.length, strict);
            cr_assert_eq(loaded.status, ST_INVALID);
            const char *words = lengths[i] > LINE_MAX_BYTES
                                    ? "line 3: found a line of more than 1048576 bytes"
                                    : "line 3: found 1 fields, expected 3";
            cr_assert(strstr(loaded.err.text, words), "%zu: %s", lengths[i], loaded.err.text);
            loaded =
                load_bytes(text.data, text.length, (struct trace_read_options){.skip_bad = true});
            cr_assert_eq(loaded.trace->count, last ? 1 : 2);
            cr_assert_eq(loaded.counts.bad_lines, 1);
            cr_assert_eq(loaded.counts.lines, last ? 3 : 4, "the header line, too");
            trace_free(loaded.trace);
            strbuf_free(&text);
        }
}

/* --- order */

static void append_native(struct strbuf *text, int arrival, int prompt)
{
    strbuf_format(text, "{\"arrival_ms\": %d, \"prompt_tokens\": %d, \"stages\": [1]}\n", arrival,
                  prompt);
}

/* Requests that are late by less than the window come in order, equal times in the file's order. */
Test(trace_formats, lines_out_of_order)
{
    enum { COUNT = 3 * READER_WINDOW };
    struct strbuf text = {0};
    for (int i = 0; i < COUNT; i++)
        append_native(&text, (i ^ 1023) / 2, i + 1);
    struct loaded loaded = load_text(strbuf_cstr(&text), strict);
    cr_assert_eq(loaded.status, ST_OK, "%s", loaded.err.text);
    cr_assert_eq(loaded.trace->count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(loaded.trace->requests[i].arrival_ms, i / 2);
        cr_assert_eq(loaded.trace->requests[i].prompt_tokens, ((i ^ 1) ^ 1023) + 1);
    }
    cr_assert_gt(loaded.counts.out_of_order, COUNT / 2);
    trace_free(loaded.trace);
    strbuf_free(&text);
}

Test(trace_formats, too_far_out_of_order)
{
    struct strbuf text = {0};
    for (int i = 0; i <= READER_WINDOW; i++)
        append_native(&text, 10 + i, 1);
    append_native(&text, 5, 1);
    struct loaded loaded = load_text(strbuf_cstr(&text), strict);
    cr_assert_eq(loaded.status, ST_INVALID);
    cr_assert(strstr(loaded.err.text, "line 4098: arrives 6 ms before a request") &&
                  strstr(loaded.err.text, "sort the file by time"),
              "%s", loaded.err.text);
    loaded = load_text(strbuf_cstr(&text), (struct trace_read_options){.skip_bad = true});
    cr_assert_eq(loaded.trace->count, READER_WINDOW + 1);
    cr_assert_eq(loaded.counts.bad_lines, 1);
    trace_free(loaded.trace);
    strbuf_free(&text);
}

/* The first line of a file from elsewhere need not be its earliest. */
Test(trace_formats, arrivals_count_from_the_earliest)
{
    struct trace *trace = load_good(AZURE "2023-11-16 18:15:47,1,1\n2023-11-16 18:15:46,2,1\n"
                                          "2023-11-16 18:15:48,3,1\n");
    for (int i = 0; i < 3; i++)
        cr_assert_eq(trace->requests[i].arrival_ms, 1000 * i);
    cr_assert_eq(trace->requests[0].prompt_tokens, 2);
    trace_free(trace);
}

/* --- files */

Test(trace_formats, files_that_cannot_be_read)
{
    struct trace *trace;
    struct error err = {0};
    cr_assert_eq(trace_load("/nowhere/at/all", &strict, &trace, NULL, &err), ST_NOT_FOUND);
    cr_assert(strstr(err.text, "/nowhere/at/all: No such file"), "%s", err.text);
    cr_assert_eq(trace_load("/tmp", &strict, &trace, NULL, &err), ST_IO);
    cr_assert(strstr(err.text, "/tmp: Is a directory"), "%s", err.text);
}

/* The shared production traces, where they are; figures by an independent script. */
static struct trace *load_shared(const char *name)
{
    char path[512];
    const char *shared = getenv("ESPALIER_SHARED");
    snprintf(path, sizeof path, "%s/data/traces/%s", shared ? shared : SOURCE_DIR "/../shared",
             name);
    if (access(path, R_OK)) {
        fprintf(stderr, "skipped: ../shared/data/traces/%s is not there\n", name);
        return NULL;
    }
    struct trace *trace;
    struct error err = {0};
    cr_assert_eq(trace_load(path, &strict, &trace, NULL, &err), ST_OK, "%s", err.text);
    return trace;
}

Test(trace_formats, the_azure_conversation_trace)
{
    struct trace *trace = load_shared("azure_llm_2023_conv.csv");
    if (!trace) return;
    int64_t prompts = 0, outputs = 0;
    cr_assert_eq(trace->count, 19366);
    for (size_t i = 0; i < trace->count; i++) {
        prompts += trace->requests[i].prompt_tokens;
        outputs += trace_request_output(&trace->requests[i]);
    }
    cr_assert_eq(prompts, 22361870);
    cr_assert_eq(outputs, 4088665);
    cr_assert_eq(trace->requests[trace->count - 1].arrival_ms, 3501721.937);
    trace_free(trace);
}

Test(trace_formats, the_mooncake_conversation_trace)
{
    struct trace *trace = load_shared("mooncake_conversation.jsonl");
    if (!trace) return;
    int64_t prompts = 0, prefixes = 0;
    cr_assert_eq(trace->count, 12031);
    for (size_t i = 0; i < trace->count; i++) {
        const struct trace_request *r = &trace->requests[i];
        prompts += r->prompt_tokens;
        for (int32_t k = 0; k < r->prefix_count; k++)
            prefixes += r->prefixes[k].tokens;
    }
    cr_assert_eq(prompts, prefixes, "every token lies in a block");
    cr_assert_eq(trace->requests[trace->count - 1].arrival_ms, 3536999);
    trace_free(trace);
}
