/* espalier replay: a trace over HTTP against any OpenAI-style server. */
#include "traces/commands.h"
#include "base/base.h"
#include "base/options.h"
#include "base/paths.h"
#include "traces/replay/output.h"
#include "traces/replay/page.h"
#include "traces/replay/session.h"

#include <curl/curl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LONGEST_US  INT64_C(10000000000000) /* 10,000,000 s, 116 days */
#define RATE_MOST   1e6
#define DRAIN_US    300000000 /* for answers behind the last request, */
#define DURATION_US 30000000  /* and behind the end of --duration, which is the run's length */

/* Options as they were typed. */
struct words {
    const char *format, *branches, *endpoint, *kind, *slo_ttft, *slo_tpot;
    double rate, temperature, attainment; /* NAN: not given */
    int64_t seed, prompt_seed;            /* prompt_seed -1: another each time */
    int64_t drain_us;                     /* -1: not given */
};

static bool one_of(const char *option, const char *found, const char *const *names, int count,
                   int *out)
{
    struct strbuf allowed = {0};
    for (int i = 0; i < count; i++) {
        if (!strcmp(found, names[i])) return *out = i, strbuf_free(&allowed), true;
        strbuf_format(&allowed, "%s%s", i ? ", " : "", names[i]);
    }
    log_error("--%s: found \"%s\", allowed are %s", option, found, strbuf_cstr(&allowed));
    strbuf_free(&allowed);
    return false;
}

/* Milliseconds since 1970: another one for each run, and short enough to be typed again. */
static uint64_t prompt_seed(int64_t typed)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return typed >= 0 ? (uint64_t)typed
                      : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool read_words(const struct words *words, struct replay_options *o)
{
    static const char *const branches[] = {"stages", "n", "flat"};
    static const char *const endpoints[] = {"completions", "chat"};
    int mode, endpoint;
    if (!one_of("branches", words->branches, branches, 3, &mode)) return false;
    if (!one_of("endpoint", words->endpoint, endpoints, 2, &endpoint)) return false;
    o->settings.branches = (enum branch_mode)mode;
    o->settings.endpoint = (enum endpoint)endpoint;
    o->settings.seed = (uint64_t)words->seed;
    o->settings.prompt_seed = prompt_seed(words->prompt_seed);
    if (!trace_format_parse(words->format, &o->format)) {
        log_error("--format: found \"%s\", allowed are auto, azure, mooncake, burstgpt, espalier",
                  words->format);
        return false;
    }
    o->kind_given = words->kind != NULL;
    if (!words->kind || slo_kind_parse(words->kind, &o->kind)) return true;
    log_error("--slo-kind: found \"%s\", allowed are mean, envelope, gaps, stages", words->kind);
    return false;
}

static bool number_allowed(const char *option, double found, bool allowed, const char *words)
{
    if (!allowed) log_error("--%s: found %.15g, allowed is %s", option, found, words);
    return allowed;
}

/* What is not given keeps its default. */
static bool read_numbers(const struct words *w, struct replay_options *o)
{
    struct replay_settings *s = &o->settings;
    o->attainment_given = !isnan(w->attainment);
    if (o->attainment_given) o->attainment = w->attainment;
    if (!isnan(w->rate)) s->rate = w->rate;
    if (!isnan(w->temperature)) s->temperature = w->temperature;
    s->drain_us = w->drain_us >= 0 ? w->drain_us : s->duration_us ? DURATION_US : DRAIN_US;
    return number_allowed("attainment", o->attainment, o->attainment > 0 && o->attainment <= 1,
                          "above 0, to 1") &&
           number_allowed("rate", s->rate, isnan(w->rate) || (s->rate > 0 && s->rate <= RATE_MOST),
                          "above 0, to 1000000 requests a second") &&
           number_allowed("rate-scale", s->rate_scale, s->rate_scale > 0, "a number above 0") &&
           number_allowed("temperature", w->temperature,
                          isnan(w->temperature) || w->temperature >= 0, "0 or more");
}

/* "none" is 0, as in simulate. */
static bool read_slo(const char *option, const char *text, bool *given, int64_t *us)
{
    *given = text != NULL;
    if (!text || !strcmp(text, "none")) return true;
    if (!parse_time(text, us, NULL) && *us <= LONGEST_US) return true;
    log_error("--%s: found \"%s\", allowed is a time to %llds such as 50ms or 2s, or none", option,
              text, (long long)(LONGEST_US / 1000000));
    return false;
}

static const char *misuse(const struct replay_options *o)
{
    const struct replay_settings *s = &o->settings;
    if (o->from) {
        if (o->trace || o->url || o->record || o->goodput)
            return "--from reads a record: give no --trace, --url, --record or --goodput with it";
        return NULL;
    }
    if (!o->trace) return "--trace is missing: a file of requests, or - for standard input";
    if (!o->url) return "--url is missing, such as --url http://127.0.0.1:8000";
    if (s->rate > 0 && s->concurrency) return "--rate is open loop, --concurrency closed: give one";
    if (s->rate > 0 && s->rate_scale != 1)
        return "--rate-scale scales the trace's own times: give --rate or --rate-scale";
    if (s->prompt_ids && s->endpoint == ENDPOINT_CHAT)
        return "--prompt-ids: a chat has no token ids; use --endpoint completions";
    if (s->prompt_ids && o->corpus) return "--prompt-ids sends no text: give no --corpus with it";
    if (o->goodput && s->concurrency) return "--goodput searches a rate: give no --concurrency";
    if (o->goodput && !s->requests && !s->duration_us)
        return "--goodput needs --requests N or --duration T, the length of each run";
    return NULL;
}

