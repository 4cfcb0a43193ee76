#include "base/alloc.h"
#include "base/base.h"
#include "model/json_reader.h"
#include "server/generate.h"
#include "server/request_content.h"
#include "server/request_stages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTLINE_NAME   "--outline"
#define OUTLINE_TOKENS 64 /* of an item, where --max-tokens does not say */

/* After the "skeleton of thought" (Ning et al. 2023): the points first, then each of them by
 * itself. A small model goes on with a list for ever: the ninth item ends it. */
static const char outline_stages[] =
    "[{\"type\": \"serial\", \"prompt\": \"Outline:\\n1.\", \"max_tokens\": 160,"
    "  \"stop\": [\"\\n\\n\", \"\\n9.\"]},"
    " {\"type\": \"parallel\", \"stop\": \"\\n\", \"branches\": {\"from\": \"outline\", \"max\": 8,"
    "  \"prompt\": \"\\n\\n**{item}**\\nThis means\"}},"
    " {\"type\": \"serial\", \"prompt\": \"\\n\\nIn summary,\", \"max_tokens\": 64,"
    "  \"stop\": \"\\n\\n\"}]";

/* --- bytes to JSON */

static enum status read_stream(FILE *in, size_t most, struct strbuf *text, struct error *err)
{
    char chunk[4096];
    size_t got;
    while (text->length <= most && (got = fread(chunk, 1, sizeof chunk, in)) > 0)
        strbuf_append(text, chunk, got);
    if (ferror(in)) return fail(err, ST_IO, "%s", strerror(errno));
    if (text->length > most)
        return fail(err, ST_BAD_FILE, "it is larger than %zu bytes, which is the most allowed",
                    most);
    return ST_OK;
}

static enum status read_bytes(const char *path, size_t most, struct strbuf *text, struct error *err)
{
    FILE *in = fopen(path, "rb");
    if (!in)
        return fail(err, errno == ENOENT ? ST_NOT_FOUND : ST_IO, "cannot open: %s",
                    strerror(errno));
    enum status status = read_stream(in, most, text, err);
    fclose(in);
    return status;
}

static enum status parse_json(const char *text, size_t length, int32_t depth, json_t **out,
                              struct error *err)
{
    json_error_t where;
    bool short_of_memory;
    if (!json_depth_within(text, length, depth))
        return fail(err, ST_BAD_FILE, "the JSON nests deeper than %d levels", depth);
    *out =
        json_load(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where, &short_of_memory);
    if (short_of_memory) return fail(err, ST_NO_MEMORY, "there is no memory for its JSON");
    if (*out) return ST_OK;
    return fail(err, ST_BAD_FILE, "it is not valid JSON: %s (line %d, column %d, byte %d)",
                where.text, where.line, where.column, where.position);
}

/* --- JSON to stages */

#define ALLOWED "allowed is a list of stages, or an object with \"stages\" or \"branching\""

/* What a request would have: an object with the one field. Takes `value`. */
static enum status as_request(json_t *value, json_t **out, struct error *err)
{
    const char *name;
    json_t *field;
    if (json_is_array(value)) {
        *out = json_pack("{s:o}", "stages", value);
        return *out ? ST_OK : fail(err, ST_NO_MEMORY, "there is no memory for its JSON");
    }
    *out = value;
    if (!json_is_object(value))
        return fail(err, ST_BAD_FILE, "found %s; " ALLOWED, json_type_name(value));
    bool some = false;
    json_object_foreach(value, name, field)
    {
        if (strcmp(name, "stages") != 0 && strcmp(name, "branching") != 0)
            return fail(err, ST_BAD_FILE, "found the field \"%.60s\"; " ALLOWED, name);
        some |= !json_is_null(field);
    }
    return some ? ST_OK : fail(err, ST_BAD_FILE, "found no stages; " ALLOWED);
}

static enum status check_fields(struct stage_file *file, struct error *err)
{
    struct api_error refused = {0};
    if (parse_stages(&file->request, &file->limits, INT32_MAX, &refused) &&
        parse_branching(&file->request, &refused))
        return ST_OK;
    return fail(err, refused.refusal == REFUSAL_NO_MEMORY ? ST_NO_MEMORY : ST_BAD_FILE, "%s",
                refused.message);
}

static int32_t default_tokens(const struct generate_options *o)
{
    if (o->max_tokens) return (int32_t)o->max_tokens;
    return o->outline ? OUTLINE_TOKENS : MAX_TOKENS_DEFAULT;
}

enum status stage_file_read(const struct generate_options *o, struct stage_file *file,
                            struct error *err)
{
    struct strbuf text = {0};
    json_t *value = NULL;
    file->name = o->outline ? OUTLINE_NAME : o->stages;
    file->limits = server_limits_default();
    file->request = (struct api_request){
        .endpoint = o->chat ? API_CHAT : API_COMPLETIONS, .n = 1, .max_tokens = default_tokens(o)};
    enum status status = ST_OK;
    if (o->outline)
        strbuf_text(&text, outline_stages);
    else
        status = read_bytes(o->stages, (size_t)file->limits.max_body, &text, err);
    if (!status)
        status = parse_json(strbuf_cstr(&text), text.length, file->limits.max_depth, &value, err);
    if (!status) status = as_request(value, &file->request.root, err);
    if (!status) status = check_fields(file, err);
    strbuf_free(&text);
    return status ? fail_prefix(err, "%s", file->name) : ST_OK;
}

void stage_file_release(struct stage_file *file)
{
    release_stages(&file->request);
    json_decref(file->request.root);
    *file = (struct stage_file){0};
}

/* --- what the model has to do with it */

static enum status check_prompt(const struct api_prompt *prompt, int32_t vocab, struct error *err)
{
    for (size_t i = 0; i < prompt->id_count; i++)
        if (prompt->ids[i] >= vocab)
            return fail(err, ST_BAD_FILE, "prompt[%zu] is %d; the model has the token ids 0 to %d",
                        i, prompt->ids[i], vocab - 1);
    return ST_OK;
}

enum status stage_file_check_ids(const struct stage_file *file, int32_t vocab, struct error *err)
{
    for (size_t i = 0; i < file->request.stage_count; i++) {
        const struct api_stage *stage = &file->request.stages[i];
        for (size_t j = 0; j < stage->branch_count; j++) {
            if (!check_prompt(&stage->branches[j].prompt, vocab, err)) continue;
            if (stage->parallel) fail_prefix(err, "branches[%zu]", j);
            return fail_prefix(err, "%s: stages[%zu]", file->name, i);
        }
    }
    return ST_OK;
}

int32_t stage_file_width(const struct stage_file *file)
{
    int32_t width = file->request.grammar ? file->limits.max_branches : 1;
    for (size_t i = 0; i < file->request.stage_count; i++) {
        const struct api_stage *stage = &file->request.stages[i];
        width = max_i32(width, stage->outline ? stage->outline_max : (int32_t)stage->branch_count);
    }
    return width;
}
