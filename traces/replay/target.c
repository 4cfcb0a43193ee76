#include "traces/replay/target.h"
#include "base/base.h"
#include "traces/replay/event.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_LIMIT (64u << 20)
#define PATIENCE_US  60000000

static size_t take(char *bytes, size_t size, size_t count, void *context)
{
    struct strbuf *answer = context;
    if (answer->length + size * count > ANSWER_LIMIT) return 0;
    strbuf_append(answer, bytes, size * count);
    return size * count;
}

static void set_headers(const struct target *target, struct curl_slist **headers)
{
    struct strbuf line = {0};
    *headers = curl_slist_append(NULL, "Content-Type: application/json");
    if (target->key) {
        strbuf_format(&line, "Authorization: Bearer %s", target->key);
        *headers = curl_slist_append(*headers, strbuf_cstr(&line));
    }
    strbuf_free(&line);
}

/* GET without a body. The HTTP status, 0 when there is no answer (said in `err`). */
static long call(const struct target *target, const char *path, const char *body,
                 struct strbuf *answer, struct error *err)
{
    CURL *easy = curl_easy_init();
    struct curl_slist *headers;
    struct strbuf url = {0};
    char words[CURL_ERROR_SIZE] = "";
    long status = 0;
    invariant(easy, "libcurl gave no handle");
    set_headers(target, &headers);
    strbuf_format(&url, "%s%s", target->base, path);
    curl_easy_setopt(easy, CURLOPT_URL, strbuf_cstr(&url));
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)((target->patience_us + 999) / 1000));
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, words);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    if (body) curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    CURLcode code = curl_easy_perform(easy);
    if (code == CURLE_OK)
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    else
        fail(err, ST_IO, "%s: %s", strbuf_cstr(&url), *words ? words : curl_easy_strerror(code));
    strbuf_free(&url);
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
    return status;
}

/* "PATH answered 404 not_found", with what the error's body names, if it does. */
static enum status say_answer(const struct target *target, const char *path, long status,
                              const struct strbuf *answer, struct error *err)
{
    char code[64];
    event_error_code(strbuf_cstr(answer), answer->length, code);
    return fail(err, ST_INVALID, "%s%s answered %ld%s%s", target->base, path, status,
                *code ? " " : "", code);
}

/* The document of an answer; NULL with `err`. */
static json_t *parse(const struct target *target, const char *path, long status,
                     const struct strbuf *answer, struct error *err)
{
    json_error_t problem;
    json_t *root = NULL;
    if (status == 401 || status == 403)
        fail(err, ST_INVALID,
             "%s%s: %ld: the server wants a key (--api-key-file or OPENAI_API_KEY)", target->base,
             path, status);
    else if (status != 200)
        say_answer(target, path, status, answer, err);
    else if (!(root = json_loadb(strbuf_cstr(answer), answer->length, JSON_ALLOW_NUL, &problem)))
        fail(err, ST_INVALID, "%s%s: the answer is no JSON: %s", target->base, path, problem.text);
    return root;
}

/* A server may know more models than it lists, so this ends nothing. */
static void warn_of_model(json_t *list, const char *name)
{
    struct strbuf names = {0};
    json_t *model;
    size_t i;
    json_array_foreach(list, i, model)
    {
        const char *id = json_string_value(json_object_get(model, "id"));
        if (id && names.length < 200) strbuf_format(&names, "%s%s", names.length ? ", " : "", id);
    }
    if (names.length)
        log_warn("--model: found \"%s\", which /v1/models does not name; it has %s", name,
                 strbuf_cstr(&names));
    strbuf_free(&names);
}

/* The named model, or the first. */
static json_t *find_model(json_t *list, const char *name)
{
    json_t *model;
    size_t i;
    json_array_foreach(list, i, model)
    {
        const char *id = json_string_value(json_object_get(model, "id"));
        if (id && (!name || !strcmp(id, name))) return model;
    }
    return NULL;
}

