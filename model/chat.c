/* Rendering, whatever the family: the marked text and its two forms (see chat.h). */
#include "base/base.h"
#include "model/chat_private.h"

#include <stdlib.h>

/* --- the marked text */

static void rendering_release(struct rendering *r)
{
    strbuf_free(&r->text);
    free(r->marks);
}

static void add_mark(struct rendering *r, const char *special, int32_t id, size_t length)
{
    if (r->mark_count == r->mark_capacity) {
        r->mark_capacity = r->mark_capacity ? r->mark_capacity * 2 : 16;
        r->marks = must_realloc(r->marks, r->mark_capacity * sizeof *r->marks);
    }
    r->marks[r->mark_count++] = (struct chat_mark){r->text.length, length, special, id};
}

void put_special(struct rendering *r, const char *special)
{
    add_mark(r, special, -1, strlen(special));
    strbuf_text(&r->text, special);
}

void put_bytes(struct rendering *r, const char *text, size_t length)
{
    strbuf_append(&r->text, text, length);
}

void put_text(struct rendering *r, const char *text)
{
    strbuf_text(&r->text, text);
}

/* bos_token and eos_token: nothing for a model that has none, as Jinja prints a name that is not
 * defined. */
static void put_model_token(struct rendering *r, int32_t id, const char *text)
{
    size_t length = text ? strlen(text) : 0;
    if (r->tokenizer) text = tokenizer_token_view(r->tokenizer, id, true, &length);
    if (!length) return;
    if (r->tokenizer) add_mark(r, NULL, id, length);
    put_bytes(r, text, length);
}

void put_bos(struct rendering *r)
{
    put_model_token(r, r->tokenizer ? tokenizer_bos(r->tokenizer) : -1, r->chat->bos);
}

void put_eos(struct rendering *r)
{
    put_model_token(r, r->tokenizer ? tokenizer_eos(r->tokenizer) : -1, r->chat->eos);
}

void put_content(struct rendering *r, size_t i, struct span content)
{
    put_bytes(r, content.text, content.length);
    if (i + 1 != r->chat->count) return;
    r->final_end = r->text.length;
    r->final_marks = r->mark_count;
}

/* --- rendering */

static enum status (*const renderers[CHAT_TEMPLATES])(struct rendering *, struct error *) = {
    [CHAT_CHATML] = render_chatml,        [CHAT_CHATML_BOS] = render_chatml,
    [CHAT_QWEN15] = render_chatml,        [CHAT_SMOLLM2] = render_chatml,
    [CHAT_QWEN2] = render_chatml,         [CHAT_LLAMA3] = render_llama3,
    [CHAT_LLAMA3_FIRST] = render_llama3,  [CHAT_LLAMA31] = render_llama3,
    [CHAT_LLAMA32] = render_llama3,       [CHAT_QWEN25] = render_qwen,
    [CHAT_QWEN3] = render_qwen,           [CHAT_QWEN3_INSTRUCT] = render_qwen,
    [CHAT_QWEN3_THINKING] = render_qwen,  [CHAT_QWQ] = render_qwen,
    [CHAT_MISTRAL_OLD] = render_mistral,  [CHAT_MISTRAL_OLD2] = render_mistral,
    [CHAT_MISTRAL_V1] = render_mistral,   [CHAT_MISTRAL_V3] = render_mistral,
    [CHAT_MISTRAL_NEMO] = render_mistral, [CHAT_MISTRAL_V7] = render_mistral,
};

/* The rendering ends where the last message's content does. */
static enum status cut_after_final(struct rendering *r, struct error *err)
{
    if (!r->final_end)
        return fail(err, ST_INVALID,
                    "continue_final_message: the template does not show the last message");
    r->mark_count = r->final_marks;
    strbuf_truncate(&r->text, r->final_end);
    return ST_OK;
}

static enum status render(struct rendering *r, struct error *err)
{
    const struct chat *chat = r->chat;
    if (chat->family <= CHAT_NONE || chat->family >= CHAT_TEMPLATES)
        return fail(err, ST_UNSUPPORTED,
                    "the model has no chat template that is known here; name one with "
                    "--chat-template");
    if (chat->continue_final && chat->add_generation_prompt)
        return fail(err, ST_INVALID,
                    "continue_final_message and add_generation_prompt cannot both be true");
    enum status status = renderers[chat->family](r, err);
    if (!status && r->text.failed) status = fail(err, ST_NO_MEMORY, "out of memory for the chat");
    if (!status && chat->continue_final) status = cut_after_final(r, err);
    return status;
}

enum status chat_render_text(const struct chat *chat, struct strbuf *out, struct error *err)
{
    struct rendering r = {.chat = chat};
    enum status status = render(&r, err);
    if (!status) strbuf_append(out, strbuf_cstr(&r.text), r.text.length);
    rendering_release(&r);
    return status;
}

/* Marks become ids, the stretches between them are tokenized. A special token that the vocabulary
 * lacks is ordinary text to its tokenizer, so its mark ends no stretch. */
static enum status tokenize(const struct rendering *r, struct token_list *out, struct error *err)
{
    const char *text = strbuf_cstr(&r->text);
    size_t from = 0;
    for (size_t i = 0; i < r->mark_count; i++) {
        const struct chat_mark *mark = &r->marks[i];
        int32_t id = mark->special ? tokenizer_find_special(r->tokenizer, mark->special) : mark->id;
        if (id < 0) continue;
        enum status status =
            tokenizer_encode(r->tokenizer, text + from, mark->at - from, false, out, err);
        if (status) return status;
        token_list_append(out, id);
        from = mark->at + mark->length;
    }
    return tokenizer_encode(r->tokenizer, text + from, r->text.length - from, false, out, err);
}

enum status chat_render_tokens(const struct chat *chat, const struct tokenizer *tokenizer,
                               struct token_list *out, struct error *err)
{
    struct rendering r = {.chat = chat, .tokenizer = tokenizer, .text.may_fail = true};
    size_t before = out->count;
    enum status status = render(&r, err);
    if (!status) status = tokenize(&r, out, err);
    if (status) out->count = before;
    rendering_release(&r);
    return status;
}
