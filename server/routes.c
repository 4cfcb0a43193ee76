#include "server/routes.h"
#include "base/alloc.h"
#include "server/completion.h"
#include "server/render.h"
#include "server/request_slo.h"
#include "server/server_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- GET: short answers from what is at hand */

static int get_health(struct server *server, struct strbuf *out, struct api_error *error)
{
    if (atomic_load(&server->draining)) {
        refuse(error, REFUSAL_DRAINING, NULL, "the server is shutting down");
    } else if (!atomic_load(&server->loaded)) {
        refuse(error, REFUSAL_LOADING, NULL, "the model is still loading");
    } else {
        strbuf_text(out, "{\"status\":\"ok\"}");
        return MHD_HTTP_OK;
    }
    return refusal_status(error->refusal);
}

static int get_version(struct server *server, struct strbuf *out, struct api_error *error)
{
    (void)server, (void)error;
    strbuf_text(out, "{\"version\":\"" ESPALIER_VERSION "\"}");
    return MHD_HTTP_OK;
}

/* For answers that only a loaded model gives. */
static bool check_loaded(struct server *server, struct api_error *error)
{
    if (atomic_load(&server->loaded)) return true;
    return refuse(error, REFUSAL_LOADING, NULL, "the model is still loading");
}

static int get_models(struct server *server, struct strbuf *out, struct api_error *error)
{
    if (!check_loaded(server, error)) return refusal_status(error->refusal);
    const struct served_model *model = &server->model;
    struct strbuf name = {0};
    render_json_string(&name, model->name, strlen(model->name));
    strbuf_format(
        out,
        "{\"object\":\"list\",\"data\":[{\"id\":%s,\"object\":\"model\",\"created\":%" PRId64
        ",\"owned_by\":\"espalier\",\"root\":%s,\"parent\":null,\"max_model_len\":%d}]}",
        strbuf_cstr(&name), server->created, strbuf_cstr(&name), model->context);
    strbuf_free(&name);
    return MHD_HTTP_OK;
}

static int get_openapi(struct server *server, struct strbuf *out, struct api_error *error)
{
    if (!check_loaded(server, error)) return refusal_status(error->refusal);
    strbuf_append(out, server->openapi.data, server->openapi.length);
    return MHD_HTTP_OK;
}

static int get_metrics(struct server *server, struct strbuf *out, struct api_error *error)
{
    (void)error;
    struct metrics_view view = {
        .connections = watcher_connections(server->watcher),
        .active_requests = atomic_load(&server->active),
        .body_bytes = atomic_load(&server->body_bytes),
        .answer_bytes = atomic_load(&server->answer_bytes),
    };
    if (atomic_load(&server->loaded)) {
        view.model = server->model.name;
        engine_counters(server->model.engine, &view.engine);
    }
    metrics_render(&server->metrics, &view, out);
    return MHD_HTTP_OK;
}

#define JSON_TYPE    "application/json"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

static const struct route routes[] = {
    {"/v1/completions", "POST", NULL, API_COMPLETIONS, JSON_TYPE, false},
    {"/v1/chat/completions", "POST", NULL, API_CHAT, JSON_TYPE, false},
    {"/tokenize", "POST", NULL, API_TOKENIZE, JSON_TYPE, false},
    {"/detokenize", "POST", NULL, API_DETOKENIZE, JSON_TYPE, false},
    {"/v1/models", "GET", get_models, 0, JSON_TYPE, false},
    {"/health", "GET", get_health, 0, JSON_TYPE, true},
    {"/version", "GET", get_version, 0, JSON_TYPE, false},
    {"/metrics", "GET", get_metrics, 0, METRICS_TYPE, false},
    {"/openapi.json", "GET", get_openapi, 0, JSON_TYPE, false},
};

const struct route *routes_all(size_t *count)
{
    *count = sizeof routes / sizeof routes[0];
    return routes;
}

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (strcmp(routes[i].path, path) == 0) return &routes[i];
    return NULL;
}

bool route_needs_key(const struct server *server, const struct route *route)
{
    if (!server->auth) return false;
    if (!route) return true; /* a stranger learns no paths */
    if (route->get == get_metrics && server->options.metrics_public) return false;
    return !route->public;
}

/* --- POST, on a front-end thread */

static bool check_model(const struct api_request *request, const struct served_model *model,
                        struct api_error *error)
{
    if (!request->model) return true;
    if (request->model_length == strlen(model->name) &&
        memcmp(request->model, model->name, request->model_length) == 0)
        return true;
    return refuse(error, REFUSAL_UNKNOWN_MODEL, "model",
                  "model '%.200s' does not exist here; this server has '%s'", request->model,
                  model->name);
}

static bool answer_tokenize(struct exchange *exchange, const struct api_request *request,
                            struct api_error *error)
{
    const struct served_model *model = &exchange->server->model;
    struct token_list tokens = {0};
    if (!request_tokens(request, 0, model, &tokens, error)) {
        free(tokens.ids);
        return false;
    }
    struct strbuf text = {.may_fail = true};
    strbuf_format(&text, "{\"count\":%zu,\"max_model_len\":%d,\"tokens\":[", tokens.count,
                  model->context);
    for (size_t i = 0; i < tokens.count; i++)
        strbuf_format(&text, i ? ",%d" : "%d", tokens.ids[i]);
    strbuf_text(&text, "]}");
    free(tokens.ids);
    exchange_answer(exchange, MHD_HTTP_OK, &text);
    return true;
}

static bool answer_detokenize(struct exchange *exchange, const struct api_request *request)
{
    struct strbuf prompt = {.may_fail = true}, text = {.may_fail = true};
    tokenizer_decode(exchange->server->model.tokenizer, request->prompts[0].ids,
                     request->prompts[0].id_count, true, &prompt);
    strbuf_text(&text, "{\"prompt\":");
    render_json_string(&text, strbuf_cstr(&prompt), prompt.length);
    strbuf_char(&text, '}');
    text.failed |= prompt.failed;
    strbuf_free(&prompt);
    exchange_answer(exchange, MHD_HTTP_OK, &text);
    return true;
}

static bool start_completion(struct exchange *exchange, struct api_request *request,
                             struct api_error *error)
{
    bool stream = request->stream;
    if (!completion_start(exchange, request, error)) return false;
    if (stream) exchange_answer_stream(exchange);
    return true;
}

static bool serve(struct exchange *exchange, struct api_request *request, struct api_error *error)
{
    const struct server *server = exchange->server;
    bool parsed = api_request_parse(request, exchange->route->endpoint,
                                    strbuf_cstr(&exchange->body), exchange->body.length,
                                    &server->options.limits, server->model.vocab, error);
    exchange_drop_body(exchange);
    if (!parsed) return false;
    slo_override(&request->slo, &exchange->slo);
    if (!check_model(request, &server->model, error)) return false;
    switch (exchange->route->endpoint) {
    case API_TOKENIZE:
        return answer_tokenize(exchange, request, error);
    case API_DETOKENIZE:
        return answer_detokenize(exchange, request);
    default:
        return start_completion(exchange, request, error);
    }
}

void route_start(struct exchange *exchange)
{
    if (atomic_load(&exchange->abandoned)) return;
    struct api_request request = {0};
    struct api_error error = {0};
    if (!serve(exchange, &request, &error)) exchange_refuse(exchange, &error);
    api_request_release(&request);
}

void route_finish(struct exchange *exchange)
{
    if (atomic_load(&exchange->abandoned)) return;
    completion_answer(atomic_load(&exchange->completion));
}
