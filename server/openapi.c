#include "server/openapi.h"
#include "base/alloc.h"
#include "base/base.h"
#include "server/api_error.h"
#include "server/render.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

extern const char openapi_json[]; /* CMakeLists.txt: embed() */
extern const size_t openapi_json_size;

static json_t *refusal_codes(void)
{
    json_t *codes = json_array();
    for (int i = 0; i < REFUSALS; i++)
        json_array_append_new(codes, json_string(refusal_code((enum refusal)i)));
    return codes;
}

/* As the API writes it: bytes that are no UTF-8 become U+FFFD, which Jansson would refuse. */
static json_t *model_name(const struct served_model *model)
{
    struct strbuf text = {0};
    render_json_string(&text, model->name, strlen(model->name));
    json_t *name = json_loads(strbuf_cstr(&text), JSON_DECODE_ANY, NULL);
    strbuf_free(&text);
    return name;
}

static json_t *values_of(const struct server_limits *limits, const struct served_model *model)
{
    const struct {
        const char *name;
        int32_t value;
    } numbers[] = {
        {"max_n", limits->max_n},
        {"max_prompts", limits->max_prompts},
        {"max_stages", limits->max_stages},
        {"max_branches", limits->max_branches},
        {"max_messages", limits->max_messages},
        {"max_stops", limits->max_stops},
        {"max_stop_bytes", limits->max_stop_bytes},
        {"max_stop_ids", limits->max_stop_ids},
        {"max_logit_bias", limits->max_logit_bias},
        {"max_logprobs", limits->max_logprobs},
        {"context", model->context},
        {"last_token", model->vocab - 1},
    };
    json_t *values = json_object();
    for (size_t i = 0; i < COUNT_OF(numbers); i++)
        json_object_set_new(values, numbers[i].name, json_integer(numbers[i].value));
    json_object_set_new(values, "model", model_name(model));
    json_object_set_new(values, "version", json_string(ESPALIER_VERSION));
    json_object_set_new(values, "codes", refusal_codes());
    return values;
}

/* The value that takes the place of `part`; NULL where it stays. */
static json_t *filling(const json_t *part, const json_t *values)
{
    const char *name = json_string_value(json_object_get(part, "$fill"));
    if (!name) return NULL;
    json_t *value = json_object_get(values, name);
    if (!value) die("openapi.json: nothing is called %s", name);
    return value;
}

static void fill(json_t *part, const json_t *values)
{
    const char *key;
    size_t index;
    json_t *child, *value;
    json_object_foreach(part, key, child)
    {
        value = filling(child, values);
        if (value)
            json_object_set(part, key, value);
        else
            fill(child, values);
    }
    json_array_foreach(part, index, child)
    {
        value = filling(child, values);
        if (value)
            json_array_set(part, index, value);
        else
            fill(child, values);
    }
}

/* Which operations ask for a key: all or none, but for those that say so themselves. */
static void fill_security(json_t *root, const struct server_options *options)
{
    if (!options->api_key_file) return;
    json_object_set_new(root, "security", json_pack("[{s:[]}]", "key"));
    if (!options->metrics_public) return;
    json_t *path = json_object_get(json_object_get(root, "paths"), "/metrics");
    json_object_set_new(json_object_get(path, "get"), "security", json_array());
}

void openapi_render(const struct server_options *options, const struct served_model *model,
                    struct strbuf *out)
{
    json_error_t where;
    json_t *root = json_loadb(openapi_json, openapi_json_size, JSON_REJECT_DUPLICATES, &where);
    if (!root) die("openapi.json: line %d: %s", where.line, where.text);
    json_t *values = values_of(&options->limits, model);
    fill(root, values);
    fill_security(root, options);
    char *text = json_dumps(root, JSON_COMPACT);
    if (!text) die("out of memory");
    strbuf_text(out, text);
    free(text);
    json_decref(values);
    json_decref(root);
}
