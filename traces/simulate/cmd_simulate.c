/* espalier simulate: its options, and what they ask the sweep for. */
#include "traces/commands.h"
#include "traces/results/report.h"
#include "traces/simulate/simulate_output.h"
#include "traces/simulate/stopping.h"

#include "base/base.h"
#include "base/paths.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TARGET_DEFAULT 0.95 /* TAPER, arXiv 2605.06914 */
#define TTFT_DEFAULT   "2s"
#define TPOT_DEFAULT   "50ms"
#define GOODPUT_SEEDS  8
#define CHUNK_MOST     512
#define RUN_US         600000000      /* of a preset, and in closed loop */
#define DURATION_MOST  10000000000000 /* 116 days */
#define BIAS_LEAST     0.01
#define BIAS_MOST      100.0
#define RATE_LEAST     1e-6
#define RATE_MOST      1e6

struct words { /* the command line, before it is understood */
    const char *trace, *preset, *format, *profile, *policies, *slo_kind, *slo_ttft, *slo_tpot;
    const char *chunk, *admission, *clients, *cache, *report;
    double rate; /* NAN: as the trace says */
    double target;
    double noise, bias; /* NAN: as the profile says, none */
    int64_t kv_tokens;  /* 0: likewise */
    int64_t duration_us, requests, warm_us, seed, seeds, jobs;
    bool goodput, brief, json, skip_bad, no_cache;
};

/* "none" is 0. */
static enum status read_slo(const char *option, const char *text, int64_t *us, struct error *err)
{
    *us = 0;
    if (strcmp(text, "none") == 0) return ST_OK;
    if (parse_time(text, us, NULL) == ST_OK && *us > 0) return ST_OK;
    return fail(err, ST_USAGE, "--%s is \"%s\"; a time such as 50ms or 2s is allowed, or none",
                option, text);
}

static enum status read_policies(const char *text, struct sweep_options *sweep, char *copy,
                                 struct error *err)
{
    char *rest = copy;
    strcpy(copy, text);
    for (char *name = strsep(&rest, ","); name; name = strsep(&rest, ",")) {
        name += strspn(name, " ");
        for (size_t end = strlen(name); end > 0 && name[end - 1] == ' '; end--)
            name[end - 1] = '\0';
        if (sweep->policy_count == SWEEP_POLICIES)
            return fail(err, ST_USAGE, "--policy names more than %d policies", SWEEP_POLICIES);
        struct error wrong = {0};
        if (policy_parse(name, &sweep->policies[sweep->policy_count], &wrong))
            return fail(err, ST_USAGE, "%s", wrong.text);
        for (int32_t p = 0; p < sweep->policy_count; p++)
            if (strcmp(sweep->policy_names[p], name) == 0)
                return fail(err, ST_USAGE, "--policy names %s twice", name);
        sweep->policy_names[sweep->policy_count++] = name;
    }
    return ST_OK;
}

static enum status read_chunk(const char *text, struct sweep_options *sweep, struct error *err)
{
    char *end;
    sweep->chunk = CHUNK_MOST;
    sweep->chunk_rule = CHUNK_BEST;
    if (strcmp(text, "best") == 0) return ST_OK;
    sweep->chunk_rule = CHUNK_SLO;
    if (strcmp(text, "slo") == 0) return ST_OK;
    sweep->chunk_rule = CHUNK_FIXED;
    long chunk = strtol(text, &end, 10);
    sweep->chunk = (int32_t)chunk;
    if (*text >= '0' && *text <= '9' && *end == '\0' && chunk >= 1 && chunk <= 1 << 16)
        return ST_OK;
    return fail(err, ST_USAGE,
                "--prefill-chunk is \"%s\"; a number from 1 to 65536, best or slo is allowed",
                text);
}

