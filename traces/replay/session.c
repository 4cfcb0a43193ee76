#include "traces/replay/session.h"
#include "base/base.h"
#include "traces/replay/client.h"
#include "traces/replay/header.h"
#include "traces/replay/live.h"
#include "traces/replay/record_file.h"
#include "traces/replay/search.h"
#include "traces/results/rows.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define OTHER_DESCRIPTORS 64 /* files, epoll, what libcurl keeps beside its sockets */

static volatile sig_atomic_t stop;

/* The first ends the run, which still reports; the second ends the process. */
static void on_signal(int number)
{
    if (stop) _exit(128 + number);
    stop = number;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* What a session holds while it runs. */
struct session {
    const struct replay_options *options;
    struct target target;
    struct trace *trace;
    struct trace_read_counts read;
    struct prompts *prompts;
    struct record_writer *record;
    int64_t beyond_context;
    struct replay_runs *runs;
    /* of the run at hand */
    struct summary_builder *builder;
    struct live live;
};

/* Each stream needs one; how many an open loop needs nobody knows, so it gets all there are. */
static enum status raise_descriptors(int32_t concurrency, struct error *err)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)concurrency + OTHER_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return ST_OK;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit)) getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= needed) return ST_OK;
    return fail(err, ST_NO_SPACE,
                "--concurrency %d needs %llu file descriptors, this process may have %llu "
                "(ulimit -n; the hard limit is %llu)",
                concurrency, (unsigned long long)needed, (unsigned long long)limit.rlim_cur,
                (unsigned long long)limit.rlim_max);
}

/* --- before the runs */

/* --slo-* hold for requests that name no limit, which may be none. */
static void tell_unused_limits(const struct session *session)
{
    const struct slo_target *slo = &session->options->settings.slo;
    const struct trace *trace = session->trace;
    if (!slo->ttft_us && !slo->tpot_us) return;
    for (size_t i = 0; i < trace->count; i++)
        if (trace->requests[i].ttft_ms <= 0 && trace->requests[i].tpot_ms <= 0) return;
    if (trace->count)
        log_warn("--slo-ttft and --slo-tpot are for requests that name no limit, and every one of "
                 "this trace's does; ignored");
}

static enum status load_trace(struct session *session, struct error *err)
{
    const struct replay_options *o = session->options;
    struct trace_read_options how = {
        .format = o->format, .skip_bad = o->skip_bad, .limit = o->settings.requests};
    enum status status = trace_load(o->trace, &how, &session->trace, &session->read, err);
    if (status) return status;
    trace_tell_counts(&session->read);
    tell_unused_limits(session);
    if (session->trace->count == 0)
        return fail(err, ST_INVALID, "--trace: %s has no request", o->trace);
    return ST_OK;
}

/* Tokens from the first of the prompt to the last of the longest way through the stages. */
static int64_t longest_path(const struct trace_request *request, const struct replay_settings *s)
{
    int64_t tokens = request->prompt_tokens;
    if (s->max_prompt && tokens > s->max_prompt) tokens = s->max_prompt;
    for (int32_t i = 0; i < request->stage_count; i++) {
        int64_t longest = 0;
        for (int32_t b = 0; b < request->stages[i].branch_count; b++) {
            int64_t branch = request->stages[i].branch_tokens[b];
            longest = s->branches == BRANCHES_FLAT ? longest + branch
                      : branch > longest           ? branch
                                                   : longest;
        }
        tokens += longest;
    }
    return tokens;
}

static void count_beyond_context(struct session *session)
{
    int32_t context = session->target.max_model_len;
    for (size_t i = 0; context && i < session->trace->count; i++)
        session->beyond_context +=
            longest_path(&session->trace->requests[i], &session->options->settings) > context;
    if (session->beyond_context)
        log_warn("%lld of %zu requests are longer than the model's context of %d tokens and will "
                 "be refused; --max-prompt N cuts prompts",
                 (long long)session->beyond_context, session->trace->count, context);
}

