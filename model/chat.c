/* Chat templates, by name.
 *
 * A model's template is a Jinja program. We do not run programs out of model files: we recognise
 * the known ones and write what they would write. A template is rendered once, as text with marks
 * where its own special tokens stand:
 *
 *     <|im_start|>user\nWhat is <|im_end|>?<|im_end|>\n<|im_start|>assistant\n
 *     ^^^^^^^^^^^^                         ^^^^^^^^^^  ^^^^^^^^^^^^
 *
 * As tokens, the marks are ids and each stretch between two marks is tokenized as one text in which
 * no special token is looked for: a message that contains "<|im_end|>" (above) cannot end itself,
 * and pieces that reach over the border of role and content ("\n" and a content that begins with a
 * newline) are what they would be in the whole text.
 */
#include "model/tokenizer.h"
#include "base/base.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

#define IM_START "<|im_start|>"
#define IM_END   "<|im_end|>"

/* What sets the families apart. ChatML and its kin differ only in the system text that is put first
 * when the conversation begins otherwise. */
static const struct family {
    const char *name;
    const char *default_system; /* NULL: none */
} families[] = {
    [CHAT_NONE] = {"none", NULL},
    [CHAT_CHATML] = {"chatml", NULL},
    [CHAT_SMOLLM2] = {"smollm2",
                      "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
    [CHAT_LLAMA3] = {"llama3", NULL},
    [CHAT_QWEN2] = {"qwen2", "You are a helpful assistant."},
    [CHAT_QWEN25] = {"qwen2.5",
                     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
};

const char *chat_template_name(enum chat_template family)
{
    return (size_t)family < COUNT_OF(families) ? families[family].name : "unknown";
}

/* --- which family a Jinja source is */

/* FNV-1a, to name a text by a number (not to defend against anyone). */
static uint64_t fingerprint(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash;
}

/* Sources that were compared, rendering by rendering, with Jinja itself. */
static const struct {
    uint64_t hash;
    enum chat_template family;
} known_sources[] = {
    {0x45ec583d4d25bc3au, CHAT_SMOLLM2}, /* SmolLM2-Instruct */
    {0x0e60067a5537498eu, CHAT_LLAMA3},  /* Meta-Llama-3-Instruct */
    {0x8a87094e0e1e24c5u, CHAT_QWEN2},   /* Qwen2-Instruct */
    {0x8cde6333a65981ebu, CHAT_CHATML},  /* the loop alone */
};

/* The default system text that a ChatML source writes out, e.g. 'system\nYou are ...': "" when it
 * has none. A newline is a newline or the two characters \n; a quote after it ends a Jinja string,
 * so there a message's own text follows and no default. */
static const char *written_system_text(const char *jinja)
{
    static const char head[] = IM_START "system";
    for (const char *at = jinja; (at = strstr(at, head)); at++) {
        const char *text = at + strlen(head);
        if (*text == '\n')
            text++;
        else if (!strncmp(text, "\\n", 2))
            text += 2;
        else
            continue;
        if (*text && *text != '\'' && *text != '"' && *text != '{') return text;
    }
    return "";
}

static enum chat_template detect_chatml(const char *jinja)
{
    const char *system = written_system_text(jinja);
    if (!*system) return CHAT_CHATML;
    for (size_t i = 0; i < COUNT_OF(families); i++) {
        const char *known = families[i].default_system;
        size_t length = known ? strlen(known) : 0;
        if (known && !strncmp(system, known, length) &&
            !strncmp(system + length, IM_END, strlen(IM_END)))
            return (enum chat_template)i;
    }
    return CHAT_NONE; /* some other default: rendering without it would mislead the model */
}

enum chat_template chat_template_detect(const char *jinja)
{
    if (!jinja) return CHAT_NONE;
    uint64_t hash = fingerprint(jinja);
    for (size_t i = 0; i < COUNT_OF(known_sources); i++)
        if (known_sources[i].hash == hash) return known_sources[i].family;
    bool trims = strstr(jinja, "trim") != NULL;
    /* Llama 3.1 and later write the date and tool instructions into the system text. */
    if (strstr(jinja, "<|start_header_id|>") && strstr(jinja, "<|eot_id|>") && trims &&
        !strstr(jinja, "Cutting Knowledge"))
        return CHAT_LLAMA3;
    if (strstr(jinja, IM_START) && strstr(jinja, IM_END) && !trims) return detect_chatml(jinja);
    return CHAT_NONE;
}

/* --- rendering */

/* The rendered text, and where the template's own special tokens stand in it. */
struct rendering {
    struct strbuf text;
    struct mark {
        size_t at;
        const char *special; /* a literal of this file */
    } * marks;
    size_t mark_count, mark_capacity;
};

static void rendering_release(struct rendering *r)
{
    strbuf_free(&r->text);
    free(r->marks);
}

static void put_special(struct rendering *r, const char *special)
{
    if (r->mark_count == r->mark_capacity) {
        r->mark_capacity = r->mark_capacity ? r->mark_capacity * 2 : 16;
        r->marks = must_realloc(r->marks, r->mark_capacity * sizeof *r->marks);
    }
    r->marks[r->mark_count++] = (struct mark){r->text.length, special};
    strbuf_text(&r->text, special);
}

static bool is_system(const struct chat_message *message)
{
    return message->role_length == 6 && !memcmp(message->role, "system", 6);
}

static void chatml_message(struct rendering *r, const struct chat_message *message)
{
    put_special(r, IM_START);
    strbuf_append(&r->text, message->role, message->role_length);
    strbuf_char(&r->text, '\n');
    strbuf_append(&r->text, message->content, message->content_length);
    put_special(r, IM_END);
    strbuf_char(&r->text, '\n');
}

static void render_chatml(struct rendering *r, const char *default_system,
                          const struct chat_message *messages, size_t count,
                          bool add_generation_prompt)
{
    if (count > 0 && default_system && !is_system(&messages[0]))
        chatml_message(r,
                       &(struct chat_message){"system", default_system, 6, strlen(default_system)});
    for (size_t i = 0; i < count; i++)
        chatml_message(r, &messages[i]);
    if (!add_generation_prompt) return;
    put_special(r, IM_START);
    strbuf_text(&r->text, "assistant\n");
}

/* What Python's str.strip() strips, which is what Jinja's trim calls. */
static bool python_space(uint32_t c)
{
    return (c >= 0x9 && c <= 0xd) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Bytes of the space that text[length] ends with: 0 to 3. */
static size_t trailing_space(const char *text, size_t length)
{
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        struct utf8_step step = utf8_step(text + length - back, back);
        if (step.kind == UTF8_WHOLE && step.length == back)
            return python_space(step.codepoint) * back;
    }
    return 0;
}

static void append_trimmed(struct strbuf *out, const char *text, size_t length)
{
    while (length > 0) {
        struct utf8_step step = utf8_step(text, length);
        if (step.kind != UTF8_WHOLE || !python_space(step.codepoint)) break;
        text += step.length;
        length -= step.length;
    }
    for (size_t space; (space = trailing_space(text, length)) > 0;)
        length -= space;
    strbuf_append(out, text, length);
}

static void llama3_header(struct rendering *r, const char *role, size_t length)
{
    put_special(r, "<|start_header_id|>");
    strbuf_append(&r->text, role, length);
    put_special(r, "<|end_header_id|>");
    strbuf_text(&r->text, "\n\n");
}

static void render_llama3(struct rendering *r, const struct chat_message *messages, size_t count,
                          bool add_generation_prompt)
{
    if (count > 0) put_special(r, "<|begin_of_text|>");
    for (size_t i = 0; i < count; i++) {
        llama3_header(r, messages[i].role, messages[i].role_length);
        append_trimmed(&r->text, messages[i].content, messages[i].content_length);
        put_special(r, "<|eot_id|>");
    }
    if (add_generation_prompt) llama3_header(r, "assistant", strlen("assistant"));
}

static enum status render(enum chat_template family, const struct chat_message *messages,
                          size_t count, bool add_generation_prompt, struct rendering *r,
                          struct error *err)
{
    if (family == CHAT_NONE || (size_t)family >= COUNT_OF(families))
        return fail(err, ST_UNSUPPORTED,
                    "the model has no chat template of a known family; supported: ChatML, SmolLM2, "
                    "Llama 3, Qwen2, Qwen2.5");
    if (family == CHAT_LLAMA3)
        render_llama3(r, messages, count, add_generation_prompt);
    else
        render_chatml(r, families[family].default_system, messages, count, add_generation_prompt);
    return ST_OK;
}

enum status chat_render_text(enum chat_template family, const struct chat_message *messages,
                             size_t count, bool add_generation_prompt, struct strbuf *out,
                             struct error *err)
{
    struct rendering r = {0};
    enum status status = render(family, messages, count, add_generation_prompt, &r, err);
    if (!status) strbuf_append(out, strbuf_cstr(&r.text), r.text.length);
    rendering_release(&r);
    return status;
}

/* Marks become ids, the stretches between them are tokenized. A special token that the vocabulary
 * lacks is ordinary text to its tokenizer, so its mark ends no stretch. */
static enum status tokenize(const struct rendering *r, const struct tokenizer *tokenizer,
                            struct token_list *out, struct error *err)
{
    const char *text = strbuf_cstr(&r->text);
    size_t from = 0;
    for (size_t i = 0; i < r->mark_count; i++) {
        const struct mark *mark = &r->marks[i];
        int32_t id = tokenizer_find_special(tokenizer, mark->special);
        if (id < 0) continue;
        enum status status =
            tokenizer_encode(tokenizer, text + from, mark->at - from, false, out, err);
        if (status) return status;
        token_list_append(out, id);
        from = mark->at + strlen(mark->special);
    }
    return tokenizer_encode(tokenizer, text + from, r->text.length - from, false, out, err);
}

enum status chat_render_tokens(enum chat_template family, const struct tokenizer *tokenizer,
                               const struct chat_message *messages, size_t count,
                               bool add_generation_prompt, struct token_list *out,
                               struct error *err)
{
    struct rendering r = {0};
    size_t before = out->count;
    enum status status = render(family, messages, count, add_generation_prompt, &r, err);
    if (!status) status = tokenize(&r, tokenizer, out, err);
    if (status) out->count = before;
    rendering_release(&r);
    return status;
}