/* "8,16,32", or "auto": found by the search. */
static enum status read_clients(const char *text, bool goodput, struct option_ints *clients,
                                struct error *err)
{
    clients->count = 0;
    if (strcmp(text, "auto") == 0) {
        if (goodput) return ST_OK;
        return fail(err, ST_USAGE, "--concurrency auto needs --goodput");
    }
    for (const char *at = text;; at++) {
        char *end;
        long long value = strtoll(at, &end, 10);
        if (*at < '0' || *at > '9' || value < 1 || value > 4096 || (*end && *end != ',') ||
            clients->count == (int)COUNT_OF(clients->values))
            return fail(err, ST_USAGE,
                        "--concurrency is \"%s\"; numbers from 1 to 4096 separated by commas "
                        "(at most %d), or auto",
                        text, (int)COUNT_OF(clients->values));
        clients->values[clients->count++] = value;
        at = end;
        if (!*end) return ST_OK;
    }
}

static bool has_rate(const struct words *w)
{
    return !isnan(w->rate);
}

/* What a policy has to stand: a machine, and a predictor, that are not as the profile says. */
static enum status check_disturbance(const struct words *w, struct error *err)
{
    if (!isnan(w->noise) && !(w->noise >= 0 && w->noise <= PROFILE_NOISE_MOST))
        return fail(err, ST_USAGE, "--noise is %g; 0 to %d is allowed", w->noise,
                    PROFILE_NOISE_MOST);
    if (!isnan(w->bias) && !(w->bias >= BIAS_LEAST && w->bias <= BIAS_MOST))
        return fail(err, ST_USAGE, "--predictor-bias is %g; %g to %g is allowed", w->bias,
                    BIAS_LEAST, BIAS_MOST);
    return ST_OK;
}

static void disturb(const struct words *w, struct profile *profile, struct setting *base)
{
    if (!isnan(w->noise)) profile_set_noise(profile, w->noise);
    if (w->kv_tokens) profile_set_kv_tokens(profile, w->kv_tokens);
    if (!isnan(w->bias)) base->predictor_bias = w->bias;
}

static enum status check_words(const struct words *w, struct error *err)
{
    if ((w->trace != NULL) == (w->preset != NULL))
        return fail(err, ST_USAGE, "one of --trace and --preset is needed");
    if (!(w->target > 0 && w->target <= 1))
        return fail(err, ST_USAGE, "--attainment is %g; more than 0 up to 1 is allowed", w->target);
    if (w->preset && (w->requests || w->skip_bad || strcmp(w->format, "auto") != 0))
        return fail(err, ST_USAGE, "--requests, --format and --skip-bad are for --trace");
    if (has_rate(w) && !(w->rate >= RATE_LEAST && w->rate <= RATE_MOST))
        return fail(err, ST_USAGE, "--rate is %g; 0.000001 to 1000000 is allowed", w->rate);
    if (has_rate(w) && w->clients)
        return fail(err, ST_USAGE, "--rate and --concurrency: only one of them at a time");
    if (has_rate(w) && w->goodput)
        return fail(err, ST_USAGE, "--rate and --goodput: only one of them at a time");
    if (check_disturbance(w, err)) return ST_USAGE;
    if (w->brief && !w->goodput) return fail(err, ST_USAGE, "--brief is for --goodput");
    const struct path_use files[] = {
        {"trace", w->trace, false}, {"profile", w->profile, false}, {"report", w->report, true}};
    if (paths_check(files, COUNT_OF(files), err)) return ST_USAGE;
    if (w->brief && w->report)
        return fail(err, ST_USAGE, "--report shows whole results, --brief makes none");
    return ST_OK;
}

static enum status open_source(const struct words *w, const struct slo_target *slo,
                               struct source **source, struct error *err)
{
    struct source_options options = {
        .preset = w->preset,
        .path = w->trace,
        .read = {.skip_bad = w->skip_bad, .limit = w->requests},
        .duration_s = (double)(w->duration_us ? w->duration_us
                               : w->preset    ? RUN_US
                                              : 0) /
                      1e6,
        .slo = *slo,
        .seed = (uint64_t)w->seed,
    };
    if (!trace_format_parse(w->format, &options.read.format))
        return fail(err, ST_USAGE,
                    "--format is \"%s\"; auto, azure, mooncake, burstgpt or espalier is allowed",
                    w->format);
    return source_open(&options, source, err);
}

