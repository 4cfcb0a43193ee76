/* Trace files of every format: refused with the line, or requests in order and within their bounds,
 * which written and read again are the same, by either of the two JSON readers; and skipping bad
 * lines refuses nothing.
 *
 * Input: a byte (the format, auto among them), then the file. */
#include "tests/fuzz/support_input.h"
#include "traces/formats/reader.h"
#include "traces/formats/writer.h"
#include "traces/workload/statistics.h"

#include <stdlib.h>
#include <string.h>

static void check_refusal(enum status status, const struct error *err)
{
    bool file = strstr(err->text, ": line ") || strstr(err->text, "the file is empty") ||
                strstr(err->text, "a compressed file");
    invariant(status == ST_INVALID && file, "status %d: '%s'", (int)status, err->text);
}

static void check_request(const struct trace_request *request, double last_ms)
{
    struct error err = {0};
    invariant(!trace_request_check(request, &err), "a request was read: %s", err.text);
    invariant(request->arrival_ms >= last_ms, "%g ms behind %g ms", request->arrival_ms, last_ms);
}

/* The lines that the requests become; with an empty one in front, as the header would be. */
static void write_lines(const struct trace *trace, struct strbuf *out)
{
    strbuf_text(out, "{\"espalier_trace\": 1}\n");
    for (size_t i = 0; i < trace->count; i++) {
        check_request(&trace->requests[i], i ? trace->requests[i - 1].arrival_ms : 0);
        trace_line(&trace->requests[i], out);
    }
}

static void check_again(const struct strbuf *lines, size_t count)
{
    struct trace_read_options options = {0};
    struct trace *again;
    struct error err = {0};
    struct strbuf twice = {0};
    enum status status =
        trace_load(file_in_memory(lines->data, lines->length), &options, &again, NULL, &err);
    invariant(!status, "what was written is refused: %s", err.text);
    invariant(again->count == count, "%zu requests written, %zu read", count, again->count);
    write_lines(again, &twice);
    invariant(twice.length == lines->length && !memcmp(twice.data, lines->data, lines->length),
              "what was written reads as something else");
    trace_free(again);
    strbuf_free(&twice);
}

static void check_statistics(const struct trace *trace)
{
    struct statistics *statistics = statistics_create();
    for (size_t i = 0; i < trace->count; i++)
        statistics_add(statistics, &trace->requests[i]);
    json_t *object = statistics_json(statistics);
    char *text = json_dumps(object, JSON_COMPACT);
    invariant(text, "statistics that are no JSON");
    free(text);
    json_decref(object);
    statistics_free(statistics);
}

/* Every object with a key in front that no format has: read by way of a tree, and the same. */
static void check_with_a_tree(struct input file, struct trace_read_options options,
                              const struct strbuf *lines)
{
    struct strbuf other = {0}, again = {0};
    struct trace *trace;
    struct error err = {0};
    for (size_t i = 0; i < file.left; i++) {
        bool first = i == 0 || file.text[i - 1] == '\n';
        strbuf_char(&other, file.text[i]);
        if (first && file.text[i] == '{') strbuf_text(&other, "\"x\": -1, ");
    }
    enum status status =
        trace_load(file_in_memory(other.data, other.length), &options, &trace, NULL, &err);
    invariant(!status, "with a further key: %s", err.text);
    write_lines(trace, &again);
    invariant(again.length == lines->length && !memcmp(again.data, lines->data, lines->length),
              "with a further key the requests are others");
    trace_free(trace);
    strbuf_free(&other);
    strbuf_free(&again);
}

/* Prefix ids of 2^63 and more are not JSON integers of jansson's; no reader makes them. */
static size_t check_file(struct input file, struct trace_read_options options, bool *refused)
{
    struct trace *trace;
    struct trace_read_counts counts;
    struct error err = {0};
    struct strbuf lines = {0};
    enum status status =
        trace_load(file_in_memory(file.text, file.left), &options, &trace, &counts, &err);
    *refused = status != ST_OK;
    if (status) {
        check_refusal(status, &err);
        return 0;
    }
    size_t count = trace->count;
    invariant(counts.bad_lines + counts.failed + (int64_t)count <= counts.lines,
              "%zu requests, %lld bad and %lld failed of %lld lines", count,
              (long long)counts.bad_lines, (long long)counts.failed, (long long)counts.lines);
    check_statistics(trace);
    write_lines(trace, &lines);
    trace_free(trace);
    check_again(&lines, count);
    check_with_a_tree(file, options, &lines);
    strbuf_free(&lines);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    struct trace_read_options options = {.format = input_byte(&input) % (TRACE_NATIVE + 1)};
    bool refused, refused_lax;
    size_t strict = check_file(input, options, &refused);
    options.skip_bad = true;
    size_t lax = check_file(input, options, &refused_lax);
    invariant(refused || (!refused_lax && strict == lax), "%zu requests, skipping nothing %zu",
              strict, lax);
    return 0;
}
