/* Chat rendering: no content or role ever becomes a special token, nothing is lost, and where no
 * content holds special text the ids are those of the rendered text.
 *
 * Input: a byte for the family and one for the generation prompt, then messages as parts:
 * "@@ROLE" on a line of its own, and the content. The whole input is also read as a template. */
#include "tests/fuzz/support_input.h"

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

/* The special tokens that the template itself writes: those of the same messages without their
 * text. */
static size_t own_specials(enum chat_template family, const struct chat_message *messages,
                           size_t count, bool generation)
{
    struct chat_message empty[MAX_MESSAGES];
    struct token_list ids = {0};
    for (size_t i = 0; i < count; i++) {
        bool system = messages[i].role_length == 6 && !memcmp(messages[i].role, "system", 6);
        empty[i] = (struct chat_message){system ? "system" : "user", "", system ? 6 : 4, 0};
    }
    if (chat_render_tokens(family, chat_tokenizer(), empty, count, generation, &ids, NULL))
        die("rendering empty messages");
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

static void check_chat(enum chat_template family, const struct chat_message *messages, size_t count,
                       bool generation)
{
    struct token_list ids = {0};
    struct strbuf text = {0};
    struct error err = {0};
    enum status status =
        chat_render_tokens(family, chat_tokenizer(), messages, count, generation, &ids, &err);
    invariant(status == chat_render_text(family, messages, count, generation, &text, NULL),
              "as tokens: %s", status_words(status));
    if (status)
        invariant(err.text[0] && !ids.count && !text.length, "a refusal without words");
    else
        check_ids(&ids, &text, own_specials(family, messages, count, generation));
    free(ids.ids);
    strbuf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {(const char *)data, size};
    struct chat_message messages[MAX_MESSAGES];
    struct input_part part;
    size_t count = 0;
    char *jinja = input_string(input);
    enum chat_template family = chat_template_detect(jinja);
    invariant(*chat_template_name(family), "a family without a name");
    free(jinja);
    family = (enum chat_template)(input_byte(&input) % (CHAT_QWEN25 + 1));
    bool generation = input_byte(&input) & 1;
    while (count < MAX_MESSAGES && input_part(&input, &part))
        messages[count++] =
            (struct chat_message){part.name, part.text, part.name_length, part.length};
    check_chat(family, messages, count, generation);
    return 0;
}
