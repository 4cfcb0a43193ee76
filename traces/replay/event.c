#include "traces/replay/event.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Whole numbers only, in range; `fallback` when it is missing or null. */
static bool small_int(json_t *object, const char *name, int32_t fallback, int32_t *out)
{
    json_t *value = json_object_get(object, name);
    *out = fallback;
    if (!value || json_is_null(value)) return true;
    if (!json_is_integer(value)) return false;
    json_int_t number = json_integer_value(value);
    if (number < 0 || number > 1 << 30) return false;
    *out = (int32_t)number;
    return true;
}

static bool text_is(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_string(value) && json_string_length(value) > 0;
}

static void copy_text(json_t *value, char *out, size_t room)
{
    snprintf(out, room, "%s", json_is_string(value) ? json_string_value(value) : "");
    make_printable(out);
}

/* {"error": {"code", "type", "message"}} of OpenAI, {"error": "words"}, {"code"}, {"type"} of
 * others. */
static void error_code(json_t *root, char code[64])
{
    json_t *error = json_object_get(root, "error");
    json_t *holder = json_is_object(error) ? error : root;
    json_t *value = json_object_get(holder, "code");
    code[0] = 0;
    if (json_is_integer(value)) snprintf(code, 64, "%lld", (long long)json_integer_value(value));
    if (!code[0]) copy_text(value, code, 64);
    if (!code[0]) copy_text(json_object_get(holder, "type"), code, 64);
    if (!code[0]) copy_text(error, code, 64);
}

static bool read_choice(json_t *value, struct event_choice *choice)
{
    json_t *delta = json_object_get(value, "delta");
    json_t *ids = json_object_get(value, "token_ids");
    json_t *finish = json_object_get(value, "finish_reason");
    memset(choice, 0, sizeof *choice);
    if (!json_is_object(value) || !small_int(value, "index", 0, &choice->index)) return false;
    choice->token_ids = json_is_array(ids) ? (int32_t)json_array_size(ids) : -1;
    choice->has_text = text_is(value, "text") || text_is(delta, "content") ||
                       text_is(delta, "reasoning_content") || text_is(delta, "reasoning");
    choice->role_only = !choice->has_text && json_is_string(json_object_get(delta, "role"));
    if (finish && !json_is_null(finish) && !json_is_string(finish)) return false;
    copy_text(finish, choice->finish, sizeof choice->finish);
    return true;
}

static bool read_choices(json_t *root, struct stream_event *event)
{
    json_t *list = json_object_get(root, "choices");
    if (!list) return true;
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > EVENT_CHOICES) return false;
    for (size_t i = 0; i < count; i++)
        if (!read_choice(json_array_get(list, i), &event->choices[i])) return false;
    event->choice_count = (int32_t)count;
    return true;
}

static bool read_branch(json_t *root, struct stream_event *event)
{
    static const char *const names[] = {"", "token", "fork", "join"};
    json_t *ours = json_object_get(root, "espalier");
    const char *name = json_string_value(json_object_get(ours, "event"));
    event->branch_event = BRANCH_NONE;
    if (!ours) return true;
    for (int kind = BRANCH_TOKEN; name && kind <= BRANCH_JOIN; kind++)
        if (!strcmp(name, names[kind])) event->branch_event = (enum branch_event)kind;
    return event->branch_event != BRANCH_NONE && small_int(ours, "stage", 0, &event->stage) &&
           small_int(ours, "branch", 0, &event->branch);
}

static bool read_usage(json_t *root, struct stream_event *event)
{
    json_t *usage = json_object_get(root, "usage");
    json_t *details = json_object_get(usage, "prompt_tokens_details");
    return small_int(usage, "prompt_tokens", -1, &event->usage_prompt) &&
           small_int(usage, "completion_tokens", -1, &event->usage_completion) &&
           small_int(details, "cached_tokens", -1, &event->usage_cached);
}

/* {"error": ...}; vLLM's earlier versions say {"object": "error", "message", "type", "code"}. */
static bool is_error(json_t *root)
{
    json_t *error = json_object_get(root, "error");
    const char *object = json_string_value(json_object_get(root, "object"));
    return (error && !json_is_null(error)) || (object && !strcmp(object, "error"));
}

static bool read_event(json_t *root, struct stream_event *event, struct error *what)
{
    if (is_error(root)) {
        event->failed = true;
        error_code(root, event->error_code);
        return true;
    }
    const char *field = !json_is_object(root)        ? "the event is no object"
                        : !read_choices(root, event) ? "\"choices\""
                        : !read_branch(root, event)  ? "\"espalier\""
                        : !read_usage(root, event)   ? "\"usage\""
                                                     : NULL;
    if (field) fail(what, ST_INVALID, "%s", field);
    return !field;
}

bool event_parse(const char *data, size_t length, struct stream_event *event, struct error *what)
{
    json_error_t problem;
    json_t *root = json_loadb(data, length, JSON_ALLOW_NUL | JSON_DECODE_ANY, &problem);
    event->choice_count = 0;
    event->failed = false;
    event->error_code[0] = 0;
    if (!root) return fail(what, ST_INVALID, "JSON: %s", problem.text), false;
    bool sound = read_event(root, event, what);
    json_decref(root);
    return sound;
}

void event_error_code(const char *body, size_t length, char code[64])
{
    json_t *root = json_loadb(body, length, JSON_ALLOW_NUL, NULL);
    code[0] = 0;
    if (json_is_object(root)) error_code(root, code);
    json_decref(root);
}
