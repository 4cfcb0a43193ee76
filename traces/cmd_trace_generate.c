/* espalier trace generate: a trace from a specification and a seed. */
#include "traces/cmd_trace.h"
#include "traces/formats/writer.h"
#include "traces/results/results.h"
#include "traces/workload/spec_text.h"
#include "base/base.h"
#include "base/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SECONDS 600 /* the study's */

struct generation {
    const char *out;
    bool json;
    double rate;
    int64_t duration_us, requests, seed; /* 0: no limit */
    struct workload_texts texts;
    struct workload_spec spec;
    char *command;

    struct workload *workload;
    struct statistics *statistics;
    struct trace_writer *writer;
};

/* Until the time or the number is reached. */
static enum status generate_all(struct generation *g, struct error *err)
{
    double end_ms = g->duration_us ? fmin((double)g->duration_us / 1000, TRACE_MAX_MS)
                                   : TRACE_MAX_MS; /* no arrival is later */
    double expected = fmin(end_ms / 1000 * g->rate, g->requests ? (double)g->requests : 1e18);
    enum status status = ST_OK;
    struct progress bar;
    progress_begin(&bar, "generating", (int64_t)expected);
    for (int64_t count = 0; !status && (!g->requests || count < g->requests); count++) {
        const struct trace_request *request = workload_next(g->workload);
        if (request->arrival_ms >= end_ms) break;
        statistics_add(g->statistics, request);
        status = trace_writer_add(g->writer, request, err);
        if (count % 512 == 0) progress_update(&bar, count);
    }
    progress_end(&bar);
    return status;
}

static void set_text(json_t *object, const char *name, const char *text)
{
    if (text) json_object_set_new(object, name, results_text(text));
}

static json_t *header_of(const struct generation *g)
{
    json_t *header = statistics_json(g->statistics);
    json_t *generator = json_object();
    set_text(generator, "command", g->command);
    set_text(generator, "version", ESPALIER_VERSION);
    set_text(generator, "preset", g->texts.preset);
    json_object_set_new(generator, "seed", json_integer(g->seed));
    json_object_set_new(generator, "rate_per_s", json_real(g->rate));
    json_object_set_new(generator, "duration_s",
                        g->duration_us ? json_real((double)g->duration_us / 1e6) : json_null());
    json_object_set_new(header, "generator", generator);
    return header;
}

static enum status generate(struct generation *g, struct error *err)
{
    enum status status = workload_open(&g->spec, g->rate, (uint64_t)g->seed, &g->workload, err);
    if (!status) status = trace_writer_open(g->out, &g->writer, err);
    if (!status) status = generate_all(g, err);
    if (status) return status;
    json_t *header = header_of(g);
    status = trace_writer_finish(g->writer, header, err);
    g->writer = NULL;
    if (!status && g->json) {
        json_t *object =
            json_pack("{s:s, s:s}", "command", "trace generate", "version", ESPALIER_VERSION);
        trace_add_all(object, json_incref(header));
        trace_print_json(object);
    } else if (!status) {
        long long count = (long long)statistics_requests(g->statistics);
        log_info("%lld request%s generated", count, count == 1 ? "" : "s");
    }
    json_decref(header);
    return status;
}

/* true: said what is wrong. */
static bool misused(struct generation *g)
{
    struct workload_spec spec;
    struct error err = {0};
    if (g->texts.preset && workload_preset(g->texts.preset, &spec, &err))
        log_error("--preset: %s", err.text);
    else if (isnan(g->rate))
        log_error("--rate is missing: requests per second, such as --rate 1.5");
    else if (!(g->rate > 0 && g->rate <= 1e6))
        log_error("--rate: found %g, allowed is above 0, to 1000000 requests a second", g->rate);
    else if (workload_texts_idle(&g->texts))
        log_error("%s", WORKLOAD_IDLE_WORDS);
    else if (g->json && !strcmp(g->out, "-"))
        log_error("--json prints on standard output: give the trace another place with --out");
    else
        return false;
    return true;
}

