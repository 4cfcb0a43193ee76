/* Profiles as JSON files; docs/workloads.md has the format in words. Reading is strict: a key that
 * is not known is named, with those that are. */
#include "traces/simulate/profile_private.h"

#include "base/base.h"
#include "traces/formats/json_values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* --- tables of what a file says */

enum field_kind { FIELD_DOUBLE, FIELD_INT32, FIELD_INT64 };

struct field {
    const char *key;
    enum field_kind kind;
    size_t offset;
    double low, high; /* allowed */
    double otherwise; /* NAN: the key must be there */
};

#define AT(member) offsetof(struct profile, member)

static const struct field profile_fields[] = {
    {"fixed_us", FIELD_DOUBLE, AT(fixed_us), 0, 1e9, 0},
    {"context_us", FIELD_DOUBLE, AT(context_us), 0, 1e6, 0},
    {"row_us", FIELD_DOUBLE, AT(row_us), 0, 1e9, 0},
    {"prefill_context_us", FIELD_DOUBLE, AT(prefill_context_us), 0, 1e6, 0},
    {"noise", FIELD_DOUBLE, AT(noise), 0, PROFILE_NOISE_MOST, 0},
    {"kv_tokens", FIELD_INT64, AT(kv_tokens), PROFILE_KV_TOKENS_LEAST, PROFILE_KV_TOKENS_MOST, NAN},
    {"max_rows", FIELD_INT32, AT(max_rows), 1, 1 << 16, 512},
    {"max_tokens", FIELD_INT32, AT(max_tokens), 1, 1 << 20, 8192},
    {"max_context", FIELD_INT32, AT(max_context), 2, 1 << 30, 131072},
    {"vocab", FIELD_INT32, AT(vocab), 1, 1 << 30, 151936},
    {"depth", FIELD_INT32, AT(depth), 1, 2, 1},
};

static const struct field base_us = {"base_us", FIELD_DOUBLE, AT(gemm.base_us), 0, 1e9, NAN},
                          token_us = {"token_us", FIELD_DOUBLE, AT(gemm.token_us), 0, 1e9, NAN},
                          power = {"power", FIELD_DOUBLE, AT(gemm.power), 1, 64, 4},
                          tile = {"tile", FIELD_INT32, AT(gemm.tile), 1, 1 << 20, NAN};

static const char *const form_names[] = {[GEMM_LINEAR] = "linear",
                                         [GEMM_ROOFLINE] = "roofline",
                                         [GEMM_POINTS] = "points",
                                         [GEMM_TILES] = "tiles"};
static const char *const shared_names[] = {
    [SHARED_NONE] = "none", [SHARED_SIBLINGS] = "siblings", [SHARED_BLOCKS] = "blocks"};

/* The keys of each form of gemm, "form" apart. */
static const struct field *const form_fields[][3] = {
    [GEMM_LINEAR] = {&base_us, &token_us},
    [GEMM_ROOFLINE] = {&base_us, &token_us, &power},
    [GEMM_POINTS] = {NULL},
    [GEMM_TILES] = {&tile},
};

static bool has_points(enum gemm_form form)
{
    return form == GEMM_POINTS || form == GEMM_TILES;
}

/* --- reading */

static void store(struct profile *profile, const struct field *field, double value)
{
    char *at = (char *)profile + field->offset;
    switch (field->kind) {
    case FIELD_DOUBLE:
        *(double *)at = value;
        break;
    case FIELD_INT32:
        *(int32_t *)at = (int32_t)value;
        break;
    case FIELD_INT64:
        *(int64_t *)at = (int64_t)value;
        break;
    }
}

static enum status read_field(const json_t *object, const struct field *field,
                              struct profile *profile, struct error *err)
{
    const json_t *found = json_object_get(object, field->key);
    bool whole = field->kind != FIELD_DOUBLE;
    if (!found && isnan(field->otherwise))
        return fail(err, ST_INVALID, "'%s' is missing; %s from %.10g to %.10g is expected",
                    field->key, whole ? "a whole number" : "a number", field->low, field->high);
    if (!found) {
        store(profile, field, field->otherwise);
        return ST_OK;
    }
    double value = json_number_value(found);
    if (!(whole ? json_is_integer(found) : json_is_number(found)) ||
        !(value >= field->low && value <= field->high)) {
        char text[64] = "not a number";
        if (json_is_number(found)) snprintf(text, sizeof text, "%.10g", value);
        return fail(err, ST_INVALID, "'%s' is %s; %s from %.10g to %.10g is allowed", field->key,
                    text, whole ? "a whole number" : "a number", field->low, field->high);
    }
    store(profile, field, value);
    return ST_OK;
}