/* What is written must not be what is read. */
static enum status check_files(const struct replay_options *o, struct error *err)
{
    const struct path_use uses[] = {
        {"trace", o->trace, false},           {"from", o->from, false},
        {"api-key-file", o->key_file, false}, {"corpus", o->corpus, false},
        {"record", o->record, true},          {"report", o->report, true},
    };
    return paths_check(uses, COUNT_OF(uses), err);
}

static bool is_given(int argc, char **argv, const char *name)
{
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], "--", 2) && !strncmp(argv[i] + 2, name, length) &&
            (argv[i][2 + length] == 0 || argv[i][2 + length] == '='))
            return true;
    return false;
}

/* --from takes few of the options. */
static void tell_ignored_by_from(const struct option_spec *table, size_t count, int argc,
                                 char **argv)
{
    static const char *const taken[] = {"from",       "slo-ttft", "slo-tpot", "slo-kind",
                                        "attainment", "report",   "json"};
    struct strbuf list = {0};
    for (size_t i = 0; i < count; i++) {
        bool known = !table[i].name;
        for (size_t t = 0; t < COUNT_OF(taken) && !known; t++)
            known = !strcmp(table[i].name, taken[t]);
        if (!known && is_given(argc, argv, table[i].name))
            strbuf_format(&list, "%s--%s", list.length ? ", " : "", table[i].name);
    }
    if (list.length) log_warn("--from makes no run; ignored: %s", strbuf_cstr(&list));
    strbuf_free(&list);
}

static void tell_ignored(const struct replay_options *o, int argc, char **argv)
{
    const struct replay_settings *s = &o->settings;
    if (is_given(argc, argv, "seed") && !(s->rate > 0) && !o->goodput)
        log_warn("--seed is of random arrivals (--rate, --goodput); ignored");
    if (s->rate_scale != 1 && s->concurrency)
        log_warn("--rate-scale: a closed loop (--concurrency) has no times to scale; ignored");
}

/* A run that was stopped need not have come so far. */
static bool nothing_completed(const struct replay_runs *runs)
{
    for (size_t i = 0; i < runs->count; i++)
        if (runs->list[i].summary->results->all.outcomes[OUTCOME_COMPLETED] ||
            replay_run_interrupted(&runs->list[i]))
            return false;
    return true;
}

static int replay(const struct replay_options *o)
{
    struct replay_runs runs = {0};
    struct error err = {0};
    enum status status = o->from ? session_from(o, &runs, &err) : session_live(o, &runs, &err);
    if (!status && !o->from && nothing_completed(&runs))
        status = fail(&err, ST_IO, "no request was completed");
    if (runs.count && !(status && o->from)) {
        replay_runs_conclude(&runs);
        if (o->json)
            output_json(&runs);
        else
            output_table(&runs);
        struct error problem = {0};
        if (o->report && page_write(o, &runs, &problem) && !status) {
            status = problem.status;
            err = problem;
        }
    }
    if (status) log_error("%s", err.text);
    replay_runs_free(&runs);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}