static enum status open_session(struct session *session, struct error *err)
{
    const struct replay_options *o = session->options;
    const struct replay_settings *s = &o->settings;
    struct prompt_options how = {.corpus = o->corpus,
                                 .ids = s->prompt_ids,
                                 .chat = s->endpoint == ENDPOINT_CHAT,
                                 .max_tokens = s->max_prompt};
    enum status status = raise_descriptors(s->concurrency, err);
    if (!status) status = load_trace(session, err);
    if (!status)
        status = target_open(o->url, o->model, o->key_file, s->stall_us, &session->target, err);
    if (!status) status = prompts_create(&how, &session->target, &session->prompts, err);
    if (!status) count_beyond_context(session);
    if (!status && o->report) status = report_check(o->report, err);
    if (!status && o->record) status = record_file_create(o->record, &session->record, err);
    if (!status && prompts_check(session->prompts) == PROMPTS_ESTIMATED)
        log_warn("prompt lengths are estimated, one token a word: %s",
                 prompts_check_words(session->prompts));
    return status;
}

static enum status close_session(struct session *session, enum status status, struct error *err)
{
    struct error closing = {0};
    enum status closed = record_file_close(session->record, &closing);
    if (!status && closed) *err = closing;
    prompts_free(session->prompts);
    trace_free(session->trace);
    target_free(&session->target);
    return status ? status : closed;
}

/* --- one run */

static void on_flight(void *context, const struct flight *flight)
{
    struct session *session = context;
    summary_add(session->builder, flight);
    if (session->record) record_file_flight(session->record, flight);
}

static void on_progress(void *context, const struct run_progress *progress)
{
    struct session *session = context;
    live_update(&session->live, progress, summary_met(session->builder));
}

static enum status run_once(struct session *session, const struct replay_settings *settings,
                            const char *label, struct error *err)
{
    struct header_facts facts = {.options = session->options,
                                 .settings = settings,
                                 .target = &session->target,
                                 .prompts = session->prompts,
                                 .trace = session->trace,
                                 .read = &session->read,
                                 .beyond_context = session->beyond_context};
    struct client_options how = {.settings = settings,
                                 .target = &session->target,
                                 .trace = session->trace,
                                 .prompts = session->prompts,
                                 .stop = &stop,
                                 .on_flight = on_flight,
                                 .on_progress = on_progress,
                                 .context = session};
    struct client_counts counts;
    struct replay_run *run = replay_runs_add(session->runs, header_make(&facts));
    prompts_set_seed(session->prompts, settings->prompt_seed);
    if (session->record) record_file_header(session->record, run->header);
    session->builder = summary_begin(session->options->kind);
    live_begin(&session->live, label);
    enum status status = client_run(&how, &counts, err);
    live_end(&session->live);
    run->summary = summary_end(session->builder);
    run->end = header_end(&counts);
    if (session->record) record_file_end(session->record, run->end);
    return status;
}

/* --- the search, and all */

static enum status probe(void *context, double rate, bool *passed, bool *go_on, struct error *err)
{
    struct session *session = context;
    struct replay_settings settings = session->options->settings;
    char label[32];
    settings.rate = rate;
    settings.seed += session->runs->count; /* other arrivals each time, other prompts */
    settings.prompt_seed += session->runs->count;
    results_rate_text(label, sizeof label - 2, rate);
    strcat(label, "/s");
    enum status status = run_once(session, &settings, label, err);
    if (status) return status;
    const struct replay_run *run = &session->runs->list[session->runs->count - 1];
    *passed = replay_run_passed(run);
    *go_on = !stop;
    results_rate_text(label, sizeof label, rate);
    log_info("%s requests/s: attainment %.2f %%%s%s", label, 100 * replay_run_attainment(run),
             summary_late(run->summary) ? ", the generator was late" : "",
             replay_run_interrupted(run) ? ", interrupted" : "");
    return ST_OK;
}

static double trace_rate(const struct session *session)
{
    const struct trace *trace = session->trace;
    double span_ms = trace->requests[trace->count - 1].arrival_ms - trace->requests[0].arrival_ms;
    return span_ms > 0 ? 1e3 * (double)(trace->count - 1) / span_ms : 1;
}

enum status session_live(const struct replay_options *options, struct replay_runs *runs,
                         struct error *err)
{
    struct session session = {.options = options, .runs = runs};
    const struct replay_settings *s = &options->settings;
    signal(SIGPIPE, SIG_IGN);
    enum status status = open_session(&session, err);
    catch_signals(); /* before it there is nothing to report: a signal ends the process at once */
    if (!status && options->goodput) {
        double first = s->rate > 0 ? s->rate : trace_rate(&session) * s->rate_scale;
        status = search_rate(first, probe, &session, err);
    } else if (!status) {
        status = run_once(&session, s, "replay", err);
    }
    return close_session(&session, status, err);
}
