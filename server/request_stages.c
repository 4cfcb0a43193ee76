#include "server/request_stages.h"
#include "base/alloc.h"
#include "base/base.h"
#include "server/request_content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTLINE_MAX_DEFAULT 32
#define PATH_LENGTH         64

struct reader {
    struct api_request *request;
    const struct server_limits *limits;
    int32_t vocab;
    struct api_error *error;
};

/* --- names */

struct kind {
    const char *what;
    const char *names[4]; /* that it takes */
};
static const struct kind serial_kind = {"a serial stage", {"type", "prompt", "max_tokens", "stop"}};
static const struct kind parallel_kind = {"a parallel stage",
                                          {"type", "branches", "max_tokens", "stop"}};
static const struct kind branch_kind = {"a branch", {"prompt", "max_tokens"}};
static const struct kind outline_kind = {"an outline", {"from", "max", "prompt", "max_tokens"}};
static const struct kind branching_kind = {"branching", {"grammar"}};

static bool takes(const struct kind *kind, const char *name)
{
    for (size_t i = 0; i < COUNT_OF(kind->names) && kind->names[i]; i++)
        if (strcmp(kind->names[i], name) == 0) return true;
    return false;
}

static bool refuse_name(const char *path, const char *name, const struct kind *kind,
                        struct api_error *error)
{
    char param[PATH_LENGTH], allowed[80] = "";
    snprintf(param, sizeof param, "%.40s.%.20s", path, name);
    for (size_t i = 0; i < COUNT_OF(kind->names) && kind->names[i]; i++) {
        size_t used = strlen(allowed);
        snprintf(allowed + used, sizeof allowed - used, i ? ", %s" : "%s", kind->names[i]);
    }
    return refuse(error, REFUSAL_INVALID_VALUE, param, "%s is not allowed; %s takes %s", param,
                  kind->what, allowed);
}

/* Whether it would put stages into a stage. */
static bool nests(const struct kind *kind, const char *name, const json_t *value)
{
    if (strcmp(name, "stages") == 0) return true;
    if (kind != &branch_kind && kind != &outline_kind) return false;
    const char *type = strcmp(name, "type") == 0 ? json_word(value) : NULL;
    return strcmp(name, "branches") == 0 || (type && strcmp(type, "parallel") == 0);
}

static bool refuse_nested(const char *path, const char *name, struct api_error *error)
{
    char param[PATH_LENGTH];
    snprintf(param, sizeof param, "%.40s.%s", path, name);
    return refuse(error, REFUSAL_UNSUPPORTED, param,
                  "%s: nested parallel stages are not supported; stages follow one another in the "
                  "list \"stages\"",
                  param);
}

/* An object in which only the kind's names are given. */
static bool check_names(json_t *object, const char *path, const struct kind *kind,
                        struct api_error *error)
{
    if (!json_is_object(object))
        return refuse(error, REFUSAL_INVALID_TYPE, path, "%s must be an object, not %s", path,
                      json_type_name(object));
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (json_is_null(value) || takes(kind, name)) continue;
        if (nests(kind, name, value)) return refuse_nested(path, name, error);
        return refuse_name(path, name, kind, error);
    }
    return true;
}

/* --- one branch */

static bool read_max_tokens(const json_t *object, const char *path, int32_t inherited, int32_t *out,
                            struct api_error *error)
{
    const json_t *value = json_field(object, "max_tokens");
    *out = inherited;
    if (!value) return true;
    char name[PATH_LENGTH];
    int64_t number;
    snprintf(name, sizeof name, "%.40s.max_tokens", path);
    if (!json_to_int(value, name, 0, INT32_MAX, &number, error)) return false;
    *out = (int32_t)number;
    return true;
}

/* What a serial stage, a branch and an outline have in common. */
static bool read_branch(const struct reader *r, const json_t *object, const char *path,
                        int32_t inherited, struct api_branch *branch)
{
    char name[PATH_LENGTH];
    snprintf(name, sizeof name, "%.40s.prompt", path);
    const json_t *prompt = json_field(object, "prompt");
    if (prompt && !parse_prompt(prompt, name, r->vocab, &branch->prompt, r->error)) return false;
    if (!read_max_tokens(object, path, inherited, &branch->max_tokens, r->error)) return false;
    if (branch->max_tokens != MAX_TOKENS_DEFAULT) return true;
    snprintf(name, sizeof name, "%.40s.max_tokens", path);
    return refuse(r->error, REFUSAL_INVALID_VALUE, name,
                  "%s is required: nothing around it has a max_tokens", name);
}

static bool alloc_branches(const struct reader *r, struct api_stage *stage, size_t count)
{
    stage->branches = try_alloc(count, sizeof *stage->branches);
    if (!stage->branches) return refuse_memory(r->error);
    stage->branch_count = count;
    return true;
}

/* --- one stage */

