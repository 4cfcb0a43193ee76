#include "traces/replay/record_file.h"
#include "base/base.h"
#include "traces/results/results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct record_writer {
    FILE *out;
    char *path;
    struct strbuf line;
    char *buffer;
};

#define BUFFER (1u << 20) /* a stream's line is written between two tokens of others */

enum status record_file_create(const char *path, struct record_writer **out, struct error *err)
{
    FILE *file = fopen(path, "we");
    if (!file) return fail(err, ST_IO, "--record: cannot create %s: %s", path, strerror(errno));
    struct record_writer *writer = must_alloc(sizeof *writer);
    writer->out = file;
    writer->path = must_strdup(path);
    writer->buffer = must_alloc(BUFFER);
    setvbuf(file, writer->buffer, _IOFBF, BUFFER);
    *out = writer;
    return ST_OK;
}

static void write_json(struct record_writer *writer, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(12));
    invariant(text, "a line of the record could not be made");
    fputs(text, writer->out);
    fputc('\n', writer->out);
    free(text);
}

void record_file_header(struct record_writer *writer, const json_t *header)
{
    write_json(writer, header);
    fflush(writer->out); /* a run that is killed leaves what it was */
}

void record_file_end(struct record_writer *writer, const json_t *end)
{
    json_t *line = json_pack("{s:O}", "end", end);
    write_json(writer, line);
    json_decref(line);
    fflush(writer->out);
}

static void put_integer(struct strbuf *line, int64_t value)
{
    char digits[24], *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0) *--at = '-';
    strbuf_append(line, at, (size_t)(digits + sizeof digits - at));
}

static void put_field(struct strbuf *line, const char *name, int64_t value)
{
    strbuf_format(line, ",\"%s\":", name);
    put_integer(line, value);
}

/* What did not happen is null. */
static void put_time(struct strbuf *line, const char *name, int64_t value)
{
    if (value >= 0)
        put_field(line, name, value);
    else
        strbuf_format(line, ",\"%s\":null", name);
}

static void put_text(struct strbuf *line, const char *name, const char *text)
{
    json_t *value = results_text(text);
    char *dumped = json_dumps(value, JSON_ENCODE_ANY);
    invariant(dumped, "a line of the record could not be made");
    strbuf_format(line, ",\"%s\":", name);
    strbuf_text(line, dumped);
    free(dumped);
    json_decref(value);
}

static void put_asked(struct strbuf *line, const struct flight *f)
{
    strbuf_format(line, "{\"index\":%lld", (long long)f->index);
    put_text(line, "class", f->class_name);
    strbuf_format(line, ",\"branching\":%s", f->branching ? "true" : "false");
    put_field(line, "prompt_tokens", f->prompt_tokens);
    put_field(line, "asked_tokens", f->asked_tokens);
    put_field(line, "answers", f->answers);
    put_field(line, "slo_ttft_us", f->slo.ttft_us);
    put_field(line, "slo_tpot_us", f->slo.tpot_us);
    strbuf_text(line, ",\"parallel\":[");
    for (int32_t i = 0; i < f->stage_count; i++)
        strbuf_format(line, "%s%s", i ? "," : "", f->parallel[i] ? "true" : "false");
    strbuf_char(line, ']');
}

static void put_times(struct strbuf *line, const struct flight *f)
{
    put_field(line, "due_us", f->due_us);
    put_field(line, "sent_us", f->sent_us);
    put_time(line, "connected_us", f->connected_us);
    put_time(line, "first_byte_us", f->first_byte_us);
    put_field(line, "end_us", f->end_us);
}

static void put_result(struct strbuf *line, const struct flight *f)
{
    put_field(line, "status", f->http_status);
    put_text(line, "outcome", outcome_name(f->outcome));
    put_text(line, "reason", f->reason);
    put_text(line, "code", f->code);
    put_time(line, "usage_prompt", f->usage_prompt);
    put_time(line, "usage_completion", f->usage_completion);
    put_time(line, "usage_cached", f->usage_cached);
    put_field(line, "spread_tokens", f->spread_tokens);
}

static void put_row(struct strbuf *line, size_t i, int64_t us, int32_t stage, int32_t branch)
{
    strbuf_text(line, i ? ",[" : "[");
    put_integer(line, us);
    strbuf_char(line, ',');
    put_integer(line, stage);
    strbuf_char(line, ',');
    put_integer(line, branch);
}

static void put_lists(struct strbuf *line, const struct flight *f)
{
    strbuf_text(line, ",\"finishes\":[");
    for (size_t i = 0; i < f->finish_count; i++) {
        json_t *reason = results_text(f->finishes[i].reason);
        char *dumped = json_dumps(reason, JSON_ENCODE_ANY);
        invariant(dumped, "a line of the record could not be made");
        strbuf_format(line, "%s[%d,%s]", i ? "," : "", f->finishes[i].choice, dumped);
        free(dumped);
        json_decref(reason);
    }
    strbuf_text(line, "],\"events\":[");
    for (size_t i = 0; i < f->event_count; i++) {
        const struct flight_event *event = &f->events[i];
        put_row(line, i, event->us, event->stage, event->branch);
        strbuf_text(line, event->kind == BRANCH_FORK ? ",\"fork\"]" : ",\"join\"]");
    }
    strbuf_text(line, "],\"tokens\":[");
    for (size_t i = 0; i < f->token_count; i++) {
        put_row(line, i, f->tokens[i].us, f->tokens[i].stage, f->tokens[i].branch);
        strbuf_char(line, ']');
    }
    strbuf_text(line, "]}\n");
}

void record_file_flight(struct record_writer *writer, const struct flight *flight)
{
    struct strbuf *line = &writer->line;
    strbuf_clear(line);
    put_asked(line, flight);
    put_times(line, flight);
    put_result(line, flight);
    put_lists(line, flight);
    fwrite(line->data, 1, line->length, writer->out);
}

enum status record_file_close(struct record_writer *writer, struct error *err)
{
    enum status status = ST_OK;
    if (!writer) return ST_OK;
    bool failed = ferror(writer->out);
    if (fclose(writer->out)) failed = true;
    if (failed) status = fail(err, ST_IO, "--record: %s was not written whole", writer->path);
    strbuf_free(&writer->line);
    free(writer->buffer);
    free(writer->path);
    free(writer);
    return status;
}