/* -1: `text` is NULL or none of them. */
static int name_index(const char *const *names, size_t count, const char *text)
{
    for (size_t i = 0; text && i < count; i++)
        if (strcmp(names[i], text) == 0) return (int)i;
    return -1;
}

static enum status read_name(const json_t *object, const char *key, const char *const *names,
                             size_t count, int otherwise, int *index, struct error *err)
{
    const json_t *found = json_object_get(object, key);
    *index = found ? name_index(names, count, json_string_value(found)) : otherwise;
    if (*index >= 0) return ST_OK;
    struct strbuf list = {0};
    for (size_t i = 0; i < count; i++)
        strbuf_format(&list, "%s\"%s\"", i ? ", " : "", names[i]);
    const char *text = found ? json_string_value(found) : NULL;
    fail(err, ST_INVALID, "'%s' is %s%.40s%s; allowed are %s", key, text ? "\"" : "",
         text ? text : (found ? "not a string" : "missing"), text ? "\"" : "", strbuf_cstr(&list));
    strbuf_free(&list);
    return ST_INVALID;
}

static enum status read_point(const json_t *json, size_t at, struct gemm_model *gemm,
                              struct error *err)
{
    const json_t *tokens = json_array_get(json, 0), *us = json_array_get(json, 1);
    struct gemm_point *point = &gemm->points[at];
    if (!json_is_array(json) || json_array_size(json) != 2 || !json_is_number(tokens) ||
        !json_is_number(us))
        return fail(err, ST_INVALID, "'points'[%zu] is not a pair of numbers [tokens, us]", at);
    *point = (struct gemm_point){json_number_value(tokens), json_number_value(us)};
    if (!(point->tokens > 0 && point->tokens <= 1e9 && point->us >= 0 && point->us <= 1e9))
        return fail(err, ST_INVALID,
                    "'points'[%zu] is [%.10g, %.10g]; tokens above 0 and us from 0 are allowed, "
                    "both to 1000000000",
                    at, point->tokens, point->us);
    if (at > 0 && point->tokens <= point[-1].tokens)
        return fail(err, ST_INVALID,
                    "'points'[%zu] is at %.10g tokens, not above the %.10g before it", at,
                    point->tokens, point[-1].tokens);
    gemm->count++;
    return ST_OK;
}

static enum status read_points(const json_t *object, struct gemm_model *gemm, struct error *err)
{
    const json_t *points = json_object_get(object, "points");
    size_t count = json_array_size(points);
    if (!json_is_array(points) || count < 1 || count > GEMM_POINTS_MAX)
        return fail(err, ST_INVALID,
                    "'points' is no list of 1 to %d pairs [tokens, us], tokens ascending",
                    GEMM_POINTS_MAX);
    for (size_t i = 0; i < count; i++) {
        enum status status = read_point(json_array_get(points, i), i, gemm, err);
        if (status) return status;
    }
    return ST_OK;
}

/* Every key of the object is among keys[count]. */
static enum status check_keys(json_t *object, const char *const *keys, size_t count,
                              struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (name_index(keys, count, key) >= 0) continue;
        struct strbuf list = {0};
        for (size_t i = 0; i < count; i++)
            strbuf_format(&list, "%s%s", i ? ", " : "", keys[i]);
        fail(err, ST_INVALID, "'%.40s' is no key here; allowed are %s", key, strbuf_cstr(&list));
        strbuf_free(&list);
        return ST_INVALID;
    }
    return ST_OK;
}

static enum status read_gemm(json_t *object, struct profile *profile, struct error *err)
{
    const char *keys[8];
    size_t count = 0;
    int form;
    if (!json_is_object(object))
        return fail(err, ST_INVALID, "'gemm' is %s; an object with a \"form\" is expected",
                    object ? "not an object" : "missing");
    enum status status =
        read_name(object, "form", form_names, COUNT_OF(form_names), -1, &form, err);
    if (status) return fail_prefix(err, "'gemm'");
    profile->gemm.form = (enum gemm_form)form;
    keys[count++] = "form";
    for (size_t i = 0; i < COUNT_OF(form_fields[0]) && form_fields[form][i] && !status; i++) {
        keys[count++] = form_fields[form][i]->key;
        status = read_field(object, form_fields[form][i], profile, err);
    }
    if (!status && has_points(profile->gemm.form)) {
        keys[count++] = "points";
        status = read_points(object, &profile->gemm, err);
    }
    if (!status) status = check_keys(object, keys, count, err);
    return status ? fail_prefix(err, "'gemm' of form \"%s\"", form_names[form]) : ST_OK;
}

