/* What chat_jinja.py talks to: a case a line on standard input, its rendering a line on standard
 * output.
 *
 *     {"jinja": SOURCE, "bos": "<s>", "eos": "</s>", "now": 1732406400, "messages": [...],
 *      "add_generation_prompt": true, "enable_thinking": false, ...}
 *     {"family": "qwen3", "exact": true, "text": "<|im_start|>..."}       or "error" for "text"
 */
#include "model/chat.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static struct chat_message message_of(const json_t *entry)
{
    const json_t *role = json_object_get(entry, "role"), *text = json_object_get(entry, "content"),
                 *reasoning = json_object_get(entry, "reasoning_content");
    return (struct chat_message){.role = json_string_value(role),
                                 .role_length = json_string_length(role),
                                 .content = json_string_value(text),
                                 .content_length = json_string_length(text),
                                 .reasoning = json_string_value(reasoning),
                                 .reasoning_length = json_string_length(reasoning)};
}

static json_t *answer(const struct chat *chat, bool exact)
{
    struct strbuf text = {0};
    struct error err = {0};
    enum status status = chat_render_text(chat, &text, &err);
    json_t *line =
        json_pack("{s:s, s:b}", "family", chat_template_name(chat->family), "exact", (int)exact);
    if (status)
        json_object_set_new(line, "error", json_string(err.text));
    else
        json_object_set_new(line, "text", json_stringn(strbuf_cstr(&text), text.length));
    strbuf_free(&text);
    return line;
}

static json_t *render(const json_t *input)
{
    const json_t *list = json_object_get(input, "messages"),
                 *date = json_object_get(input, "date_string");
    size_t count = json_array_size(list);
    struct chat_message *messages = calloc(count + 1, sizeof *messages);
    for (size_t i = 0; i < count; i++)
        messages[i] = message_of(json_array_get(list, i));
    bool exact;
    struct chat chat = {
        .messages = messages,
        .count = count,
        .add_generation_prompt = json_is_true(json_object_get(input, "add_generation_prompt")),
        .continue_final = json_is_true(json_object_get(input, "continue_final_message")),
        .no_thinking = json_is_false(json_object_get(input, "enable_thinking")),
        .date = json_string_value(date),
        .date_length = json_string_length(date),
        .now = json_integer_value(json_object_get(input, "now")),
        .bos = json_string_value(json_object_get(input, "bos")),
        .eos = json_string_value(json_object_get(input, "eos")),
    };
    chat.family = chat_template_detect(json_string_value(json_object_get(input, "jinja")), &exact);
    json_t *line = answer(&chat, exact);
    free(messages);
    return line;
}

int main(void)
{
    char *text = NULL;
    size_t capacity = 0;
    json_error_t where;
    while (getline(&text, &capacity, stdin) > 0) {
        json_t *input = json_loads(text, JSON_ALLOW_NUL, &where);
        if (!input) {
            fprintf(stderr, "chat_lines: %s\n", where.text);
            return 1;
        }
        json_t *line = render(input);
        json_dumpf(line, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(line);
        json_decref(input);
    }
    free(text);
    return 0;
}