static enum status ask_model(struct target *target, struct error *err)
{
    static const char path[] = "/v1/models";
    struct strbuf answer = {0};
    long status = call(target, path, NULL, &answer, err);
    json_t *root = status ? parse(target, path, status, &answer, err) : NULL;
    strbuf_free(&answer);
    if (!root) return status && target->model && status == 404 ? ST_OK : err->status;
    json_t *model = find_model(json_object_get(root, "data"), target->model);
    if (model && !target->model)
        target->model = must_strdup(json_string_value(json_object_get(model, "id")));
    if (!model && target->model) warn_of_model(json_object_get(root, "data"), target->model);
    json_int_t length = json_integer_value(json_object_get(model, "max_model_len"));
    if (length > 0 && length <= INT32_MAX) target->max_model_len = (int32_t)length;
    json_decref(root);
    if (target->model) return ST_OK;
    return fail(err, ST_INVALID, "%s%s names no model; give --model", target->base, path);
}

/* vLLM says {"version"}, others add a name; who says nothing has none. */
static void ask_version(struct target *target)
{
    struct strbuf answer = {0};
    struct error ignored = {0};
    long status = call(target, "/version", NULL, &answer, &ignored);
    json_t *root = status == 200 ? json_loadb(strbuf_cstr(&answer), answer.length, 0, NULL) : NULL;
    const char *version = json_string_value(json_object_get(root, "version"));
    if (version && strlen(version) < 200) target->version = must_strdup(version);
    json_decref(root);
    strbuf_free(&answer);
}

static void cut_end(char *text, const char *end)
{
    size_t length = strlen(text), cut = strlen(end);
    if (length >= cut && !strcmp(text + length - cut, end)) text[length - cut] = 0;
}

/* A host, and a port that can be one; else what is wrong. */
static enum status check_url(const char *typed, const char *url, struct error *err)
{
    static const char expected[] =
        "expected http:// or https://, a host, and a port from 1 to 65535 where it is not the "
        "usual one, such as http://127.0.0.1:8000";
    CURLU *parts = curl_url();
    char *host = NULL, *port = NULL;
    invariant(parts, "libcurl gave no URL");
    const char *slashes = strstr(url, "//"); /* libcurl would take three for two */
    bool named = slashes && slashes[2] != '/';
    CURLUcode code = curl_url_set(parts, CURLUPART_URL, url, 0);
    if (!code) code = curl_url_get(parts, CURLUPART_HOST, &host, 0);
    if (!code && curl_url_get(parts, CURLUPART_PORT, &port, 0)) port = NULL;
    bool sound = named && !code && *host && !strpbrk(url, "?#") && !(port && !strcmp(port, "0"));
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return sound ? ST_OK : fail(err, ST_USAGE, "--url: found \"%s\", %s", typed, expected);
}

static enum status read_url(const char *url, struct target *target, struct error *err)
{
    if (!strncmp(url, "http://", 7) || !strncmp(url, "https://", 8)) {
        target->base = must_strdup(url);
    } else if (!strstr(url, "://") && *url) {
        struct strbuf text = {0};
        strbuf_format(&text, "http://%s", url);
        target->base = strbuf_take(&text);
    } else {
        return check_url(url, "", err);
    }
    enum status status = check_url(url, target->base, err);
    if (status) return status;
    for (int i = 0; i < 2; i++) {
        cut_end(target->base, "/");
        cut_end(target->base, "/v1");
    }
    return ST_OK;
}

static enum status read_key(const char *path, struct target *target, struct error *err)
{
    const char *variable = getenv("OPENAI_API_KEY");
    char line[4096];
    if (!path && variable && *variable) target->key = must_strdup(variable);
    if (!path) return ST_OK;
    FILE *in = fopen(path, "re");
    if (!in) return fail(err, ST_IO, "--api-key-file: cannot open %s", path);
    while (!target->key && fgets(line, sizeof line, in)) {
        line[strcspn(line, "\r\n")] = 0;
        if (*line && *line != '#') target->key = must_strdup(line);
    }
    fclose(in);
    return target->key ? ST_OK : fail(err, ST_INVALID, "--api-key-file: no key in %s", path);
}

