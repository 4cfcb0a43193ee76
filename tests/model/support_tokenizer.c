#include "support_tokenizer.h"
#include "model/checkpoint.h"
#include "model/tokenizer_json.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *golden_path(const char *set, const char *file)
{
    static char path[1024];
    const char *root = getenv("ESPALIER_TEST_GOLDEN");
    snprintf(path, sizeof path, "%s/%s%s%s", root ? root : TEST_DATA "/golden", set,
             *file ? "/" : "", file);
    return path;
}

json_t *golden_json(const char *set, const char *file)
{
    const char *path = golden_path(set, file);
    json_error_t where;
    if (access(path, R_OK)) return NULL;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &where);
    cr_assert(root, "%s: line %d: %s", path, where.line, where.text);
    return root;
}

static struct tokenizer *create(const struct tokenizer_spec *spec, char **jinja)
{
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    cr_assert_eq(tokenizer_create(spec, &tokenizer, &err), ST_OK, "%s", err.text);
    if (jinja) *jinja = spec->chat_template ? must_strdup(spec->chat_template) : NULL;
    return tokenizer;
}

struct tokenizer *golden_tokenizer(const char *set, char **jinja)
{
    struct tokenizer_spec spec;
    struct error err = {0};
    cr_assert_eq(tokenizer_spec_from_json(golden_path(set, ""), &spec, &err), ST_OK, "%s",
                 err.text);
    struct tokenizer *tokenizer = create(&spec, jinja);
    tokenizer_spec_free(&spec);
    return tokenizer;
}

struct tokenizer *default_tokenizer(char **jinja)
{
    const char *path = getenv("ESPALIER_TEST_MODEL");
    struct checkpoint *checkpoint;
    struct error err = {0};
    if (!path) path = SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (access(path, R_OK)) return NULL;
    cr_assert_eq(checkpoint_open(path, &checkpoint, &err), ST_OK, "%s", err.text);
    struct tokenizer *tokenizer = create(checkpoint_tokenizer(checkpoint), jinja);
    checkpoint_close(checkpoint);
    return tokenizer;
}

void check_ids(const struct token_list *found, const json_t *expected, const char *what)
{
    size_t count = json_array_size(expected);
    for (size_t i = 0; i < count && i < found->count; i++) {
        int32_t id = (int32_t)json_integer_value(json_array_get(expected, i));
        cr_assert_eq(found->ids[i], id, "%s: token %zu is %d, expected %d", what, i, found->ids[i],
                     id);
    }
    cr_assert_eq(found->count, count, "%s: %zu tokens, expected %zu", what, found->count, count);
}

struct token_list encode(const struct tokenizer *tokenizer, const char *text, size_t length,
                         bool parse_special)
{
    struct token_list list = {0};
    struct error err = {0};
    cr_assert_eq(tokenizer_encode(tokenizer, text, length, parse_special, &list, &err), ST_OK, "%s",
                 err.text);
    return list;
}
