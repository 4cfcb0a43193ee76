/* Chat rendering: no content or role ever becomes a special token, nothing is lost, and where no
 * content holds special text the ids are those of the rendered text.
 *
 * Input: a byte for the family and one of flags, then messages as parts: "@@ROLE" on a line of its
 * own, and the content. What follows the two bytes is also read as a template and as a chat in
 * JSON. */
#include "tests/fuzz/support_input.h"
#include "model/chat.h"
#include "model/chat_json.h"

#include <stdlib.h>
#include <string.h>

#define MAX_MESSAGES 16

static size_t count_specials(const struct tokenizer *tokenizer, const struct token_list *ids)
{
    size_t count = 0;
    for (size_t i = 0; i < ids->count; i++) {
        size_t hidden, shown;
        tokenizer_token_view(tokenizer, ids->ids[i], false, &hidden);
        tokenizer_token_view(tokenizer, ids->ids[i], true, &shown);
        count += hidden != shown;
    }
    return count;
}

/* A role that a template looks for, or one that none knows. */
static const char *plain_role(const struct chat_message *message)
{
    static const char *const known[] = {"system", "user",    "assistant",
                                        "tool",   "ipython", "tool_results"};
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (message->role_length == strlen(known[i]) &&
            !memcmp(message->role, known[i], message->role_length))
            return known[i];
    return "other";
}

/* The special tokens that the template itself writes: those of the same messages without their
 * text. */
static size_t own_specials(const struct chat *chat)
{
    struct chat_message empty[MAX_MESSAGES];
    struct chat without = *chat;
    struct token_list ids = {0};
    for (size_t i = 0; i < chat->count; i++) {
        const char *role = plain_role(&chat->messages[i]);
        empty[i] = (struct chat_message){.role = role, .role_length = strlen(role), .content = ""};
    }
    without.messages = empty;
    without.date = NULL;
    if (chat_render_tokens(&without, chat_tokenizer(), &ids, NULL)) die("rendering without text");
    size_t specials = count_specials(chat_tokenizer(), &ids);
    free(ids.ids);
    return specials;
}

static void check_ids(const struct token_list *ids, const struct strbuf *text, size_t specials)
{
    const struct tokenizer *tokenizer = chat_tokenizer();
    struct strbuf bytes = {0};
    struct token_list whole = {0};
    for (size_t i = 0; i < ids->count; i++)
        tokenizer_token_bytes(tokenizer, ids->ids[i], true, &bytes);
    invariant(bytes.length == text->length &&
                  !memcmp(strbuf_cstr(&bytes), strbuf_cstr(text), bytes.length),
              "the tokens' text is not the rendered text");
    invariant(count_specials(tokenizer, ids) == specials, "a message became a special token");
    if (tokenizer_encode(tokenizer, strbuf_cstr(text), text->length, true, &whole, NULL))
        die("encoding");
    if (count_specials(tokenizer, &whole) == specials)
        invariant(whole.count == ids->count &&
                      (!ids->count || !memcmp(whole.ids, ids->ids, ids->count * sizeof *ids->ids)),
                  "the ids are not those of the text");
    free(whole.ids);
    strbuf_free(&bytes);
}

static void check_chat(const struct chat *chat)
{
    struct token_list ids = {0};
    struct strbuf text = {0};
    struct error err = {0};
    enum status status = chat_render_tokens(chat, chat_tokenizer(), &ids, &err);
    invariant(status == chat_render_text(chat, &text, NULL), "as tokens: %s", status_words(status));
    if (status)
        invariant(err.text[0] && !ids.count && !text.length, "a refusal without words");
    else
        check_ids(&ids, &text, own_specials(chat));
    free(ids.ids);
    strbuf_free(&text);
}

static void check_template(struct input input)
{
    char *jinja = input_string(input);
    bool exact;
    const char *name = chat_template_name(chat_template_detect(jinja, &exact));
    invariant(*name, "a family without a name");
    chat_template_by_name(jinja);
    free(jinja);
}

static void check_json(const struct chat *options, struct input input)
{
    struct chat chat = *options;
    struct error err = {0};
    struct strbuf text = {0};
    json_t *document = json_loadb(input.text, input.left, JSON_DECODE_ANY, NULL);
    if (!document) return;
    enum status status = chat_from_json(document, &chat, &err);
    if (status)
        invariant(err.text[0], "a refusal without words");
    else
        chat_render_text(&chat, &text, NULL);
    free((void *)chat.messages);
    strbuf_free(&text);
    json_decref(document);
}

/* Messages as parts; a content that begins with "~" is also what was thought before it. */
static size_t read_messages(struct input *input, struct chat_message *messages)
{
    struct input_part part;
    size_t count = 0;
    while (count < MAX_MESSAGES && input_part(input, &part)) {
        struct chat_message *message = &messages[count++];
        *message = (struct chat_message){.role = part.name,
                                         .role_length = part.name_length,
                                         .content = part.text,
                                         .content_length = part.length};
        if (!part.length || part.text[0] != '~') continue;
        message->reasoning = part.text;
        message->reasoning_length = part.length;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    struct chat_message messages[MAX_MESSAGES];
    struct chat chat = {.family = (enum chat_template)(input_byte(&input) % CHAT_TEMPLATES)};
    uint8_t flags = input_byte(&input);
    chat.add_generation_prompt = flags & 1;
    chat.continue_final = flags & 2;
    chat.no_thinking = flags & 4;
    chat.date = flags & 8 ? "<|eot_id|>" : NULL;
    chat.date_length = flags & 8 ? 10 : 0;
    chat.now = 1700000000;
    chat.bos = "<s>"; /* chat_tokenizer's */
    chat.eos = "</s>";
    check_template(input);
    check_json(&chat, input);
    chat.count = read_messages(&input, messages);
    chat.messages = messages;
    check_chat(&chat);
    return 0;
}