static enum status check_model(const char *model, struct error *err)
{
    json_t *text = model ? json_string(model) : json_null();
    json_decref(text);
    return text ? ST_OK : fail(err, ST_USAGE, "--model: found bytes that are no UTF-8 text");
}

enum status target_open(const char *url, const char *model, const char *key_file,
                        int64_t timeout_us, struct target *out, struct error *err)
{
    *out = (struct target){.patience_us = timeout_us < PATIENCE_US ? timeout_us : PATIENCE_US};
    enum status status = read_url(url, out, err);
    if (!status) status = check_model(model, err);
    if (!status) status = read_key(key_file, out, err);
    if (!status && model) out->model = must_strdup(model);
    if (!status) status = ask_model(out, err);
    if (!status) ask_version(out);
    if (status) target_free(out);
    return status;
}

void target_free(struct target *target)
{
    free(target->base);
    free(target->model);
    free(target->version);
    free(target->key);
    *target = (struct target){0};
}

/* vLLM and SGLang read "prompt" and count what a completion's prompt has; llama.cpp reads
 * "content", and counts that only with "add_special". */
static char *tokenize_body(const struct target *target, const char *text, size_t length, bool chat)
{
    json_t *content = json_stringn(text, length);
    json_t *body = chat ? json_pack("{s:s, s:[{s:s, s:o}]}", "model", target->model, "messages",
                                    "role", "user", "content", content)
                        : json_pack("{s:s, s:O, s:o, s:b}", "model", target->model, "prompt",
                                    content, "content", content, "add_special", 1);
    char *dumped = json_dumps(body, JSON_COMPACT);
    invariant(dumped, "the body of /tokenize could not be made");
    json_decref(body);
    return dumped;
}

static bool read_tokens(json_t *root, struct token_count *out)
{
    json_t *tokens = json_object_get(root, "tokens"), *count = json_object_get(root, "count");
    size_t length = json_array_size(tokens);
    *out = (struct token_count){0};
    if (json_is_integer(count)) out->count = json_integer_value(count);
    if (!json_is_array(tokens)) return json_is_integer(count) && out->count >= 0;
    if (json_is_integer(count) && out->count != (int64_t)length) return false;
    out->count = (int64_t)length;
    out->ids = must_alloc((length + 1) * sizeof *out->ids);
    for (size_t i = 0; i < length; i++)
        out->ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    return true;
}

/* A 404 may be of the path or of the model that was asked for. */
static bool names_model(const struct strbuf *answer)
{
    return memmem(strbuf_cstr(answer), answer->length, "model", strlen("model")) != NULL;
}

enum tokenize_result target_tokenize(const struct target *target, const char *text, size_t length,
                                     bool chat, struct token_count *out, struct error *err)
{
    static const char path[] = "/tokenize";
    struct strbuf answer = {0};
    char *body = tokenize_body(target, text, length, chat);
    long status = call(target, path, body, &answer, err);
    enum tokenize_result result = TOKENIZE_FAILED;
    free(body);
    if (status == 404 || status == 405 || status == 501) {
        say_answer(target, path, status, &answer, err);
        if (!names_model(&answer)) result = TOKENIZE_MISSING;
    } else if (status) {
        json_t *root = parse(target, path, status, &answer, err);
        if (root && read_tokens(root, out))
            result = TOKENIZE_OK;
        else if (root)
            fail(err, ST_INVALID, "%s%s: neither \"count\" nor \"tokens\"", target->base, path);
        json_decref(root);
    }
    strbuf_free(&answer);
    return result;
}
