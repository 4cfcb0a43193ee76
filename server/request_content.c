#include "server/request_content.h"
#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *json_word(const json_t *value)
{
    const char *text = json_string_value(value);
    return text && strlen(text) == json_string_length(value) ? text : NULL;
}

/* --- prompts */

static bool parse_ids(const json_t *list, const char *name, int32_t vocab, int32_t **ids,
                      size_t *count, struct api_error *error)
{
    *count = json_array_size(list);
    *ids = try_alloc(*count, sizeof **ids);
    if (!*ids) return refuse_memory(error);
    for (size_t i = 0; i < *count; i++) {
        char element[64];
        snprintf(element, sizeof element, "%.40s[%zu]", name, i);
        int64_t id;
        if (!json_to_int(json_array_get(list, i), element, 0, vocab - 1, &id, error)) return false;
        (*ids)[i] = (int32_t)id;
    }
    return true;
}

bool parse_prompt(const json_t *value, const char *name, int32_t vocab, struct api_prompt *prompt,
                  struct api_error *error)
{
    if (json_is_string(value)) {
        prompt->text = json_string_value(value);
        prompt->length = json_string_length(value);
        return true;
    }
    if (!json_is_array(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name,
                      "%s must be a string or a list of token ids, not %s", name,
                      json_type_name(value));
    return parse_ids(value, name, vocab, &prompt->ids, &prompt->id_count, error);
}

static bool alloc_prompts(struct api_request *request, size_t count, struct api_error *error)
{
    request->prompts = try_alloc(count, sizeof *request->prompts);
    if (!request->prompts) return refuse_memory(error);
    request->prompt_count = count;
    return true;
}

bool parse_prompts(struct api_request *request, const char *name, int32_t max_prompts,
                   int32_t vocab, struct api_error *error)
{
    const json_t *value = json_field(request->root, name);
    if (!value) return refuse(error, REFUSAL_INVALID_VALUE, name, "%s is required", name);
    const json_t *first = json_array_get(value, 0);
    bool several = first && !json_is_number(first);
    if (!several)
        return alloc_prompts(request, 1, error) &&
               parse_prompt(value, name, vocab, &request->prompts[0], error);

    size_t count = json_array_size(value);
    if (count > (size_t)max_prompts)
        return refuse(error, REFUSAL_INVALID_VALUE, name,
                      "%s holds %zu prompts; at most %d are allowed", name, count, max_prompts);
    if (!alloc_prompts(request, count, error)) return false;
    for (size_t i = 0; i < count; i++) {
        char element[64];
        snprintf(element, sizeof element, "%.40s[%zu]", name, i);
        const json_t *prompt = json_array_get(value, i);
        if (json_typeof(prompt) != json_typeof(first))
            return refuse(error, REFUSAL_INVALID_TYPE, element,
                          "%s must be of the same kind as %s[0]", element, name);
        if (!parse_prompt(prompt, element, vocab, &request->prompts[i], error)) return false;
    }
    return true;
}

bool parse_token_list(struct api_request *request, const char *name, int32_t vocab,
                      struct api_error *error)
{
    const json_t *value = json_field(request->root, name);
    if (!value) return refuse(error, REFUSAL_INVALID_VALUE, name, "%s is required", name);
    if (!json_is_array(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be a list of token ids, not %s",
                      name, json_type_name(value));
    return alloc_prompts(request, 1, error) &&
           parse_prompt(value, name, vocab, &request->prompts[0], error);
}

/* --- messages */

/* Text parts become one text with newlines between, as vLLM joins them. */
static bool join_parts(const json_t *parts, const char *name, char **joined, size_t *length,
                       struct api_error *error)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_word(json_object_get(part, "type"));
        const json_t *value = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0 || !json_is_string(value)) {
            strbuf_free(&text);
            return refuse(
                error, REFUSAL_INVALID_VALUE, name,
                "%s[%zu] must be {\"type\": \"text\", \"text\": STRING}; this model reads "
                "text only",
                name, i);
        }
        if (i) strbuf_char(&text, '\n');
        strbuf_append(&text, json_string_value(value), json_string_length(value));
    }
    *length = text.length;
    *joined = strbuf_take(&text);
    return true;
}

static bool parse_role(const json_t *message, size_t index, struct chat_message *out,
                       struct api_error *error)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "developer"};
    char name[64];
    snprintf(name, sizeof name, "messages[%zu].role", index);
    const char *role = json_word(json_object_get(message, "role"));
    for (size_t i = 0; role && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i]) == 0) {
            /* "developer" is OpenAI's newer word for the system's voice. */
            out->role = strcmp(role, "developer") == 0 ? "system" : roles[i];
            out->role_length = strlen(out->role);
            return true;
        }
    return refuse(error, REFUSAL_INVALID_VALUE, name,
                  "%s must be one of system, developer, user, assistant, tool", name);
}