/* What the words ask for; the source and the profile are opened. */
static enum status understand(const struct words *w, struct sweep_options *sweep, char *policies,
                              struct source **source, struct profile **profile, struct error *err)
{
    struct setting *base = &sweep->base;
    enum status status = check_words(w, err);
    if (!status) status = read_policies(w->policies, sweep, policies, err);
    if (!status) status = read_chunk(w->chunk, sweep, err);
    if (!status)
        status =
            read_slo("slo-ttft", w->slo_ttft ? w->slo_ttft : TTFT_DEFAULT, &base->slo.ttft_us, err);
    if (!status)
        status =
            read_slo("slo-tpot", w->slo_tpot ? w->slo_tpot : TPOT_DEFAULT, &base->slo.tpot_us, err);
    if (!status && w->clients) status = read_clients(w->clients, w->goodput, &sweep->clients, err);
    if (!status && !slo_kind_parse(w->slo_kind, &base->kind))
        status =
            fail(err, ST_USAGE, "--slo-kind is \"%s\"; mean, envelope, gaps or stages is allowed",
                 w->slo_kind);
    if (!status && w->clients && !w->goodput && sweep->clients.count > 1)
        status = fail(err, ST_USAGE, "several numbers in --concurrency need --goodput");
    if (!status && sweep->chunk_rule == CHUNK_BEST && !w->goodput)
        status = fail(err, ST_USAGE, "--prefill-chunk best needs --goodput");
    if (!status && sweep->chunk_rule == CHUNK_SLO && base->slo.tpot_us == 0)
        status = fail(err, ST_USAGE, "--prefill-chunk slo needs --slo-tpot");
    if (!status) status = admission_parse(w->admission, &base->admission, err);
    if (!status && w->clients && base->admission == ADMISSION_REFUSE)
        status = fail(err, ST_USAGE,
                      "--admission refuse is for an open loop: a client of --concurrency that is "
                      "refused would ask again at once");
    if (!status) status = profile_find(w->profile, profile, err);
    if (!status) status = open_source(w, &base->slo, source, err);
    if (status) return status;

    disturb(w, *profile, base);
    base->source = *source;
    base->profile = *profile;
    base->target = w->target;
    base->closed = w->clients != NULL;
    base->duration_us = w->duration_us ? w->duration_us : RUN_US;
    base->warm_us = w->warm_us;
    base->seed = (uint64_t)w->seed;
    sweep->seeds = (int32_t)(w->seeds ? w->seeds : w->goodput ? GOODPUT_SEEDS : 1);
    sweep->goodput = w->goodput;
    sweep->brief = w->brief;
    sweep->report = w->report;
    sweep->rate = has_rate(w) ? w->rate : 0;
    sweep->jobs = (int32_t)w->jobs;
    if (!base->closed && !w->goodput && !has_rate(w) && source_is_preset(*source))
        return fail(err, ST_USAGE, "--preset needs --rate, --concurrency or --goodput");
    if (w->goodput && !w->no_cache) sweep->cache = cell_cache_open(w->cache);
    return ST_OK;
}

/* A limit that was asked for and that nobody is judged by. */
static void warn_of_own_limits(const struct words *w, const struct sweep_options *sweep,
                               const struct source *source)
{
    bool ttft, tpot;
    source_own_limits(source, &ttft, &tpot);
    ttft = ttft && w->slo_ttft;
    tpot = tpot && w->slo_tpot && sweep->chunk_rule != CHUNK_SLO; /* else it limits the steps */
    if (ttft || tpot)
        log_warn("%s%s%s nothing here: each request of the trace names its own",
                 ttft ? "--slo-ttft" : "", ttft && tpot ? " and " : "",
                 ttft && tpot ? "--slo-tpot change"
                 : tpot       ? "--slo-tpot changes"
                              : " changes");
}

