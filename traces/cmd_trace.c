/* espalier trace: workload traces, looked at, converted and made. */
#include "traces/cmd_trace.h"
#include "traces/commands.h"
#include "base/base.h"
#include "base/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what the parts share */

int trace_failed(const struct error *err)
{
    log_error("%s", err->text);
    return err->status == ST_USAGE ? 2 : 1;
}

char *trace_command_text(const char *command, int argc, char **argv)
{
    struct strbuf text = {0};
    strbuf_text(&text, command);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json") || !strncmp(argv[i], "--out=", 6)) continue;
        if (!strcmp(argv[i], "--out"))
            i++;
        else
            strbuf_shell_word(&text, argv[i]);
    }
    return strbuf_take(&text);
}

bool trace_choose_format(const char *text, enum trace_format *format)
{
    if (trace_format_parse(text, format)) return true;
    log_error("--format: found '%s', allowed is auto, azure, mooncake, burstgpt or espalier", text);
    return false;
}

void trace_print_json(json_t *object)
{
    json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(8));
    putchar('\n');
    json_decref(object);
}

void trace_add_all(json_t *object, json_t *from)
{
    json_object_update(object, from);
    json_decref(from);
}

json_t *trace_counts_json(const struct trace_read_counts *counts)
{
    json_t *object = json_object();
    json_t *first = counts->bad_lines ? json_string(counts->first_bad) : json_null();
    json_object_set_new(object, "format", json_string(trace_format_name(counts->format)));
    json_object_set_new(object, "lines", json_integer(counts->lines));
    json_object_set_new(object, "bad_lines", json_integer(counts->bad_lines));
    json_object_set_new(object, "first_bad", first ? first : json_string("(not UTF-8)"));
    json_object_set_new(object, "failed", json_integer(counts->failed));
    json_object_set_new(object, "out_of_order", json_integer(counts->out_of_order));
    return object;
}

void reading_start(struct reading *reading, struct trace_reader *reader)
{
    *reading = (struct reading){.reader = reader};
    if (trace_reader_size(reader) > 0)
        progress_begin(&reading->bar, "reading", trace_reader_size(reader));
}

void reading_step(struct reading *reading)
{
    if (++reading->requests % 512 == 0 && reading->bar.total > 0)
        progress_update(&reading->bar, trace_reader_position(reading->reader));
}

void reading_end(struct reading *reading)
{
    if (reading->bar.total > 0) progress_end(&reading->bar);
}

/* --- inspect */

struct inspection {
    const char *path;
    bool json;
    struct trace_read_options options;
    struct statistics *statistics;
    struct trace_read_counts counts;
    json_t *header; /* the file's own; NULL none */
};

static enum status inspect(struct inspection *i, struct error *err)
{
    struct trace_reader *reader;
    struct reading reading;
    const struct trace_request *request = NULL;
    enum status status = trace_reader_open(i->path, &i->options, &reader, err);
    if (status) return status;
    reading_start(&reading, reader);
    do {
        status = trace_reader_next(reader, &request, err);
        if (request) statistics_add(i->statistics, request);
        reading_step(&reading);
    } while (request && !status);
    reading_end(&reading);
    trace_reader_counts(reader, &i->counts);
    i->header = json_incref((json_t *)trace_reader_header(reader));
    trace_reader_close(reader);
    if (!status && i->counts.bad_lines && statistics_requests(i->statistics) == 0)
        status = fail(err, ST_INVALID, "%s: no line could be read; the first: %s", i->path,
                      i->counts.first_bad);
    return status;
}

/* A file that lost lines since it was written says so itself. */
static void compare_with_header(const struct inspection *i)
{
    const json_t *stated = json_object_get(i->header, "requests");
    int64_t found = statistics_requests(i->statistics);
    if (!json_is_integer(stated) || i->options.limit || json_integer_value(stated) == found) return;
    log_warn("the header speaks of %lld requests, the file has %lld",
             (long long)json_integer_value(stated), (long long)found);
}

static void print_inspection(const struct inspection *i)
{
    if (i->json) {
        json_t *object = json_pack("{s:s, s:s, s:s}", "command", "trace inspect", "version",
                                   ESPALIER_VERSION, "in", i->path);
        if (!object)
            object = json_pack("{s:s, s:s, s:n}", "command", "trace inspect", "version",
                               ESPALIER_VERSION, "in"); /* a path that is no UTF-8 */
        trace_add_all(object, trace_counts_json(&i->counts));
        trace_add_all(object, statistics_json(i->statistics));
        json_object_set_new(object, "generator",
                            json_incref(json_object_get(i->header, "generator")));
        trace_print_json(object);
        return;
    }
    const json_t *generator = json_object_get(i->header, "generator");
    const char *made = json_string_value(json_object_get(generator, "command"));
    printf("format           %s\n", trace_format_name(i->counts.format));
    if (made) printf("made by          %s\n", made);
    statistics_print(i->statistics, stdout);
}

int trace_inspect(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier trace inspect", "espalier trace inspect --in w4.jsonl",
        "What a trace is like: requests, lengths, arrivals, branches, shared prefixes. Formats: "
        "Azure's\nand BurstGPT's CSV, Mooncake's JSONL, the native JSONL (docs/workloads.md)."};
    struct inspection i = {0};
    const char *format = "auto";
    struct option_spec table[] = {
        {"in", OPT_STRING, &i.path, "FILE", "the trace; - for standard input", 0, 0},
        {"format", OPT_STRING, &format, "NAME",
         "auto (by the content, the default), azure, mooncake, burstgpt or espalier", 0, 0},
        {"requests", OPT_INT, &i.options.limit, "N", "only the first N (default: all)", 1,
         INT64_MAX},
        {"skip-bad", OPT_FLAG, &i.options.skip_bad, NULL,
         "count malformed lines instead of ending at the first", 0, 0},
        {"json", OPT_FLAG, &i.json, NULL, "one JSON document", 0, 0},
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed < 0 ? 2 : 0;
    if (!i.path) {
        log_error("--in is missing: a trace file, or - for standard input");
        return 2;
    }
    if (!trace_choose_format(format, &i.options.format)) return 2;
    struct error err = {0};
    i.statistics = statistics_create();
    enum status status = inspect(&i, &err);
    if (!status) {
        trace_tell_counts(&i.counts);
        compare_with_header(&i);
        print_inspection(&i);
    }
    statistics_free(i.statistics);
    json_decref(i.header);
    return status ? trace_failed(&err) : 0;
}

/* --- the command */

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} parts[] = {
    {"inspect", trace_inspect, "what a trace is like"},
    {"convert", trace_convert, "any format to the native one, with branches where wanted"},
    {"generate", trace_generate, "a trace by rate, lengths, branches, or the study's W1 to W10"},
};

static void print_help(FILE *out)
{
    fputs("Example:\n  espalier trace generate --preset W4 --rate 1.5 --seed 7 --out w4.jsonl\n\n"
          "Workload traces: when requests come, how long they are, where they branch.\n\n",
          out);
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        fprintf(out, "  espalier trace %-10s %s\n", parts[i].name, parts[i].summary);
    fputs("\nespalier trace inspect --help explains one.\n", out);
}

int command_trace(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
        print_help(stdout);
        return 0;
    }
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (!strcmp(name, parts[i].name)) return parts[i].run(argc - 1, argv + 1);
    if (*name)
        fprintf(stderr, "espalier trace: found '%s', expected inspect, convert or generate\n\n",
                name);
    print_help(stderr);
    return 2;
}
