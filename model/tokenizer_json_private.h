/* What the two halves of the tokenizer.json reader share. */
#ifndef MODEL_TOKENIZER_JSON_PRIVATE_H
#define MODEL_TOKENIZER_JSON_PRIVATE_H

#include "base/status.h"
#include "model/json_reader.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- readers. A missing key and null are the same thing. */

static inline const json_t *member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static inline const char *text_member(const json_t *object, const char *key)
{
    const char *text = json_string_value(member(object, key));
    return text ? text : "";
}

static inline bool true_member(const json_t *object, const char *key)
{
    return json_is_true(member(object, key));
}

static inline bool type_is(const json_t *object, const char *type)
{
    return !strcmp(text_member(object, "type"), type);
}

/* A JSON value as one short line, for messages. */
static inline const char *excerpt(const json_t *value, char buffer[200])
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    snprintf(buffer, 200, "%.160s", text ? text : "?");
    free(text);
    return buffer;
}

static inline enum status unsupported(struct error *err, const char *what, const json_t *found,
                                      const char *supported)
{
    char buffer[200];
    return fail(err, ST_UNSUPPORTED, "%s is %s; supported: %s", what, excerpt(found, buffer),
                supported);
}

/* A copy with a NUL behind it that lives as long as the spec, or NULL when out of memory. */
const char *tokenizer_json_keep(struct tokenizer_spec *spec, const char *text, size_t length);

/* normalizer, pre_tokenizer and decoder into the spec. */
enum status tokenizer_json_pipeline(const json_t *root, struct tokenizer_spec *spec,
                                    struct error *err);

/* post_processor; needs the tokens and the BOS that tokenizer_config.json names. */
enum status tokenizer_json_processor(const json_t *root, struct tokenizer_spec *spec,
                                     struct error *err);

/* The id of a special or added token by its text, or -1. */
int32_t tokenizer_json_find_added(const struct tokenizer_spec *spec, const char *text);

#endif