/* Figures that are missing are told, with what could be done about it. */
static void warn_of_nothing(const struct sweep_options *options, const struct sweep *sweep)
{
    const struct setting *base = &options->base;
    for (int32_t p = 0; p < sweep->policy_count; p++) {
        const struct policy_result *policy = &sweep->policies[p];
        const char *name = policy->setting.policy_name;
        if (options->goodput && policy->load <= 0)
            log_warn("%s: no %s was found at which %g %% of the requests meet their SLO", name,
                     base->closed ? "number of clients" : "rate", base->target * 100);
        else if (policy->results && policy->results->all.requests == 0)
            log_warn("%s: no request was scored: none %s in the time that counts (--warmup leaves "
                     "out the first %g s%s, at most a fifth of the run)",
                     name, base->closed ? "ended" : "arrived", (double)base->warm_us / 1e6,
                     base->closed ? "" : " and the last");
    }
}

static enum status simulate(const struct words *w, const char *command, struct error *err)
{
    struct sweep_options options = {0};
    struct source *source = NULL;
    struct profile *profile = NULL;
    struct sweep *sweep = NULL;
    char *policies = must_alloc(strlen(w->policies) + 1);
    enum status status = understand(w, &options, policies, &source, &profile, err);
    if (!status) warn_of_own_limits(w, &options, source);
    if (!status && w->report) status = report_check(w->report, err);
    if (options.cache) stopping_tells_what_is_kept();
    if (!status) status = sweep_run(&options, &sweep, err);
    if (!status) warn_of_nothing(&options, sweep);
    if (!status && w->json) {
        json_t *json = sweep_json(&options, sweep, command);
        json_dumpf(json, stdout, RESULTS_JSON_FLAGS);
        putchar('\n');
        json_decref(json);
    } else if (!status) {
        sweep_print(&options, sweep);
    }
    if (!status && w->report) status = sweep_report(&options, sweep, command, w->report, err);
    fflush(stdout); /* before what follows, where both go to one place */
    if (!status && sweep->virtual_s > 0)
        log_info("simulated %.0f s in %.1f s: %.0f times real time", sweep->virtual_s,
                 sweep->wall_s, sweep->virtual_s / sweep->wall_s);
    sweep_free(sweep);
    cell_cache_free(options.cache);
    source_free(source);
    profile_free(profile);
    free(policies);
    return status;
}

