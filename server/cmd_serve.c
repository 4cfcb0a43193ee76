/* espalier serve: model, engine and server from the command line, until a signal. */
#include "base/base.h"
#include "model/load_options.h"
#include "quant/checkpoint/load_cache.h"
#include "server/commands.h"
#include "server/lifecycle.h"
#include "server/serve_predictor.h"
#include "server/server.h"
#include "server/slo_options.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define SERVE_OPTION_COUNT 16

struct serve_options {
    struct load_words load;
    const char *chat_template, *served_name, *host, *policy_name, *admission_name, *api_key_file;
    int64_t port, max_rows, prefill_chunk, max_queue, drain_timeout_us, frontends;
    struct policy policy;     /* of policy_name */
    enum admission admission; /* of admission_name */
    struct slo_options slo;
    struct server_limits limits;
    bool metrics_public, json;
};

/* Everything that lives from the first line to the last. */
struct serving {
    struct model *model;
    struct serve_predictor *predictor;
    struct engine *engine;
    struct server *server;
    char name[256];         /* of the model, in the API */
    struct request_slo slo; /* of requests that name none */
    int64_t single_row_us;  /* the step of a single row; 0: not measured */
};

static struct serve_options defaults(void)
{
    const struct scheduler_options scheduling = scheduler_options_default();
    return (struct serve_options){
        .load = load_words_default(),
        .host = "127.0.0.1",
        .policy_name = "taper",
        .admission_name = "queue",
        .slo = slo_options_default(),
        .port = 8000,
        .max_rows = model_options_default().max_rows,
        .prefill_chunk = scheduling.prefill_chunk,
        .max_queue = scheduling.max_queue,
        .drain_timeout_us = 30 * 1000000ll,
        .frontends = 1,
        .limits = server_limits_default(),
    };
}

static int parse(struct serve_options *o, int argc, char **argv)
{
    static const struct command_help help = {
        "espalier serve",
        "espalier serve --model models/SmolLM2-135M-Instruct.Q4_1.gguf --port 8000",
        "Serves one model over the OpenAI API until SIGTERM or ctrl-C."};
    struct option_spec
        table[SERVE_OPTION_COUNT + LOAD_OPTION_COUNT + SLO_OPTION_COUNT + LIMIT_OPTION_COUNT];
    const struct option_spec rows[SERVE_OPTION_COUNT] = {
        {NULL, OPT_FLAG, NULL, NULL, "Server", 0, 0},
        {"served-name", OPT_STRING, &o->served_name, "NAME",
         "the model's name in the API (default: the file's, without .gguf)", 0, 0},
        CHAT_TEMPLATE_OPTION(&o->chat_template),
        {"host", OPT_STRING, &o->host, "ADDRESS", "where to listen (default 127.0.0.1)", 0, 0},
        {"port", OPT_INT, &o->port, "N", "default 8000; 0 takes any free one", 0, 65535},
        {"api-key-file", OPT_STRING, &o->api_key_file, "FILE",
         "ask for an API key: one a line, # begins a comment", 0, 0},
        {"metrics-public", OPT_FLAG, &o->metrics_public, NULL, "/metrics without a key", 0, 0},
        {"frontends", OPT_INT, &o->frontends, "N", "threads that parse and tokenize (default 1)", 1,
         64},
        {"json", OPT_FLAG, &o->json, NULL, "when ready, print one JSON document: url, model, sizes",
         0, 0},
        {"drain-timeout", OPT_TIME, &o->drain_timeout_us, "TIME",
         "on SIGTERM, let what runs finish for so long (default 30s)", 0, INT64_MAX},
        {NULL, OPT_FLAG, NULL, NULL, "Scheduling", 0, 0},
        {"max-rows", OPT_INT, &o->max_rows, "N",
         "requests running, and sequences in one step (default 64)", 1, 4096},
        {"prefill-chunk", OPT_INT, &o->prefill_chunk, "N",
         "prompt tokens computed in one step (default 512)", 1, 1 << 20},
        {"max-queue", OPT_INT, &o->max_queue, "N",
         "sequences that may wait; more are refused with 503 (default 256)", 1, 1 << 20},
        {"policy", OPT_STRING, &o->policy_name, "NAME",
         "how many of a request's sequences (answers, branches) get a row in a "
         "step:\n" POLICY_NAMES " (default taper)",
         0, 0},
        {"admission", OPT_STRING, &o->admission_name, "NAME",
         "queue (default), or refuse: requests whose first token is predicted to come later\n"
         "than their TTFT get 429 with Retry-After at once",
         0, 0},
    };
    size_t count = load_options_table(&o->load, table);
    memcpy(table + count, rows, sizeof rows);
    count += SERVE_OPTION_COUNT;
    count += slo_options_table(&o->slo, table + count);
    count += server_limits_table(&o->limits, table + count);
    int parsed = options_parse(&help, table, count, argc, argv);
    server_limits_settle(&o->limits);
    return parsed;
}