static bool read_list(const struct reader *r, const json_t *list, const char *path,
                      int32_t inherited, struct api_stage *stage)
{
    size_t count = json_array_size(list);
    if (count == 0 || count > (size_t)r->limits->max_branches)
        return refuse(r->error, REFUSAL_INVALID_VALUE, path,
                      "%s holds %zu branches; 1 to %d are allowed", path, count,
                      r->limits->max_branches);
    if (!alloc_branches(r, stage, count)) return false;
    for (size_t i = 0; i < count; i++) {
        char name[PATH_LENGTH];
        json_t *branch = json_array_get(list, i);
        snprintf(name, sizeof name, "%.40s[%zu]", path, i);
        if (!check_names(branch, name, &branch_kind, r->error) ||
            !read_branch(r, branch, name, inherited, &stage->branches[i]))
            return false;
    }
    return true;
}

/* Where its items come from and how many branches they may make. */
static bool read_source(const struct reader *r, const json_t *outline, const char *path,
                        struct api_stage *stage)
{
    char name[PATH_LENGTH];
    snprintf(name, sizeof name, "%.40s.from", path);
    const char *from = json_word(json_object_get(outline, "from"));
    if (!from || strcmp(from, "outline") != 0)
        return refuse(r->error, REFUSAL_INVALID_VALUE, name, "%s must be \"outline\"", name);
    if (stage == r->request->stages || stage[-1].parallel)
        return refuse(r->error, REFUSAL_INVALID_VALUE, name,
                      "%s: an outline is read from the serial stage just before; there is none",
                      name);
    int64_t most = min_i32(OUTLINE_MAX_DEFAULT, r->limits->max_branches);
    const json_t *max = json_field(outline, "max");
    snprintf(name, sizeof name, "%.40s.max", path);
    if (max && !json_to_int(max, name, 1, r->limits->max_branches, &most, r->error)) return false;
    stage->outline = true;
    stage->outline_max = (int32_t)most;
    return true;
}

static bool read_outline(const struct reader *r, json_t *outline, const char *path,
                         int32_t inherited, struct api_stage *stage)
{
    if (!check_names(outline, path, &outline_kind, r->error) ||
        !read_source(r, outline, path, stage))
        return false;
    if (!json_is_string(json_object_get(outline, "prompt"))) {
        char name[PATH_LENGTH];
        snprintf(name, sizeof name, "%.40s.prompt", path);
        return refuse(r->error, REFUSAL_INVALID_TYPE, name,
                      "%s must be a string, in which {item} and {index} are replaced", name);
    }
    return alloc_branches(r, stage, 1) &&
           read_branch(r, outline, path, inherited, &stage->branches[0]);
}

static bool read_parallel(const struct reader *r, const json_t *object, const char *path,
                          int32_t inherited, struct api_stage *stage)
{
    if (!read_max_tokens(object, path, inherited, &inherited, r->error)) return false;
    char name[PATH_LENGTH];
    snprintf(name, sizeof name, "%.40s.branches", path);
    json_t *branches = json_object_get(object, "branches");
    if (json_is_array(branches)) return read_list(r, branches, name, inherited, stage);
    if (json_is_object(branches)) return read_outline(r, branches, name, inherited, stage);
    return refuse(r->error, REFUSAL_INVALID_TYPE, name,
                  "%s must be a list of branches or {\"from\": \"outline\", ...}, not %s", name,
                  branches ? json_type_name(branches) : "absent");
}

/* The stage's own, or a copy of the request's list. */
static bool read_stops(const struct reader *r, const json_t *object, const char *path,
                       struct api_stage *stage)
{
    char name[PATH_LENGTH];
    snprintf(name, sizeof name, "%.40s.stop", path);
    const json_t *value = json_field(object, "stop");
    if (value)
        return parse_stop_list(value, name, r->limits, &stage->stops, &stage->stop_count, r->error);
    const struct api_request *request = r->request;
    if (!request->stop_count) return true;
    stage->stops = try_alloc(request->stop_count, sizeof *stage->stops);
    if (!stage->stops) return refuse_memory(r->error);
    memcpy(stage->stops, request->stops, request->stop_count * sizeof *stage->stops);
    stage->stop_count = request->stop_count;
    return true;
}

static bool read_type(const json_t *object, const char *path, bool *parallel,
                      struct api_error *error)
{
    if (!json_is_object(object))
        return refuse(error, REFUSAL_INVALID_TYPE, path, "%s must be an object, not %s", path,
                      json_type_name(object));
    const char *type = json_word(json_object_get(object, "type"));
    *parallel = type && strcmp(type, "parallel") == 0;
    if (*parallel || (type && strcmp(type, "serial") == 0)) return true;
    char name[PATH_LENGTH];
    snprintf(name, sizeof name, "%.40s.type", path);
    return refuse(error, REFUSAL_INVALID_VALUE, name, "%s must be \"serial\" or \"parallel\"",
                  name);
}