static int run(struct generation *g)
{
    char names[WORKLOAD_MAX_CLASSES][64];
    struct error err = {0};
    enum status status = workload_from_texts(&g->texts, &g->spec, names, &err);
    g->statistics = statistics_create();
    if (!status) status = generate(g, &err);
    trace_writer_discard(g->writer);
    workload_close(g->workload);
    lengths_release(&g->spec.lengths);
    statistics_free(g->statistics);
    return status ? trace_failed(&err) : 0;
}

int trace_generate(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier trace generate",
        "espalier trace generate --preset W4 --rate 1.5 --seed 7 --out w4.jsonl",
        "A trace from a specification and a seed: the same again for the same seed, and the same\n"
        "requests at every rate. What is given beside --preset changes the preset."};
    struct generation g = {.out = "-", .rate = NAN, .texts = workload_texts_none()};
    struct option_spec table[] = {
        {"out", OPT_STRING, &g.out, "FILE", "where to (default -: standard output)", 0, 0},
        {"rate", OPT_REAL, &g.rate, "R", "requests per second, on average", 0, 0},
        {"duration", OPT_TIME, &g.duration_us, "TIME",
         "arrivals until then (default 600s, without limit with --requests)", 1, INT64_MAX},
        {"requests", OPT_INT, &g.requests, "N", "at most so many", 1, INT64_MAX},
        {"seed", OPT_INT, &g.seed, "N", "of everything that is drawn (default 0)", 0, INT64_MAX},
        {"preset", OPT_STRING, &g.texts.preset, "W1..W10",
         "a workload of the study (docs/workloads.md)", 0, 0},
        {"arrivals", OPT_STRING, &g.texts.arrivals, "KIND",
         "poisson (default), gamma:CV (CV: variation of the gaps; Poisson has 1),\nor azure: as in "
         "the Azure conversation trace, scaled to --rate",
         0, 0},
        {"rate-levels", OPT_STRING, &g.texts.levels, "WEIGHT:TIME,...",
         "the rate changes in turns, on average it is --rate: 1:300s,2:300s is\nfive minutes of a "
         "rate and five of twice as much",
         0, 0},
        {"json", OPT_FLAG, &g.json, NULL, "the header as one JSON document", 0, 0},
        {NULL, OPT_FLAG, NULL, NULL, "Lengths and prompts:", 0, 0},
        {"lengths", OPT_STRING, &g.texts.lengths, "FROM",
         "prompts, and outputs without branches: azure-conv (default), azure-code,\na trace FILE, "
         "or lognormal:PROMPT_MEDIAN:SIGMA:OUTPUT_MEDIAN:SIGMA",
         0, 0},
        {"prefixes", OPT_STRING, &g.texts.prefixes, "COUNT:TOKENS[:SHARE]",
         "prompts begin with one of COUNT texts of TOKENS tokens (SHARE of them do)", 0, 0},
        {"cached", OPT_REAL, &g.texts.cached, "SHARE",
         "of each prompt, taken to be in the KV cache already, below 1 (simulation)", 0, 0},
        {NULL, OPT_FLAG, NULL, NULL, "Branches:", 0, 0},
        WORKLOAD_BRANCHING_OPTIONS(g.texts),
        {NULL, OPT_FLAG, NULL, NULL, "Service levels:", 0, 0},
        WORKLOAD_SLO_OPTIONS(g.texts),
        {"class", OPT_TEXTS, &g.texts.classes, "NAME:SHARE:TTFT:TPOT",
         "a class of requests and its limits, several times for several classes", 0, 0},
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed < 0 ? 2 : 0;
    if (misused(&g)) return 2;
    if (!g.duration_us && !g.requests) g.duration_us = (int64_t)DEFAULT_SECONDS * 1000000;
    g.command = trace_command_text("espalier trace generate", argc, argv);
    int code = run(&g);
    free(g.command);
    return code;
}
