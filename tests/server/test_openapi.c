/* /openapi.json against the server's own tables: every route and every field, their types and
 * ranges, in both directions. What is documented and no row of the table must be refused by the
 * parser when it is wrong. */
#include "base/base.h"
#include "server/openapi.h"
#include "server/request_parse.h"
#include "server/routes.h"
#include "support_server.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    enum api_endpoint endpoint;
    const char *schema, *body; /* a body that is taken, without its last brace */
} endpoints[] = {
    {API_COMPLETIONS, "CompletionRequest", "{\"prompt\":\"hi\""},
    {API_CHAT, "ChatRequest", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {API_TOKENIZE, "TokenizeRequest", "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"},
    {API_DETOKENIZE, "DetokenizeRequest", "{\"tokens\":[5]"},
};

#define CONTEXT          2048
#define EACH_ENDPOINT(e) for (size_t e = 0; e < COUNT_OF(endpoints); e++)

static struct served_model model_of(const char *name)
{
    return (struct served_model){.name = name, .context = CONTEXT, .vocab = 512};
}

static json_t *document(const struct server_options *options, const char *name)
{
    struct served_model model = model_of(name);
    struct strbuf text = {0};
    openapi_render(options, &model, &text);
    json_t *root = json_loadb(text.data, text.length, 0, NULL);
    cr_assert(root);
    cr_assert_null(strstr(strbuf_cstr(&text), "$fill"));
    strbuf_free(&text);
    return root;
}

static json_t *default_document(void)
{
    struct server_options options = server_options_default();
    return document(&options, "a model");
}

static json_t *schema(json_t *root, const char *name)
{
    json_t *schemas = json_object_get(json_object_get(root, "components"), "schemas");
    json_t *found = json_object_get(schemas, name);
    cr_assert(found, "%s", name);
    return found;
}

/* Adds the properties of a schema and of the alternatives and parts that it is made of. */
static void gather(json_t *root, json_t *part, json_t *all)
{
    const char *reference = json_string_value(json_object_get(part, "$ref"));
    if (reference) part = schema(root, strrchr(reference, '/') + 1);
    json_object_update_missing(all, json_object_get(part, "properties"));
    static const char *const combined[] = {"allOf", "anyOf"};
    for (size_t i = 0; i < COUNT_OF(combined); i++) {
        size_t index;
        json_t *piece;
        json_array_foreach(json_object_get(part, combined[i]), index, piece)
            gather(root, piece, all);
    }
}

/* Owned by the caller. */
static json_t *properties(json_t *root, size_t endpoint)
{
    json_t *all = json_object();
    gather(root, schema(root, endpoints[endpoint].schema), all);
    return all;
}

static void check_number(json_t *property, const char *key, double expected, const char *name)
{
    cr_assert_eq(json_number_value(json_object_get(property, key)), expected,
                 "%s: %s is %g in the document, %g in "
                 "the table",
                 name, key, json_number_value(json_object_get(property, key)), expected);
}

static void check_field(const struct api_field *field, json_t *property)
{
    static const char *const types[] = {
        [FIELD_BOOL] = "boolean", [FIELD_INT32] = "integer", [FIELD_FLOAT] = "number"};
    cr_assert(property, "%s is not documented", field->name);
    json_t *type = json_object_get(property, "type");
    cr_assert_str_eq(json_string_value(json_array_get(type, 0)), types[field->kind], "%s",
                     field->name);
    cr_assert_str_eq(json_string_value(json_array_get(type, 1)), "null", "%s", field->name);
    if (field->kind == FIELD_BOOL) return;
    check_number(property, "minimum", field->minimum, field->name);
    double maximum =
        field->maximum == FIELD_MAXIMUM_N ? server_limits_default().max_n : field->maximum;
    /* Where the table has no bound of its own the context may be named: more never fits. */
    bool unbounded = field->maximum == INT32_MAX;
    json_t *named = json_object_get(property, "maximum");
    if (unbounded && json_integer_value(named) == CONTEXT) return;
    check_number(property, "maximum", maximum, field->name);
}

Test(openapi, every_field_of_the_table_has_its_type_and_range)
{
    json_t *root = default_document();
    size_t count;
    const struct api_field *fields = api_request_fields(&count);
    cr_assert_gt(count, 15);
    EACH_ENDPOINT(e)
    {
        json_t *documented = properties(root, e);
        for (size_t i = 0; i < count; i++)
            if (fields[i].endpoints & (int)endpoints[e].endpoint)
                check_field(&fields[i], json_object_get(documented, fields[i].name));
        json_decref(documented);
    }
    json_decref(root);
}

static bool parse(size_t endpoint, const char *rest, struct api_request *request,
                  struct api_error *error)
{
    const struct server_limits limits = server_limits_default();
    char body[256];
    snprintf(body, sizeof body, "%s%s}", endpoints[endpoint].body, rest);
    return api_request_parse(request, endpoints[endpoint].endpoint, body, strlen(body), &limits,
                             512, error);
}

/* A list of an empty object is no value of any field; the field itself replaces the one in the
 * body. */
static void check_read(size_t endpoint, const char *name)
{
    const struct server_limits limits = server_limits_default();
    struct api_request request;
    struct api_error error = {0};
    char text[256];
    snprintf(text, sizeof text, "%s}", endpoints[endpoint].body);
    json_t *root = json_loads(text, 0, NULL);
    /* /tokenize takes one of the two. */
    if (strcmp(name, "prompt") == 0) json_object_del(root, "messages");
    json_object_set_new(root, "stream", json_true()); /* stream_options asks for it */
    json_object_set_new(root, name, json_pack("[{}]"));
    char *body = json_dumps(root, 0);
    bool taken = api_request_parse(&request, endpoints[endpoint].endpoint, body, strlen(body),
                                   &limits, 512, &error);
    cr_assert_not(taken, "%s of %s is documented and not read", name, endpoints[endpoint].schema);
    cr_assert_eq(strncmp(error.param, name, strlen(name)), 0, "%s: %s", name, error.message);
    free(body);
    json_decref(root);
    api_request_release(&request);
}

Test(openapi, every_documented_field_is_read)
{
    json_t *root = default_document();
    EACH_ENDPOINT(e)
    {
        json_t *documented = properties(root, e), *property;
        const char *name;
        json_object_foreach(documented, name, property) check_read(e, name);
        json_decref(documented);
    }
    json_decref(root);
}

static void check_default(size_t endpoint, const char *name, json_t *value)
{
    struct api_request plain, given;
    struct api_error error = {0};
    char *text = json_dumps(value, JSON_ENCODE_ANY), rest[128];
    snprintf(rest, sizeof rest, ",\"%s\":%s", name, text);
    cr_assert(parse(endpoint, "", &plain, &error), "%s", error.message);
    cr_assert(parse(endpoint, rest, &given, &error), "%s: %s", name, error.message);
    /* What the completion endpoint does without max_tokens is decided by the room in the context.
     */
    if (plain.max_tokens == MAX_TOKENS_DEFAULT) given.max_tokens = MAX_TOKENS_DEFAULT;
    api_request_drop_document(&plain);
    api_request_drop_document(&given);
    cr_assert_arr_eq(&plain, &given, sizeof plain, "%s: %s is not its default", name, text);
    free(text);
    api_request_release(&plain);
    api_request_release(&given);
}

Test(openapi, every_documented_default_changes_nothing)
{
    json_t *root = default_document();
    int checked = 0;
    EACH_ENDPOINT(e)
    {
        json_t *documented = properties(root, e), *property, *value;
        const char *name;
        json_object_foreach(documented, name, property)
        {
            if (!(value = json_object_get(property, "default"))) continue;
            check_default(e, name, value);
            checked++;
        }
        json_decref(documented);
    }
    cr_assert_gt(checked, 30);
    json_decref(root);
}

Test(openapi, every_route_is_documented_and_every_path_is_a_route)
{
    json_t *root = default_document(), *paths = json_object_get(root, "paths"), *path;
    size_t count;
    const struct route *routes = routes_all(&count);
    cr_assert_eq(json_object_size(paths), count);
    for (size_t i = 0; i < count; i++) {
        path = json_object_get(paths, routes[i].path);
        cr_assert(path, "%s is not documented", routes[i].path);
        cr_assert_eq(json_object_size(path), 1);
        json_t *operation =
            json_object_get(path, strcmp(routes[i].method, "GET") == 0 ? "get" : "post");
        cr_assert(operation, "%s", routes[i].path);
        json_t *good = json_object_get(json_object_get(operation, "responses"), "200");
        char type[64];
        snprintf(type, sizeof type, "%.*s", (int)strcspn(routes[i].content_type, ";"),
                 routes[i].content_type);
        cr_assert(json_object_get(json_object_get(good, "content"), type), "%s: %s", routes[i].path,
                  type);
        bool open = json_array_size(json_object_get(operation, "security")) == 0 &&
                    json_object_get(operation, "security");
        cr_assert_eq(open, routes[i].public, "%s", routes[i].path);
    }
    json_decref(root);
}

Test(openapi, limits_names_and_keys_are_this_servers)
{
    struct server_options options = server_options_default();
    options.limits.max_n = 3;
    options.api_key_file = "a file";
    options.metrics_public = true;
    json_t *root = document(&options, "odd \xff \"name\"");
    json_t *model = json_object_get(schema(root, "Model"), "enum");
    cr_assert_str_eq(json_string_value(json_array_get(model, 0)), "odd \xef\xbf\xbd \"name\"");
    json_t *n = json_object_get(json_object_get(schema(root, "Generation"), "properties"), "n");
    cr_assert_eq(json_integer_value(json_object_get(n, "maximum")), 3);
    cr_assert_eq(json_array_size(json_object_get(root, "security")), 1);
    json_t *metrics =
        json_object_get(json_object_get(json_object_get(root, "paths"), "/metrics"), "get");
    cr_assert_eq(json_array_size(json_object_get(metrics, "security")), 0);
    cr_assert(json_object_get(metrics, "security"));
    json_decref(root);
    root = default_document();
    cr_assert_null(json_object_get(root, "security"));
    json_decref(root);
}
