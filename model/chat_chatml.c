/* ChatML and its kin: plain loops, and the Qwen templates that know tools and thinking. */
#include "base/base.h"
#include "model/chat_private.h"

#define IM_START "<|im_start|>"
#define IM_END   "<|im_end|>"

const char *chat_default_system(enum chat_template family)
{
    switch (family) {
    case CHAT_SMOLLM2:
        return "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    case CHAT_QWEN15:
        return "You are a helpful assistant";
    case CHAT_QWEN2:
        return "You are a helpful assistant.";
    case CHAT_QWEN25:
        return "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
    default:
        return NULL;
    }
}

static void open_turn(struct rendering *r, const char *role, size_t length)
{
    put_special(r, IM_START);
    put_bytes(r, role, length);
}

static void close_turn(struct rendering *r)
{
    put_special(r, IM_END);
    put_text(r, "\n");
}

static void put_turn(struct rendering *r, size_t i, struct span content)
{
    const struct chat_message *message = &r->chat->messages[i];
    open_turn(r, message->role, message->role_length);
    put_text(r, "\n");
    put_content(r, i, content);
    close_turn(r);
}

static void put_default_system(struct rendering *r)
{
    const char *system = chat_default_system(r->chat->family);
    if (!system) return;
    open_turn(r, "system", strlen("system"));
    put_text(r, "\n");
    put_text(r, system);
    close_turn(r);
}

static void put_assistant_header(struct rendering *r)
{
    open_turn(r, "assistant", strlen("assistant"));
    put_text(r, "\n");
}

enum status render_chatml(struct rendering *r, struct error *err)
{
    (void)err; /* any role is printed */
    const struct chat *chat = r->chat;
    if (chat->family == CHAT_CHATML_BOS) put_bos(r);
    if (chat->count > 0 && !has_role(&chat->messages[0], "system")) put_default_system(r);
    for (size_t i = 0; i < chat->count; i++)
        put_turn(r, i, content_of(&chat->messages[i]));
    if (chat->add_generation_prompt) put_assistant_header(r);
    return ST_OK;
}

/* --- Qwen2.5 and later */

static bool wraps_tool_response(const struct chat_message *message)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    size_t length = message->content_length;
    return length >= strlen(open) && length >= strlen(close) &&
           memcmp(message->content, open, strlen(open)) == 0 &&
           memcmp(message->content + length - strlen(close), close, strlen(close)) == 0;
}

/* The last question of the user: thoughts after it are still needed. */
static size_t last_query(const struct chat *chat)
{
    for (size_t i = chat->count; i-- > 0;)
        if (has_role(&chat->messages[i], "user") && !wraps_tool_response(&chat->messages[i]))
            return i;
    return chat->count - 1;
}

static struct span after(struct span whole, const char *at)
{
    return (struct span){at, whole.length - (size_t)(at - whole.text)};
}

/* An answer as content and what was thought before it: "<think>\nthought\n</think>\n\ncontent". */
static void split_thought(const struct chat_message *message, struct span *content,
                          struct span *thought)
{
    *content = content_of(message);
    *thought = (struct span){message->reasoning, message->reasoning_length};
    const char *first = message->reasoning ? NULL : span_find(*content, "</think>");
    if (!first) return;
    *thought = span_rstrip_newlines((struct span){content->text, (size_t)(first - content->text)});
    const char *open = span_find_last(*thought, "<think>");
    if (open) *thought = after(*thought, open + strlen("<think>"));
    *thought = span_lstrip_newlines(*thought);
    const char *last = span_find_last(*content, "</think>");
    *content = span_lstrip_newlines(after(*content, last + strlen("</think>")));
}

static void put_thought(struct rendering *r, struct span thought)
{
    put_special(r, "<think>");
    put_text(r, "\n");
    thought = span_rstrip_newlines(span_lstrip_newlines(thought));
    put_bytes(r, thought.text, thought.length);
    put_text(r, "\n");
    put_special(r, "</think>");
    put_text(r, "\n\n");
}

/* Thoughts of answers before the last question are left out. */
static void put_thinking_answer(struct rendering *r, size_t i, size_t query)
{
    const struct chat_message *message = &r->chat->messages[i];
    struct span content, thought;
    split_thought(message, &content, &thought);
    open_turn(r, message->role, message->role_length);
    put_text(r, "\n");
    bool last = i + 1 == r->chat->count;
    if (i > query && (last || thought.length)) {
        put_thought(r, thought);
        content = span_lstrip_newlines(content);
    }
    put_content(r, i, content);
    close_turn(r);
}

static void put_answer(struct rendering *r, size_t i, size_t query)
{
    const struct chat_message *message = &r->chat->messages[i];
    switch (r->chat->family) {
    case CHAT_QWEN3:
    case CHAT_QWEN3_THINKING:
        put_thinking_answer(r, i, query);
        return;
    case CHAT_QWQ: {
        struct span content = content_of(message);
        const char *last = i + 1 < r->chat->count ? span_find_last(content, "</think>") : NULL;
        if (last) content = after(content, last + strlen("</think>"));
        put_turn(r, i, i + 1 < r->chat->count ? span_lstrip_newlines(content) : content);
        return;
    }
    default:
        put_turn(r, i, content_of(message));
    }
}

/* Results of tools are told by the user, neighbours in one turn. */
static void put_tool_result(struct rendering *r, size_t i)
{
    const struct chat *chat = r->chat;
    if (i == 0 || !has_role(&chat->messages[i - 1], "tool")) open_turn(r, "user", strlen("user"));
    put_text(r, "\n");
    put_special(r, "<tool_response>");
    put_text(r, "\n");
    put_content(r, i, content_of(&chat->messages[i]));
    put_text(r, "\n");
    put_special(r, "</tool_response>");
    if (i + 1 == chat->count || !has_role(&chat->messages[i + 1], "tool")) close_turn(r);
}

static void put_qwen_generation(struct rendering *r)
{
    enum chat_template family = r->chat->family;
    put_assistant_header(r);
    if (family == CHAT_QWEN3 && r->chat->no_thinking) put_thought(r, (struct span){"", 0});
    if (family != CHAT_QWEN3_THINKING && family != CHAT_QWQ) return;
    put_special(r, "<think>");
    put_text(r, "\n");
}

/* Roles that the template does not know are not printed. */
enum status render_qwen(struct rendering *r, struct error *err)
{
    const struct chat *chat = r->chat;
    if (!chat->count) return fail(err, ST_INVALID, "the template needs at least one message");
    size_t query = last_query(chat);
    if (!has_role(&chat->messages[0], "system")) put_default_system(r);
    for (size_t i = 0; i < chat->count; i++) {
        const struct chat_message *message = &chat->messages[i];
        if (has_role(message, "user") || has_role(message, "system"))
            put_turn(r, i, content_of(message));
        else if (has_role(message, "assistant"))
            put_answer(r, i, query);
        else if (has_role(message, "tool"))
            put_tool_result(r, i);
    }
    if (chat->add_generation_prompt) put_qwen_generation(r);
    return ST_OK;
}