/* What was thought before an answer: reasoning_content, or reasoning as newer clients call it. */
static bool parse_reasoning(const json_t *message, size_t index, struct chat_message *out,
                            struct api_error *error)
{
    const json_t *reasoning = json_field(message, "reasoning_content");
    if (!reasoning) reasoning = json_field(message, "reasoning");
    if (!reasoning) return true;
    char name[64];
    snprintf(name, sizeof name, "messages[%zu].reasoning_content", index);
    if (!json_is_string(reasoning))
        return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be a string, not %s", name,
                      json_type_name(reasoning));
    out->reasoning = json_string_value(reasoning);
    out->reasoning_length = json_string_length(reasoning);
    return true;
}

static bool refuse_tool_calls(const json_t *message, size_t index, struct api_error *error)
{
    const json_t *calls = json_field(message, "tool_calls");
    if (!calls || (json_is_array(calls) && json_array_size(calls) == 0)) return true;
    char name[64];
    snprintf(name, sizeof name, "messages[%zu].tool_calls", index);
    return refuse(error, REFUSAL_UNSUPPORTED, name, "%s is not supported by this version", name);
}

static bool parse_message(const json_t *message, size_t index, struct chat_message *out,
                          char **joined, struct api_error *error)
{
    char name[64];
    snprintf(name, sizeof name, "messages[%zu]", index);
    if (!json_is_object(message))
        return refuse(error, REFUSAL_INVALID_TYPE, name, "%s must be an object, not %s", name,
                      json_type_name(message));
    if (!parse_role(message, index, out, error) || !parse_reasoning(message, index, out, error) ||
        !refuse_tool_calls(message, index, error))
        return false;

    snprintf(name, sizeof name, "messages[%zu].content", index);
    const json_t *content = json_field(message, "content");
    if (json_is_array(content)) {
        if (!join_parts(content, name, joined, &out->content_length, error)) return false;
        out->content = *joined;
        return true;
    }
    if (json_is_string(content)) {
        out->content = json_string_value(content);
        out->content_length = json_string_length(content);
        return true;
    }
    if (!content && strcmp(out->role, "assistant") == 0) {
        out->content = "";
        return true;
    }
    return refuse(error, REFUSAL_INVALID_TYPE, name,
                  "%s must be a string or a list of text parts, not %s", name,
                  content ? json_type_name(content) : "null");
}

/* enable_thinking and the other names that a template may read. Names that none of ours reads are
 * ignored, as Jinja does; those that would change what it writes are refused. */
static bool parse_template_kwargs(struct api_request *request, struct api_error *error)
{
    const json_t *kwargs = json_field(request->root, "chat_template_kwargs");
    if (!kwargs) return true;
    if (!json_is_object(kwargs))
        return refuse(error, REFUSAL_INVALID_TYPE, "chat_template_kwargs",
                      "chat_template_kwargs must be an object, not %s", json_type_name(kwargs));
    static const char *const unsupported[] = {"tools", "custom_tools", "builtin_tools"};
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (json_field(kwargs, unsupported[i]))
            return refuse(error, REFUSAL_UNSUPPORTED, "chat_template_kwargs",
                          "chat_template_kwargs.%s is not supported by this version",
                          unsupported[i]);
    const json_t *value = json_field(kwargs, "enable_thinking");
    bool thinking = true;
    if (value) {
        if (!json_to_bool(value, "chat_template_kwargs.enable_thinking", &thinking, error))
            return false;
        request->no_thinking = !thinking;
    }
    const json_t *date = json_field(kwargs, "date_string");
    if (!date) return true;
    if (!json_is_string(date))
        return refuse(error, REFUSAL_INVALID_TYPE, "chat_template_kwargs",
                      "chat_template_kwargs.date_string must be a string, not %s",
                      json_type_name(date));
    request->chat_date = json_string_value(date);
    request->chat_date_length = json_string_length(date);
    return true;
}

static bool parse_template_switches(struct api_request *request, struct api_error *error)
{
    if (json_field(request->root, "chat_template"))
        return refuse(error, REFUSAL_UNSUPPORTED, "chat_template",
                      "chat_template: templates are not taken from requests; the server's is named "
                      "with --chat-template");
    bool thinking = true;
    const json_t *value = json_field(request->root, "enable_thinking");
    if (value && !json_to_bool(value, "enable_thinking", &thinking, error)) return false;
    request->no_thinking = !thinking;
    value = json_field(request->root, "continue_final_message");
    if (value && !json_to_bool(value, "continue_final_message", &request->continue_final, error))
        return false;
    if (request->continue_final && request->add_generation_prompt)
        return refuse(error, REFUSAL_INVALID_VALUE, "continue_final_message",
                      "continue_final_message needs \"add_generation_prompt\": false");
    return parse_template_kwargs(request, error);
}

