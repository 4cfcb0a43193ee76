#include "traces/formats/reader.h"
#include "traces/formats/format.h"
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct format *const formats[] = {&format_native, &format_mooncake, &format_azure,
                                               &format_burstgpt};

/* A request that waits for its turn. */
struct waiting {
    struct trace_request *request; /* owned */
    int64_t sequence;              /* line order decides between equal times */
    size_t bytes;
};

struct trace_reader {
    struct trace_read_options options;
    struct trace_read_counts counts;
    struct lines lines;
    struct line first; /* looked at for the format and not yet parsed */
    bool has_first;
    const struct format *format;
    struct parser parser;

    /* The window: a heap, the earliest on top. */
    struct waiting heap[READER_WINDOW];
    size_t heap_count, heap_bytes;
    int64_t parsed, given;
    double latest_parsed_ms;
    bool ended;
    struct error
        problem; /* told when the window is empty: what stands above the line comes first */

    struct trace_request *current; /* what was given out last */
    double zero_ms;                /* what arrivals are counted from */
    double last_ms;                /* of the last one given out, before that */
};

/* --- the window */

static bool before(const struct waiting *a, const struct waiting *b)
{
    if (a->request->arrival_ms != b->request->arrival_ms)
        return a->request->arrival_ms < b->request->arrival_ms;
    return a->sequence < b->sequence;
}

static void window_put(struct trace_reader *reader, struct waiting item)
{
    size_t i = reader->heap_count++;
    reader->heap_bytes += item.bytes;
    for (; i > 0 && before(&item, &reader->heap[(i - 1) / 2]); i = (i - 1) / 2)
        reader->heap[i] = reader->heap[(i - 1) / 2];
    reader->heap[i] = item;
}

static struct trace_request *window_take(struct trace_reader *reader)
{
    struct waiting *heap = reader->heap, top = heap[0];
    size_t count = --reader->heap_count, i = 0;
    struct waiting moved = heap[count];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < count && before(&heap[child + 1], &heap[child])) child++;
        if (child >= count || !before(&heap[child], &moved)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
    reader->heap_bytes -= top.bytes;
    return top.request;
}

static bool window_full(const struct trace_reader *reader)
{
    return reader->heap_count == READER_WINDOW || reader->heap_bytes >= READER_WINDOW_BYTES;
}

/* --- opening */

/* By the first bytes of gzip, zstd and xz files. */
static bool is_compressed(const struct line *first)
{
    static const char *const magics[] = {"\x1f\x8b", "\x28\xb5\x2f\xfd", "\3757zXZ"};
    for (size_t i = 0; i < COUNT_OF(magics); i++)
        if (first->length >= strlen(magics[i]) &&
            !memcmp(first->text, magics[i], strlen(magics[i])))
            return true;
    return false;
}

static enum status unknown_format(const struct trace_reader *reader, struct error *err)
{
    if (is_compressed(&reader->first))
        return fail(err, ST_INVALID,
                    "%s: found a compressed file, expected a trace: unpack it, or give its text on "
                    "standard input (gzip -dc FILE | espalier trace inspect --in -)",
                    reader->lines.name);
    return fail(
        err, ST_INVALID,
        "%s: line %lld: found %s, expected the first line of a trace: Azure's or BurstGPT's "
        "CSV header, or a JSON object of a Mooncake or Espalier trace",
        reader->lines.name, (long long)reader->first.number,
        show_text(reader->first.text, reader->first.length).text);
}

static enum status choose_format(struct trace_reader *reader, struct error *err)
{
    for (size_t i = 0; i < COUNT_OF(formats) && !reader->format; i++) {
        bool chosen = reader->options.format == TRACE_AUTO
                          ? formats[i]->recognises(&reader->first)
                          : formats[i]->format == reader->options.format;
        if (chosen) reader->format = formats[i];
    }
    if (!reader->format) return unknown_format(reader, err);
    reader->counts.format = reader->format->format;
    return ST_OK;
}

static enum status read_first(struct trace_reader *reader, struct error *err)
{
    do {
        enum status status = lines_next(&reader->lines, &reader->first, &reader->has_first, err);
        if (status) return status;
    } while (reader->has_first && line_is_blank(&reader->first));
    if (reader->has_first) return choose_format(reader, err);
    return fail(err, ST_INVALID, "%s: the file is empty, expected a trace", reader->lines.name);
}

enum status trace_reader_open(const char *path, const struct trace_read_options *options,
                              struct trace_reader **out, struct error *err)
{
    struct trace_reader *reader = must_alloc(sizeof *reader);
    *out = NULL;
    reader->options = *options;
    reader->last_ms = -INFINITY;
    reader->latest_parsed_ms = -INFINITY;
    enum status status = lines_open(&reader->lines, path, err);
    if (!status) status = read_first(reader, err);
    if (status)
        trace_reader_close(reader);
    else
        *out = reader;
    return status;
}

void trace_reader_close(struct trace_reader *reader)
{
    if (!reader) return;
    while (reader->heap_count > 0)
        free(window_take(reader));
    free(reader->current);
    parser_release(&reader->parser);
    lines_close(&reader->lines);
    free(reader);
}

/* --- lines */

