#include "model/chat_json.h"
#include "base/base.h"

#include <stdlib.h>

static enum status read_text(const json_t *object, const char *key, size_t index, const char **text,
                             size_t *length, struct error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return ST_OK;
    if (!json_is_string(value))
        return fail(err, ST_INVALID, "messages[%zu].%s must be a string", index, key);
    *text = json_string_value(value);
    *length = json_string_length(value);
    return ST_OK;
}

static enum status read_message(const json_t *entry, size_t index, struct chat_message *message,
                                struct error *err)
{
    *message = (struct chat_message){.content = ""};
    if (!json_is_object(entry))
        return fail(err, ST_INVALID, "messages[%zu] must be an object", index);
    enum status status =
        read_text(entry, "role", index, &message->role, &message->role_length, err);
    if (!status && !message->role)
        return fail(err, ST_INVALID, "messages[%zu].role is missing", index);
    if (!status)
        status =
            read_text(entry, "content", index, &message->content, &message->content_length, err);
    if (!status)
        status = read_text(entry, "reasoning_content", index, &message->reasoning,
                           &message->reasoning_length, err);
    return status;
}

static enum status read_switch(const json_t *document, const char *key, bool *value,
                               struct error *err)
{
    const json_t *given = json_object_get(document, key);
    if (!given || json_is_null(given)) return ST_OK;
    if (!json_is_boolean(given)) return fail(err, ST_INVALID, "%s must be true or false", key);
    *value = json_is_true(given);
    return ST_OK;
}

static enum status read_switches(const json_t *document, struct chat *chat, struct error *err)
{
    bool thinking = true;
    const json_t *date = json_object_get(document, "date_string");
    enum status status =
        read_switch(document, "add_generation_prompt", &chat->add_generation_prompt, err);
    if (!status)
        status = read_switch(document, "continue_final_message", &chat->continue_final, err);
    if (!status) status = read_switch(document, "enable_thinking", &thinking, err);
    if (!status && date && !json_is_string(date) && !json_is_null(date))
        status = fail(err, ST_INVALID, "date_string must be a string");
    chat->no_thinking = !thinking;
    chat->date = json_string_value(date);
    chat->date_length = json_string_length(date);
    return status;
}

enum status chat_from_json(const json_t *document, struct chat *chat, struct error *err)
{
    const json_t *list = json_is_array(document) ? document : json_object_get(document, "messages");
    *chat = (struct chat){.add_generation_prompt = true};
    if (!json_is_array(list))
        return fail(err, ST_INVALID,
                    "a chat is a list of messages, or an object with a list 'messages'");
    enum status status = read_switches(document, chat, err);
    struct chat_message *messages = must_alloc((json_array_size(list) + 1) * sizeof *messages);
    for (size_t i = 0; !status && i < json_array_size(list); i++)
        status = read_message(json_array_get(list, i), i, &messages[i], err);
    if (status) {
        free(messages);
        return status;
    }
    chat->messages = messages;
    chat->count = json_array_size(list);
    return ST_OK;
}