struct chat request_chat(const struct api_request *request, enum chat_template family)
{
    return (struct chat){
        .family = family,
        .messages = request->messages,
        .count = request->message_count,
        .add_generation_prompt = request->add_generation_prompt,
        .continue_final = request->continue_final,
        .no_thinking = request->no_thinking,
        .date = request->chat_date,
        .date_length = request->chat_date_length,
    };
}

bool parse_messages(struct api_request *request, const struct server_limits *limits,
                    struct api_error *error)
{
    const json_t *list = json_field(request->root, "messages");
    if (!list) return refuse(error, REFUSAL_INVALID_VALUE, "messages", "messages is required");
    if (!json_is_array(list))
        return refuse(error, REFUSAL_INVALID_TYPE, "messages", "messages must be a list, not %s",
                      json_type_name(list));
    size_t count = json_array_size(list);
    if (count == 0 || count > (size_t)limits->max_messages)
        return refuse(error, REFUSAL_INVALID_VALUE, "messages",
                      "messages holds %zu messages; 1 to %d are allowed", count,
                      limits->max_messages);
    request->messages = try_alloc(count, sizeof *request->messages);
    request->joined = try_alloc(count, sizeof *request->joined);
    if (!request->messages || !request->joined) return refuse_memory(error);
    request->message_count = count;
    for (size_t i = 0; i < count; i++)
        if (!parse_message(json_array_get(list, i), i, &request->messages[i], &request->joined[i],
                           error))
            return false;
    return parse_template_switches(request, error);
}

/* --- stop strings and stop tokens */

static bool parse_stop(const json_t *value, const char *name, const struct server_limits *limits,
                       const char **stop, struct api_error *error)
{
    if (!json_is_string(value))
        return refuse(error, REFUSAL_INVALID_TYPE, name,
                      "%s must be a string or a list of strings, not %s", name,
                      json_type_name(value));
    size_t length = json_string_length(value);
    *stop = json_string_value(value);
    if (length == 0 || length > (size_t)limits->max_stop_bytes)
        return refuse(error, REFUSAL_INVALID_VALUE, name,
                      "%s is %zu bytes long; 1 to %d are allowed", name, length,
                      limits->max_stop_bytes);
    if (strlen(*stop) != length)
        return refuse(error, REFUSAL_INVALID_VALUE, name, "%s holds a NUL character", name);
    return true;
}

bool parse_stop_list(const json_t *value, const char *name, const struct server_limits *limits,
                     const char ***stops, size_t *stop_count, struct api_error *error)
{
    bool list = json_is_array(value);
    size_t count = list ? json_array_size(value) : 1;
    if (count > (size_t)limits->max_stops)
        return refuse(error, REFUSAL_INVALID_VALUE, name,
                      "%s holds %zu strings; at most %d are allowed", name, count,
                      limits->max_stops);
    *stops = try_alloc(count, sizeof **stops);
    if (!*stops) return refuse_memory(error);
    for (size_t i = 0; i < count; i++) {
        char element[64];
        snprintf(element, sizeof element, list ? "%.40s[%zu]" : "%.40s", name, i);
        if (!parse_stop(list ? json_array_get(value, i) : value, element, limits, &(*stops)[i],
                        error))
            return false;
    }
    *stop_count = count;
    return true;
}

bool parse_stops(struct api_request *request, const struct server_limits *limits,
                 struct api_error *error)
{
    const json_t *value = json_field(request->root, "stop");
    return !value ||
           parse_stop_list(value, "stop", limits, &request->stops, &request->stop_count, error);
}

bool parse_stop_ids(struct api_request *request, const struct server_limits *limits, int32_t vocab,
                    struct api_error *error)
{
    const json_t *value = json_field(request->root, "stop_token_ids");
    if (!value) return true;
    if (!json_is_array(value))
        return refuse(error, REFUSAL_INVALID_TYPE, "stop_token_ids",
                      "stop_token_ids must be a list, not %s", json_type_name(value));
    if (json_array_size(value) > (size_t)limits->max_stop_ids)
        return refuse(error, REFUSAL_INVALID_VALUE, "stop_token_ids",
                      "stop_token_ids holds %zu ids; at most %d are allowed",
                      json_array_size(value), limits->max_stop_ids);
    return parse_ids(value, "stop_token_ids", vocab, &request->stop_ids, &request->stop_id_count,
                     error);
}
