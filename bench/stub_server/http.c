/* As much of HTTP/1.1 as load generators use: Content-Length bodies, keep-alive. */
#include "bench/stub_server/stub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_LIMIT 65536

static const char *reason_of(int status)
{
    return status == 200 ? "OK" : status == 404 ? "Not Found" : "Refused";
}

void http_answer(struct connection *connection, int status, const char *type, const char *body)
{
    strbuf_format(&connection->out,
                  "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status,
                  reason_of(status), type, strlen(body));
    strbuf_text(&connection->out, body);
    connection_flush(connection);
}

static void answer_json(struct connection *connection, json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT);
    http_answer(connection, 200, "application/json", text);
    free(text);
    json_decref(root);
}

int64_t count_words(const char *text)
{
    int64_t count = 0;
    for (bool inside = false; *text; text++) {
        count += *text != ' ' && !inside;
        inside = *text != ' ';
    }
    return count;
}

/* The same word has the same id wherever it stands. */
static void append_words(json_t *tokens, const char *text)
{
    while (*text) {
        uint64_t hash = 0;
        size_t length = strcspn(text, " ");
        for (size_t i = 0; i < length; i++)
            hash = mix64(hash + (unsigned char)text[i] + 1);
        if (length) json_array_append_new(tokens, json_integer((json_int_t)(hash % 1000000000)));
        text += length + (text[length] == ' ');
    }
}

static void tokenize(struct connection *connection, json_t *body)
{
    json_t *tokens = json_array();
    json_t *message = json_array_get(json_object_get(body, "messages"), 0);
    const char *text = json_string_value(
        json_object_get(message ? message : body, message ? "content" : "prompt"));
    if (connection->stub->options.bos) json_array_append_new(tokens, json_integer(1000000001));
    if (message) json_array_append_new(tokens, json_integer(1000000002));
    append_words(tokens, text ? text : "");
    if (message) json_array_append_new(tokens, json_integer(1000000003));
    answer_json(connection, json_pack("{s:i, s:o, s:i}", "count", (int)json_array_size(tokens),
                                      "tokens", tokens, "max_model_len", 1000000));
}

static bool is(const char *line, const char *method_and_path)
{
    size_t length = strlen(method_and_path);
    return !strncmp(line, method_and_path, length) && line[length] == ' ';
}

static void route(struct connection *connection, const char *line, const char *text, size_t length)
{
    json_t *body = length ? json_loadb(text, length, JSON_ALLOW_NUL, NULL) : NULL;
    if (is(line, "POST /v1/completions"))
        answer_begin(connection, body, false);
    else if (is(line, "POST /v1/chat/completions"))
        answer_begin(connection, body, true);
    else if (is(line, "POST /tokenize"))
        tokenize(connection, body);
    else if (is(line, "GET /v1/models"))
        answer_json(connection,
                    json_pack("{s:s, s:[{s:s, s:s, s:i}]}", "object", "list", "data", "id", "stub",
                              "object", "model", "max_model_len", 1000000));
    else if (is(line, "GET /version"))
        answer_json(connection, json_pack("{s:s}", "version", "stub"));
    else
        http_answer(connection, 404, "application/json", "{\"error\":{\"code\":\"not_found\"}}");
    json_decref(body);
}

static size_t content_length(const char *head)
{
    for (const char *line = head; line; line = strstr(line, "\r\n")) {
        line += line[0] == '\r' ? 2 : 0;
        if (!strncasecmp(line, "content-length:", 15)) return strtoul(line + 15, NULL, 10);
    }
    return 0;
}

void http_take(struct connection *connection)
{
    struct strbuf *in = &connection->in;
    while (connection->fd >= 0 && !connection->streaming && in->length) {
        char *end = strstr(in->data, "\r\n\r\n");
        if (!end && in->length > HEAD_LIMIT) return connection_close(connection);
        if (!end) return;
        *end = 0;
        size_t head = (size_t)(end + 4 - in->data), body = content_length(in->data);
        *end = '\r';
        if (in->length < head + body) return;
        char kept = in->data[head + body];
        in->data[head + body] = 0;
        route(connection, in->data, in->data + head, body);
        in->data[head + body] = kept;
        strbuf_drop_front(in, head + body);
    }
}