static struct server_options server_options_of(const struct serve_options *o)
{
    struct server_options options = server_options_default();
    options.host = o->host;
    options.port = (int)o->port;
    options.api_key_file = o->api_key_file;
    options.metrics_public = o->metrics_public;
    options.frontends = (int)o->frontends;
    options.limits = o->limits;
    return options;
}

static enum status load(struct serving *s, const struct serve_options *o, struct error *err)
{
    struct model_options options = model_options_default();
    enum status status = load_options_resolve(&o->load, &options, err);
    if (!status) status = chat_template_option(o->chat_template, &options.chat, err);
    if (status) return status;
    options.max_rows = (int32_t)o->max_rows;
    options.max_tokens = (int32_t)(o->prefill_chunk + o->max_rows);
    options.progress = true;
    options.chats = true;
    status = load_cache_model(&options, &s->model, err);
    if (status) return status;

    struct scheduler_options scheduling = scheduler_options_default();
    scheduling.max_rows = (int32_t)o->max_rows;
    scheduling.prefill_chunk = (int32_t)o->prefill_chunk;
    scheduling.max_queue = (int32_t)o->max_queue;
    scheduling.policy = o->policy;
    scheduling.admission = o->admission;
    /* Nobody outside shall be able to make two prompts' keys collide. */
    if (getrandom(&scheduling.hasher, sizeof scheduling.hasher, 0) !=
        (ssize_t)sizeof scheduling.hasher)
        return fail(err, ST_IO, "getrandom failed: %s", strerror(errno));
    s->predictor = serve_predictor_create(s->model, scheduling.max_rows, scheduling.prefill_chunk);
    scheduling.predictor = serve_predictor_door(s->predictor);
    status =
        engine_create(&scheduling, model_executor(s->model), clock_monotonic(), &s->engine, err);
    if (status) return status;
    serve_predictor_attach(s->predictor, s->engine);
    return engine_start(s->engine, err);
}

/* A file's or directory's last name without .gguf, as a user would write it; "synthetic:tiny" as it
 * is. Returns its length in *name. */
static int default_name(const char *path, const char **name)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    *name = path + begin;
    size_t length = end - begin;
    if (length > 5 && strncmp(path + end - 5, ".gguf", 5) == 0) length -= 5;
    return (int)length;
}

static struct served_model served_model_of(const struct serving *s)
{
    const struct model_config *config = model_config(s->model);
    return (struct served_model){
        .name = s->name,
        .tokenizer = model_tokenizer(s->model),
        .chat = model_chat_template(s->model),
        .context = engine_max_length(s->engine, 1),
        .vocab = config->vocab,
        .eos = config->eos,
        .eos_count = config->eos_count,
        .engine = s->engine,
        .slo = s->slo,
    };
}

/* What a step of a single row takes decides `auto`, and what nobody can keep to. */
static void settle_slo(struct serving *s, const struct serve_options *o, int64_t single_row_us)
{
    struct strbuf words = {0}, warning = {0};
    s->slo = slo_options_settle(&o->slo, single_row_us);
    s->single_row_us = single_row_us;
    slo_options_words(&o->slo, single_row_us, &words);
    log_info("%s", strbuf_cstr(&words));
    if (slo_options_warning(&o->slo, single_row_us, &warning))
        log_warn("%s", strbuf_cstr(&warning));
    if (o->admission == ADMISSION_REFUSE && s->slo.ttft_us == 0)
        log_warn("--admission refuse and no --slo-ttft: only requests that name a TTFT themselves "
                 "can be refused");
    strbuf_free(&words);
    strbuf_free(&warning);
}