int command_replay(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier replay",
        "espalier replay --trace azure_llm_2023_conv.csv --url http://127.0.0.1:8000 --requests 40 "
        "--rate 2 --slo-ttft 2s --slo-tpot 50ms --record run.jsonl",
        "Sends a trace's requests to an OpenAI-style server, branches included, and says what\n"
        "became of them.\n"
        "  espalier replay --from run.jsonl --json   makes the figures again without a run"};
    struct words words = {.format = "auto",
                          .branches = "stages",
                          .endpoint = "completions",
                          .rate = NAN,
                          .temperature = NAN,
                          .attainment = NAN,
                          .prompt_seed = -1,
                          .drain_us = -1};
    struct replay_options o = {
        .settings = {.temperature = -1, .rate_scale = 1, .stall_us = 300000000},
        .attainment = 0.95,
        .kind = SLO_MEAN};
    struct replay_settings *s = &o.settings;
    struct option_spec table[] = {
        {NULL, OPT_FLAG, NULL, NULL, "What is sent where", 0, 0},
        {"trace", OPT_STRING, &o.trace, "FILE|-",
         "requests: Azure CSV, Mooncake JSONL, BurstGPT CSV "
         "or Espalier's own",
         0, 0},
        {"format", OPT_STRING, &words.format, "NAME",
         "auto (default), azure, mooncake, burstgpt, espalier", 0, 0},
        {"skip-bad", OPT_FLAG, &o.skip_bad, NULL, "leave malformed lines out", 0, 0},
        {"url", OPT_STRING, &o.url, "URL", "the server, with or without /v1", 0, 0},
        {"model", OPT_STRING, &o.model, "NAME", "default: the first of /v1/models", 0, 0},
        {"api-key-file", OPT_STRING, &o.key_file, "FILE",
         "first line: the key (else the variable OPENAI_API_KEY)", 0, 0},
        {"endpoint", OPT_STRING, &words.endpoint, "NAME", "completions (default), chat", 0, 0},
        {"branches", OPT_STRING, &words.branches, "MODE",
         "how requests with branches are sent: stages (default; Espalier's extension),\n"
         "n (as many answers as the widest stage has branches, each as long as the longest),\n"
         "flat (one sequence of all their tokens)",
         0, 0},
        {"corpus", OPT_STRING, &o.corpus, "FILE",
         "prompts of this text's words instead of common ones", 0, 0},
        {"prompt-ids", OPT_FLAG, &s->prompt_ids, NULL, "prompts as arrays of token ids", 0, 0},
        {"max-prompt", OPT_INT32, &s->max_prompt, "N", "cut prompts to N tokens", 1, INT32_MAX},
        {"temperature", OPT_REAL, &words.temperature, "T",
         "default 0, and 1 where several answers are asked for", 0, 0},
        {"prompt-seed", OPT_INT, &words.prompt_seed, "N",
         "of the prompts' texts (default: another each time, so that a server's prefix cache\n"
         "knows nothing of earlier runs)",
         0, INT64_MAX},
        {NULL, OPT_FLAG, NULL, NULL, "When", 0, 0},
        {"rate-scale", OPT_REAL, &s->rate_scale, "X",
         "the trace's times divided by X (0.2: five times sparser)", 0, 0},
        {"rate", OPT_REAL, &words.rate, "R", "random arrivals instead (Poisson), R a second", 0, 0},
        {"concurrency", OPT_INT32, &s->concurrency, "N",
         "closed loop: N at a time, the next when one ends", 1, 1 << 20},
        {"requests", OPT_INT, &s->requests, "N", "at most N requests", 1, INT64_C(1) << 40},
        {"duration", OPT_TIME, &s->duration_us, "TIME",
         "the run's length: nothing is sent later, and answers get 30s more", 1, LONGEST_US},
        {"timeout", OPT_TIME, &s->stall_us, "TIME",
         "an answer that brings no token for so long has failed (default 300s); what is asked\n"
         "of the server before the run has as long, at most 60s",
         1, LONGEST_US},
        {"drain-timeout", OPT_TIME, &words.drain_us, "TIME",
         "wait so long for answers behind the end of sending (default 300s, and 30s with\n"
         "--duration)",
         0, LONGEST_US},
        {"seed", OPT_INT, &words.seed, "N", "of random arrivals (default 0)", 0, INT64_MAX},
        {NULL, OPT_FLAG, NULL, NULL, "What is judged", 0, 0},
        {"slo-ttft", OPT_STRING, &words.slo_ttft, "TIME",
         "limit of requests whose trace names none, sent along as a header (default: none);\n"
         "with --from: of all requests, and none lifts it",
         0, 0},
        {"slo-tpot", OPT_STRING, &words.slo_tpot, "TIME", "the same for the time per output token",
         0, 0},
        {"slo-kind", OPT_STRING, &words.kind, "NAME",
         "mean (default), envelope, gaps, stages: what attaining means", 0, 0},
        {"goodput", OPT_FLAG, &o.goodput, NULL,
         "search the highest rate at the target, from --rate on; each run as long as\n"
         "--requests or --duration says",
         0, 0},
        {"attainment", OPT_REAL, &words.attainment, "SHARE", "its target (default 0.95)", 0, 0},
        {NULL, OPT_FLAG, NULL, NULL, "What stays", 0, 0},
        {"record", OPT_STRING, &o.record, "FILE", "every request's times as JSON lines", 0, 0},
        {"from", OPT_STRING, &o.from, "FILE|-", "make the figures from such a file", 0, 0},
        {"report", OPT_STRING, &o.report, "FILE.html", "one page with the plots", 0, 0},
        {"json", OPT_FLAG, &o.json, NULL, "print one JSON document", 0, 0},
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    if (!read_words(&words, &o)) return 2;
    if (!read_numbers(&words, &o)) return 2;
    if (!read_slo("slo-ttft", words.slo_ttft, &o.slo_ttft_given, &s->slo.ttft_us)) return 2;
    if (!read_slo("slo-tpot", words.slo_tpot, &o.slo_tpot_given, &s->slo.tpot_us)) return 2;
    const char *wrong = misuse(&o);
    struct error err = {0};
    if (!wrong && check_files(&o, &err)) wrong = err.text;
    if (wrong) {
        log_error("%s", wrong);
        return 2;
    }
    if (o.from)
        tell_ignored_by_from(table, COUNT_OF(table), argc, argv);
    else
        tell_ignored(&o, argc, argv);
    char *command = report_command_line(argc, argv);
    o.command = command;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int status = replay(&o);
    curl_global_cleanup();
    free(command);
    return status;
}