static enum status check_marker(const json_t *root, struct error *err)
{
    const json_t *marker = json_object_get(root, "espalier_profile");
    if (json_is_integer(marker) && json_integer_value(marker) == 1) return ST_OK;
    return fail(err, ST_INVALID,
                "'espalier_profile' is %s; a profile is an object with \"espalier_profile\": 1",
                marker ? "not 1" : "missing");
}

static enum status read_profile_name(const json_t *root, struct profile *profile, struct error *err)
{
    const char *name = json_string_value(json_object_get(root, "name"));
    if (!name || !name[0] || strlen(name) >= sizeof profile->name)
        return fail(err, ST_INVALID, "'name' is %s; a text of 1 to %zu bytes is expected",
                    name ? "of another length" : "missing or not a string",
                    sizeof profile->name - 1);
    snprintf(profile->name, sizeof profile->name, "%s", name);
    make_printable(profile->name);
    return ST_OK;
}

static enum status read_object(json_t *root, struct profile *profile, struct error *err)
{
    const char *keys[COUNT_OF(profile_fields) + 8] = {"espalier_profile", "name", "about", "gemm",
                                                      "shared_prefix"};
    size_t count = 5;
    int shared = 0;
    enum status status = check_marker(root, err);
    if (!status) status = read_profile_name(root, profile, err);
    for (size_t i = 0; i < COUNT_OF(profile_fields); i++) {
        keys[count++] = profile_fields[i].key;
        if (!status) status = read_field(root, &profile_fields[i], profile, err);
    }
    if (!status)
        status = read_name(root, "shared_prefix", shared_names, COUNT_OF(shared_names), SHARED_NONE,
                           &shared, err);
    profile->shared = (enum shared_prefix)shared;
    if (!status) status = read_gemm(json_object_get(root, "gemm"), profile, err);
    return status ? status : check_keys(root, keys, count, err);
}

enum status profile_read(const char *path, struct profile *profile, struct error *err)
{
    json_error_t wrong;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &wrong);
    *profile = (struct profile){0};
    if (!root && wrong.line < 0) return fail(err, ST_IO, "%s: %s", path, wrong.text);
    if (!root)
        return fail(err, ST_INVALID, "%s: line %d, column %d: %s", path, wrong.line, wrong.column,
                    json_problem(&wrong));
    enum status status = read_object(root, profile, err);
    json_decref(root);
    return status ? fail_prefix(err, "%s", path) : ST_OK;
}

/* --- writing */

static json_t *field_json(const struct profile *profile, const struct field *field)
{
    const char *at = (const char *)profile + field->offset;
    switch (field->kind) {
    case FIELD_DOUBLE:
        return json_real(*(const double *)at);
    case FIELD_INT32:
        return json_integer(*(const int32_t *)at);
    case FIELD_INT64:
        return json_integer(*(const int64_t *)at);
    }
    return NULL;
}

static json_t *gemm_json(const struct profile *profile)
{
    const struct gemm_model *gemm = &profile->gemm;
    json_t *object = json_object();
    json_object_set_new(object, "form", json_string(form_names[gemm->form]));
    for (size_t i = 0; i < COUNT_OF(form_fields[0]) && form_fields[gemm->form][i]; i++) {
        const struct field *field = form_fields[gemm->form][i];
        json_object_set_new(object, field->key, field_json(profile, field));
    }
    if (!has_points(gemm->form)) return object;
    json_t *points = json_array();
    for (int32_t i = 0; i < gemm->count; i++)
        json_array_append_new(points,
                              json_pack("[f,f]", gemm->points[i].tokens, gemm->points[i].us));
    json_object_set_new(object, "points", points);
    return object;
}

json_t *profile_json(const struct profile *profile)
{
    json_t *root = json_object();
    json_object_set_new(root, "espalier_profile", json_integer(1));
    json_object_set_new(root, "name", json_string(profile->name));
    for (size_t i = 0; i < COUNT_OF(profile_fields); i++)
        json_object_set_new(root, profile_fields[i].key, field_json(profile, &profile_fields[i]));
    json_object_set_new(root, "shared_prefix", json_string(shared_names[profile->shared]));
    json_object_set_new(root, "gemm", gemm_json(profile));
    return root;
}