static bool read_stage(const struct reader *r, json_t *object, size_t index)
{
    char path[PATH_LENGTH];
    snprintf(path, sizeof path, "stages[%zu]", index);
    struct api_stage *stage = &r->request->stages[index];
    if (!read_type(object, path, &stage->parallel, r->error) ||
        !check_names(object, path, stage->parallel ? &parallel_kind : &serial_kind, r->error) ||
        !read_stops(r, object, path, stage))
        return false;
    int32_t inherited = r->request->max_tokens;
    if (inherited == MAX_TOKENS_DEFAULT && r->request->endpoint == API_COMPLETIONS)
        inherited = MAX_TOKENS_COMPLETIONS;
    if (stage->parallel) return read_parallel(r, object, path, inherited, stage);
    return alloc_branches(r, stage, 1) &&
           read_branch(r, object, path, inherited, &stage->branches[0]);
}

/* --- the whole */

/* What has no meaning beside branches. */
static bool check_company(const struct api_request *request, const char *name,
                          struct api_error *error)
{
    if (request->n > 1)
        return refuse(error, REFUSAL_INVALID_VALUE, "n", "n must be 1 with %s, not %d", name,
                      request->n);
    if (request->prompt_count > 1)
        return refuse(error, REFUSAL_INVALID_VALUE, "prompt",
                      "prompt must be one prompt with %s, not %zu", name, request->prompt_count);
    if (request->min_tokens > 0)
        return refuse(error, REFUSAL_INVALID_VALUE, "min_tokens",
                      "min_tokens must be 0 with %s, not %d", name, request->min_tokens);
    if (request->echo && request->sample.want_logprob)
        return refuse(error, REFUSAL_UNSUPPORTED, "echo",
                      "echo with logprobs is not supported with %s", name);
    return true;
}

/* As many as there can be: an outline may have all the items it is allowed. */
static bool check_sequences(const struct reader *r)
{
    const struct api_request *request = r->request;
    uint64_t sequences = 0; /* of limited numbers of limited size: no overflow */
    for (size_t i = 0; i < request->stage_count; i++) {
        const struct api_stage *stage = &request->stages[i];
        sequences += stage->outline ? (uint64_t)stage->outline_max : stage->branch_count;
    }
    if (sequences <= (uint64_t)r->limits->max_sequences) return true;
    return refuse(r->error, REFUSAL_INVALID_VALUE, "stages",
                  "stages may make %llu sequences (the branches of all stages; a serial stage is "
                  "one, an outline its max); at most %d are allowed",
                  (unsigned long long)sequences, r->limits->max_sequences);
}

bool parse_stages(struct api_request *request, const struct server_limits *limits, int32_t vocab,
                  struct api_error *error)
{
    json_t *list = json_object_get(request->root, "stages");
    if (!list || json_is_null(list)) return true;
    if (!json_is_array(list))
        return refuse(error, REFUSAL_INVALID_TYPE, "stages", "stages must be a list, not %s",
                      json_type_name(list));
    size_t count = json_array_size(list);
    if (count == 0 || count > (size_t)limits->max_stages)
        return refuse(error, REFUSAL_INVALID_VALUE, "stages",
                      "stages holds %zu stages; 1 to %d are allowed", count, limits->max_stages);
    if (!check_company(request, "stages", error)) return false;
    request->stages = try_alloc(count, sizeof *request->stages);
    if (!request->stages) return refuse_memory(error);
    request->stage_count = count;
    request->stage_texts = json_incref(list);
    request->stop_texts = json_incref(json_object_get(request->root, "stop"));
    const struct reader reader = {request, limits, vocab, error};
    for (size_t i = 0; i < count; i++)
        if (!read_stage(&reader, json_array_get(list, i), i)) return false;
    return check_sequences(&reader);
}

bool parse_branching(struct api_request *request, struct api_error *error)
{
    json_t *branching = json_object_get(request->root, "branching");
    if (!branching || json_is_null(branching)) return true;
    if (!check_names(branching, "branching", &branching_kind, error)) return false;
    if (request->stage_count)
        return refuse(error, REFUSAL_INVALID_VALUE, "branching",
                      "give stages or branching, not both");
    json_t *grammar = json_object_get(branching, "grammar");
    if (!grammar || json_is_null(grammar))
        return refuse(error, REFUSAL_INVALID_VALUE, "branching.grammar",
                      "branching.grammar is required: \"multiverse\", \"npr\" or an object");
    request->grammar = try_alloc(1, sizeof *request->grammar);
    if (!request->grammar) return refuse_memory(error);
    return tag_grammar_read(grammar, request->grammar, error) &&
           check_company(request, "branching", error);
}

void release_stages(struct api_request *request)
{
    for (size_t i = 0; request->stages && i < request->stage_count; i++) {
        struct api_stage *stage = &request->stages[i];
        for (size_t j = 0; j < stage->branch_count; j++)
            free(stage->branches[j].prompt.ids);
        free(stage->branches);
        free(stage->stops);
    }
    free(request->stages);
    free(request->grammar);
    json_decref(request->stage_texts);
    json_decref(request->stop_texts);
}
