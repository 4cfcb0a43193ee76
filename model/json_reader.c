#include "model/json_reader.h"
#include "model/mapped_file.h"

#include <stdio.h>
#include <stdlib.h>

/* Nesting before the parser recurses into it: brackets outside strings. */
static int nesting(const char *text, size_t length)
{
    int depth = 0, deepest = 0;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (quoted && c == '\\') {
            i++;
        } else if (c == '"') {
            quoted = !quoted;
        } else if (!quoted && (c == '{' || c == '[')) {
            if (++depth > deepest) deepest = depth;
        } else if (!quoted && (c == '}' || c == ']')) {
            depth--;
        }
    }
    return deepest;
}

enum status json_parse_object(const char *text, size_t length, int max_depth, json_t **out,
                              struct error *err)
{
    json_error_t why;
    int depth = nesting(text, length);
    if (depth > max_depth)
        return fail(err, ST_BAD_FILE, "JSON nested %d deep; allowed is %d", depth, max_depth);
    bool short_of_memory;
    json_t *value = json_load(text, length, JSON_REJECT_DUPLICATES, &why, &short_of_memory);
    if (short_of_memory)
        return fail(err, ST_NO_MEMORY, "no memory for a JSON document of %zu bytes", length);
    if (!value)
        return fail(err, ST_BAD_FILE, "line %d column %d: %s", why.line, why.column, why.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return fail(err, ST_BAD_FILE, "the JSON is no object");
    }
    *out = value;
    return ST_OK;
}

enum status json_read_object(const char *dir, const char *name, size_t limit, json_t **out,
                             struct error *err)
{
    char path[4096], *text;
    size_t length;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return fail(err, ST_INVALID, "%s/%s: the path is longer than %zu bytes", dir, name,
                    sizeof path - 1);
    enum status status = read_text_file(path, limit, &text, &length, err);
    if (status) return status;
    status = json_parse_object(text, length, 32, out, err);
    free(text);
    if (status) fail_prefix(err, "%s", path);
    return status;
}

static const char *type_words(const json_t *value)
{
    static const char *const words[] = {"an object", "an array", "a string", "an integer",
                                        "a real",    "true",     "false",    "null"};
    return words[json_typeof(value)];
}

/* NULL when absent or null. */
static const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value) ? value : NULL;
}

static enum status wrong_type(const char *key, const json_t *value, const char *wanted,
                              struct error *err)
{
    return fail(err, ST_BAD_FILE, "%s is %s; expected %s", key, type_words(value), wanted);
}

enum status json_get_int(const json_t *object, const char *key, int64_t minimum, int64_t maximum,
                         int64_t *out, struct error *err)
{
    const json_t *value = member(object, key);
    if (!value) return ST_OK;
    if (!json_is_integer(value)) return wrong_type(key, value, "an integer", err);
    int64_t found = json_integer_value(value);
    if (found < minimum || found > maximum)
        return fail(err, ST_BAD_FILE, "%s is %lld; allowed is %lld to %lld", key, (long long)found,
                    (long long)minimum, (long long)maximum);
    *out = found;
    return ST_OK;
}

enum status json_get_real(const json_t *object, const char *key, double *out, struct error *err)
{
    const json_t *value = member(object, key);
    if (!value) return ST_OK;
    if (!json_is_number(value)) return wrong_type(key, value, "a number", err);
    *out = json_number_value(value);
    return ST_OK;
}

enum status json_get_bool(const json_t *object, const char *key, bool *out, struct error *err)
{
    const json_t *value = member(object, key);
    if (!value) return ST_OK;
    if (!json_is_boolean(value)) return wrong_type(key, value, "true or false", err);
    *out = json_is_true(value);
    return ST_OK;
}

enum status json_get_string(const json_t *object, const char *key, const char **out,
                            struct error *err)
{
    const json_t *value = member(object, key);
    if (!value) return ST_OK;
    if (!json_is_string(value)) return wrong_type(key, value, "a string", err);
    *out = json_string_value(value);
    return ST_OK;
}

enum status json_get_object(const json_t *object, const char *key, const json_t **out,
                            struct error *err)
{
    const json_t *value = member(object, key);
    if (!value) return ST_OK;
    if (!json_is_object(value)) return wrong_type(key, value, "an object", err);
    *out = value;
    return ST_OK;
}