int command_simulate(int argc, char **argv)
{
    static const struct command_help help = {
        "espalier simulate",
        "espalier simulate --preset W4 --policy off,eager,cap:4,taper --goodput",
        "Runs the scheduler that serves over a workload in virtual time, on a model of what a step "
        "costs, and scores each policy: SLO attainment, goodput, TTFT, TPOT (docs/workloads.md)."};
    struct words w = {.format = "auto",
                      .profile = "study-h200",
                      .policies = "off,eager,cap:4,taper",
                      .slo_kind = "mean",
                      .chunk = "256",
                      .admission = "queue",
                      .rate = NAN,
                      .noise = NAN,
                      .bias = NAN,
                      .target = TARGET_DEFAULT,
                      .warm_us = 120000000,
                      .seed = 1};
    const struct option_spec table[] = {
        {"trace", OPT_STRING, &w.trace, "FILE",
         "workload, in any format of espalier trace; -: standard input", 0, 0},
        {"preset", OPT_STRING, &w.preset, "NAME",
         "W1..W10 instead, generated anew for each seed (espalier trace generate --help)", 0, 0},
        {"profile", OPT_STRING, &w.profile, "NAME|FILE",
         "what a step costs: study-h200 (default), h200-qwen3-32b, h200x2-qwen3-32b,\n"
         "h100x2-qwen3-32b, h100-qwen3-32b-fp8, each also with -noshare, or a JSON file",
         0, 0},
        {"policy", OPT_STRING, &w.policies, "LIST",
         "policies to compare (default off,eager,cap:4,taper), of\n" POLICY_NAMES, 0, 0},
        {"prefill-chunk", OPT_STRING, &w.chunk, "N|best|slo",
         "prompt tokens of a step (default 256); best: each policy's own best of 128, 256,\n"
         "384, 512 (with --goodput); slo: the largest up to 512 whose step fits --slo-tpot",
         0, 0},
        {"admission", OPT_STRING, &w.admission, "NAME",
         "queue (default), or refuse: requests whose first token is predicted to miss\n"
         "--slo-ttft (docs/admission.md)",
         0, 0},
        {NULL, OPT_FLAG, NULL, NULL, "Load", 0, 0},
        {"rate", OPT_REAL, &w.rate, "R",
         "requests/s on average, the trace's arrivals scaled (default: as they are)", 0, 0},
        {"concurrency", OPT_STRING, &w.clients, "N",
         "closed loop of N clients instead; with --goodput a list, or auto", 0, 0},
        {"goodput", OPT_FLAG, &w.goodput, NULL,
         "search the highest rate (or the best N) at which the target holds", 0, 0},
        {"duration", OPT_TIME, &w.duration_us, "TIME",
         "of arrivals (default: a preset 600s, a trace all of it), of a closed loop 600s", 1,
         DURATION_MOST},
        {"requests", OPT_INT, &w.requests, "N", "only the first N of the trace's file", 1,
         INT64_MAX},
        {"warmup", OPT_TIME, &w.warm_us, "TIME",
         "not scored at the beginning and the end (default 120s, at most a fifth each)", 0,
         INT64_MAX},
        {"seeds", OPT_INT, &w.seeds, "N", "paired seeds (default 8 with --goodput, else 1)", 1,
         SEARCH_SEEDS},
        {"seed", OPT_INT, &w.seed, "N", "what they are made from (default 1)", 0, INT64_MAX},
        {NULL, OPT_FLAG, NULL, NULL, "Scoring", 0, 0},
        {"slo-kind", OPT_STRING, &w.slo_kind, "KIND",
         "mean (default), envelope, gaps or stages: what counts as met; all four are shown", 0, 0},
        {"slo-ttft", OPT_STRING, &w.slo_ttft, "TIME",
         "of requests that name none (default 2s; none), and of a preset's", 0, 0},
        {"slo-tpot", OPT_STRING, &w.slo_tpot, "TIME", "likewise (default 50ms)", 0, 0},
        {"attainment", OPT_REAL, &w.target, "SHARE",
         "of requests that must meet their SLO (default 0.95)", 0, 0},
        {NULL, OPT_FLAG, NULL, NULL, "What a policy must stand (research)", 0, 0},
        {"predictor-bias", OPT_REAL, &w.bias, "B",
         "what taper's predictor says, times B (default 1, 0.01 to 100)", 0, 0},
        {"noise", OPT_REAL, &w.noise, "SIGMA",
         "of the logarithm of a step's time, 0 to 2 (default: the profile's)", 0, 0},
        {"kv-tokens", OPT_INT, &w.kv_tokens, "N", "room of the KV pool (default: the profile's)",
         PROFILE_KV_TOKENS_LEAST, PROFILE_KV_TOKENS_MOST},
        {NULL, OPT_FLAG, NULL, NULL, "Running", 0, 0},
        {"format", OPT_STRING, &w.format, "NAME",
         "of the trace: auto (default), azure, mooncake, burstgpt, espalier", 0, 0},
        {"skip-bad", OPT_FLAG, &w.skip_bad, NULL, "leave malformed lines out, and count them", 0,
         0},
        {"brief", OPT_FLAG, &w.brief, NULL,
         "with --goodput: the rates alone, without the whole results at them", 0, 0},
        {"jobs", OPT_INT, &w.jobs, "N", "threads (default: one a core)", 1, 1024},
        {"cache", OPT_STRING, &w.cache, "DIR",
         "finished searches, so that a stopped sweep goes on (default\n"
         "~/.cache/espalier/simulate)",
         0, 0},
        {"no-cache", OPT_FLAG, &w.no_cache, NULL, "neither read nor keep them", 0, 0},
        {"report", OPT_STRING, &w.report, "FILE.html", "one page with the plots", 0, 0},
        {"json", OPT_FLAG, &w.json, NULL, "print one JSON document", 0, 0},
    };
    int parsed = options_parse(&help, table, COUNT_OF(table), argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    struct error err = {0};
    char *command = report_command_line(argc, argv);
    enum status status = simulate(&w, command, &err);
    free(command);
    if (status) log_error("%s", err.text);
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
