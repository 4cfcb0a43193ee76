/* espalier trace convert: any format to the native one, request by request. */
#include "traces/cmd_trace.h"
#include "traces/formats/writer.h"
#include "traces/results/results.h"
#include "traces/workload/annotate.h"
#include "traces/workload/spec_text.h"
#include "base/base.h"
#include "base/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conversion {
    const char *in, *out;
    bool json;
    int64_t seed;
    struct trace_read_options options;
    struct workload_texts texts;
    struct workload_spec spec; /* of which branches and SLO are used */
    char *command;

    struct annotator annotator;
    struct statistics *statistics;
    struct trace_reader *reader;
    struct trace_writer *writer;
    struct trace_read_counts counts;
};

static enum status convert_request(struct conversion *c, const struct trace_request *from,
                                   struct error *err)
{
    struct trace_request request = *from;
    if (isfinite(c->texts.branching)) annotator_apply(&c->annotator, &request);
    if (c->texts.slo_ttft) request.ttft_ms = c->spec.classes[0].ttft_ms;
    if (c->texts.slo_tpot) request.tpot_ms = c->spec.classes[0].tpot_ms;
    if (trace_request_check(&request, err))
        return fail_prefix(err, "with its branches, the request at %.13g ms", request.arrival_ms);
    statistics_add(c->statistics, &request);
    return trace_writer_add(c->writer, &request, err);
}

static enum status convert_all(struct conversion *c, struct error *err)
{
    struct reading reading;
    const struct trace_request *request = NULL;
    enum status status;
    reading_start(&reading, c->reader);
    do {
        status = trace_reader_next(c->reader, &request, err);
        if (request) status = convert_request(c, request, err);
        reading_step(&reading);
    } while (request && !status);
    reading_end(&reading);
    trace_reader_counts(c->reader, &c->counts);
    if (!status && c->counts.bad_lines && statistics_requests(c->statistics) == 0)
        status = fail(err, ST_INVALID, "%s: no line could be read; the first: %s", c->in,
                      c->counts.first_bad);
    return status;
}

/* What the trace is like, how it was made, and from what. */
static json_t *header_of(const struct conversion *c)
{
    json_t *header = statistics_json(c->statistics);
    json_t *generator = json_object();
    json_object_set_new(generator, "command", results_text(c->command));
    json_object_set_new(generator, "version", json_string(ESPALIER_VERSION));
    json_object_set_new(generator, "source", trace_counts_json(&c->counts));
    const json_t *before = json_object_get(trace_reader_header(c->reader), "generator");
    if (before) json_object_set(generator, "source_generator", (json_t *)before);
    json_object_set_new(header, "generator", generator);
    return header;
}

static void print_result(const struct conversion *c, json_t *header)
{
    if (c->json) {
        json_t *object =
            json_pack("{s:s, s:s}", "command", "trace convert", "version", ESPALIER_VERSION);
        trace_add_all(object, json_incref(header));
        trace_print_json(object);
    } else {
        long long count = (long long)statistics_requests(c->statistics);
        log_info("%lld request%s converted", count, count == 1 ? "" : "s");
    }
}

static enum status convert(struct conversion *c, struct error *err)
{
    enum status status = trace_reader_open(c->in, &c->options, &c->reader, err);
    if (!status) status = trace_writer_open(c->out, &c->writer, err);
    if (!status) status = convert_all(c, err);
    if (status) return status;
    json_t *header = header_of(c);
    status = trace_writer_finish(c->writer, header, err);
    c->writer = NULL;
    if (!status) trace_tell_counts(&c->counts);
    if (!status) print_result(c, header);
    json_decref(header);
    return status;
}

/* true: said what is wrong. */
static bool misused(const struct conversion *c)
{
    if (!c->in)
        log_error("--in is missing: a trace file, or - for standard input");
    else if (c->json && !strcmp(c->out, "-"))
        log_error("--json prints on standard output: give the trace another place with --out");
    else if (workload_texts_idle(&c->texts))
        log_error("%s", WORKLOAD_IDLE_WORDS);
    else
        return false;
    return true;
}

static int run(struct conversion *c)
{
    char names[WORKLOAD_MAX_CLASSES][64];
    struct error err = {0};
    enum status status = workload_from_texts(&c->texts, &c->spec, names, &err);
    if (status) return trace_failed(&err);
    c->statistics = statistics_create();
    annotator_start(&c->annotator, &c->spec.branching, (uint64_t)c->seed);
    status = convert(c, &err);
    trace_writer_discard(c->writer);
    trace_reader_close(c->reader);
    annotator_release(&c->annotator);
    statistics_free(c->statistics);
    return status ? trace_failed(&err) : 0;
}

int trace_convert(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier trace convert",
        "espalier trace convert --in azure_llm_2023_conv.csv --branching 0.5 --width 2:8 --seed 1 "
        "--out conv.jsonl",
        "Any trace as a native one. With --branching a share of its requests, drawn by --seed,\n"
        "gets the stages of a branching request for its output; arrivals and prompts stay."};
    struct conversion c = {.out = "-", .texts = workload_texts_none()};
    const char *format = "auto";
    struct option_spec table[] = {
        {"in", OPT_STRING, &c.in, "FILE", "the trace; - for standard input", 0, 0},
        {"format", OPT_STRING, &format, "NAME",
         "auto (by the content, the default), azure, mooncake, burstgpt or espalier", 0, 0},
        {"out", OPT_STRING, &c.out, "FILE", "where to (default -: standard output)", 0, 0},
        {"requests", OPT_INT, &c.options.limit, "N", "only the first N (default: all)", 1,
         INT64_MAX},
        {"skip-bad", OPT_FLAG, &c.options.skip_bad, NULL,
         "count malformed lines instead of ending at the first", 0, 0},
        {"seed", OPT_INT, &c.seed, "N", "of the draws (default 0)", 0, INT64_MAX},
        {"json", OPT_FLAG, &c.json, NULL, "the header as one JSON document", 0, 0},
        {NULL, OPT_FLAG, NULL, NULL, "Branches for a trace without:", 0, 0},
        WORKLOAD_BRANCHING_OPTIONS(c.texts),
        {NULL, OPT_FLAG, NULL, NULL, "Service level of every request:", 0, 0},
        WORKLOAD_SLO_OPTIONS(c.texts),
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed < 0 ? 2 : 0;
    if (misused(&c)) return 2;
    if (!trace_choose_format(format, &c.options.format)) return 2;
    c.command = trace_command_text("espalier trace convert", argc, argv);
    int code = run(&c);
    free(c.command);
    return code;
}