/* Counts the line, and ends the reading where bad ones are not skipped. */
static void bad_line(struct trace_reader *reader, const struct line *line, struct error *problem)
{
    struct trace_read_counts *counts = &reader->counts;
    fail_prefix(problem, "line %lld", (long long)line->number);
    if (counts->bad_lines++ == 0)
        snprintf(counts->first_bad, sizeof counts->first_bad, "%.*s",
                 (int)sizeof counts->first_bad - 1, problem->text);
    if (reader->options.skip_bad) return;
    fail(&reader->problem, ST_INVALID, "%s: %s", reader->lines.name, problem->text);
    reader->ended = true;
}

/* Where times are counted from the first request, another may come before it. */
static enum status check(const struct trace_reader *reader, struct error *err)
{
    struct trace_request request = reader->parser.request;
    if (!reader->format->own_zero) request.arrival_ms = fabs(request.arrival_ms);
    return trace_request_check(&request, err);
}

static void keep(struct trace_reader *reader, const struct line *line)
{
    struct trace_request *request = &reader->parser.request;
    struct error problem = {0};
    bool late = request->arrival_ms < reader->last_ms;
    if (check(reader, &problem) || late) {
        if (late)
            fail(&problem, ST_INVALID,
                 "arrives %.13g ms before a request that stands over %zu requests above it; they "
                 "are put in order over up to %d: sort the file by time",
                 reader->last_ms - request->arrival_ms, reader->heap_count, READER_WINDOW);
        bad_line(reader, line, &problem);
        return;
    }
    reader->counts.out_of_order += request->arrival_ms < reader->latest_parsed_ms;
    reader->latest_parsed_ms = fmax(request->arrival_ms, reader->latest_parsed_ms);
    window_put(reader, (struct waiting){.request = trace_request_copy(request),
                                        .sequence = reader->parsed++,
                                        .bytes = trace_request_bytes(request)});
}

static void take_line(struct trace_reader *reader, const struct line *line)
{
    struct parser *parser = &reader->parser;
    struct error problem = {0};
    enum line_kind kind = LINE_BAD;
    if (line_is_blank(line)) return;
    reader->counts.lines++;
    parser->request = (struct trace_request){.class_name = ""};
    if (line->cut)
        fail(&problem, ST_INVALID, "found a line of more than %zu bytes, expected a request",
             LINE_MAX_BYTES);
    else
        kind = reader->format->parse(parser, line, &problem);
    parser->lines++;
    if (kind == LINE_BAD) bad_line(reader, line, &problem);
    if (kind == LINE_REQUEST) keep(reader, line);
    reader->counts.failed += kind == LINE_FAILED;
}

static enum status fill_window(struct trace_reader *reader, struct error *err)
{
    while (!reader->ended && !window_full(reader)) {
        struct line line = reader->first;
        bool found = reader->has_first;
        reader->has_first = false;
        enum status status = found ? ST_OK : lines_next(&reader->lines, &line, &found, err);
        if (status) return status;
        reader->ended = !found;
        if (found) take_line(reader, &line);
    }
    return ST_OK;
}

enum status trace_reader_next(struct trace_reader *reader, const struct trace_request **request,
                              struct error *err)
{
    *request = NULL;
    free(reader->current);
    reader->current = NULL;
    if (reader->options.limit > 0 && reader->given == reader->options.limit) return ST_OK;
    enum status status = fill_window(reader, err);
    if (!status && reader->heap_count == 0 && reader->problem.status)
        return fail(err, reader->problem.status, "%s", reader->problem.text);
    if (status || reader->heap_count == 0) return status;
    reader->current = window_take(reader);
    reader->last_ms = reader->current->arrival_ms;
    if (reader->given++ == 0 && !reader->format->own_zero) reader->zero_ms = reader->last_ms;
    reader->current->arrival_ms -= reader->zero_ms;
    *request = reader->current;
    return ST_OK;
}

/* --- what is known about the file */

void trace_reader_counts(const struct trace_reader *reader, struct trace_read_counts *counts)
{
    *counts = reader->counts;
}

const json_t *trace_reader_header(const struct trace_reader *reader)
{
    return reader->parser.header;
}

int64_t trace_reader_position(const struct trace_reader *reader)
{
    return reader->lines.position;
}

int64_t trace_reader_size(const struct trace_reader *reader)
{
    return reader->lines.size;
}

/* --- a whole trace */

static enum status load(struct trace_reader *reader, struct trace *trace, struct error *err)
{
    for (;;) {
        const struct trace_request *request;
        enum status status = trace_reader_next(reader, &request, err);
        if (status || !request) return status;
        trace_add(trace, request);
    }
}

enum status trace_load(const char *path, const struct trace_read_options *options,
                       struct trace **out, struct trace_read_counts *counts, struct error *err)
{
    struct trace_reader *reader;
    *out = NULL;
    if (counts) *counts = (struct trace_read_counts){0};
    enum status status = trace_reader_open(path, options, &reader, err);
    if (status) return status;
    struct trace *trace = trace_create();
    status = load(reader, trace, err);
    if (counts) trace_reader_counts(reader, counts);
    trace_reader_close(reader);
    if (status)
        trace_free(trace);
    else
        *out = trace;
    return status;
}