/* null: none, or not measured. */
static json_t *milliseconds(int64_t us)
{
    return us ? json_real((double)us / 1e3) : json_null();
}

static void print_json(const struct serving *s, const struct served_model *model, const char *url)
{
    json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:i, s:I, s:I, s:{s:o, s:o, s:o}}",
                            "command", "serve", "version", ESPALIER_VERSION, "url", url, "model",
                            model->name, "port", server_port(s->server), "pid", (int)getpid(),
                            "backend", model_backend_name(s->model), "context", model->context,
                            "weight_bytes", (json_int_t)model_weight_bytes(s->model), "kv_bytes",
                            (json_int_t)model_kv_bytes(s->model), "slo", "ttft_ms",
                            milliseconds(s->slo.ttft_us), "tpot_ms", milliseconds(s->slo.tpot_us),
                            "single_row_step_ms", milliseconds(s->single_row_us));
    invariant(doc, "the server's JSON could not be made");
    json_dumpf(doc, stdout, JSON_INDENT(2));
    putchar('\n');
    fflush(stdout); /* whoever started the server waits for it */
    json_decref(doc);
}

static void announce(const struct serving *s, const struct serve_options *o,
                     const struct served_model *model)
{
    bool ipv6 = strchr(o->host, ':') != NULL;
    char url[320];
    snprintf(url, sizeof url, "http://%s%.255s%s:%d", ipv6 ? "[" : "", o->host, ipv6 ? "]" : "",
             server_port(s->server));
    log_info("serving %s on %s (%s, weights %.0f MB, KV %.0f MB, context %d)", model->name, url,
             model_backend_name(s->model), (double)model_weight_bytes(s->model) * 1e-6,
             (double)model_kv_bytes(s->model) * 1e-6, model->context);
    if (o->json) print_json(s, model, url);
}

static void drain(struct serving *s, const struct serve_options *o)
{
    log_info("stopping: what runs may finish for %.0f s; a second signal ends at once",
             (double)o->drain_timeout_us * 1e-6);
    server_drain(s->server);
    if (server_wait_idle(s->server, o->drain_timeout_us)) return;
    log_warn("the time is over: ending what still runs");
}

static enum status serve(struct serving *s, const struct serve_options *o, struct error *err)
{
    struct server_options options = server_options_of(o);
    enum status status = lifecycle_begin(err);
    /* Listening comes first: a taken port is told before a large model is read, and /health answers
     * "loading" meanwhile. */
    if (!status) status = server_create(&options, &s->server, err);
    if (!status) status = load(s, o, err);
    if (status) return status;
    const char *name = o->served_name;
    int length = name ? (int)strlen(name) : default_name(o->load.model, &name);
    snprintf(s->name, sizeof s->name, "%.*s", length, name);
    serve_predictor_tell(s->predictor);
    settle_slo(s, o, llround(serve_predictor_single_row_us(s->predictor)));
    struct served_model model = served_model_of(s);
    lifecycle_ready();
    server_attach(s->server, &model);
    announce(s, o, &model);
    lifecycle_wait();
    drain(s, o);
    return ST_OK;
}

int command_serve(int argc, char **argv)
{
    struct serve_options o = defaults();
    int parsed = parse(&o, argc, argv);
    if (parsed) return parsed > 0 ? 0 : 2;
    struct model_options unused = model_options_default();
    struct error err = {0};
    struct serving serving = {0};
    enum status status = load_options_resolve(&o.load, &unused, &err);
    if (!status) status = chat_template_option(o.chat_template, &unused.chat, &err);
    if (!status) status = policy_parse(o.policy_name, &o.policy, &err);
    if (!status) status = admission_parse(o.admission_name, &o.admission, &err);
    if (!status) status = slo_options_parse(&o.slo, &err);
    if (!status) status = serve(&serving, &o, &err);
    if (status) log_error("%s", err.text);
    server_free(serving.server);
    if (serving.engine) engine_free(serving.engine);
    serve_predictor_free(serving.predictor);
    if (serving.model) model_free(serving.model);
    if (!status) log_info("stopped");
    return status == ST_OK ? 0 : status == ST_USAGE ? 2 : 1;
}
