/* Mistral's [INST] forms. What sets them apart is spaces, where the system text goes, and what they
 * raise. */
#include "base/base.h"
#include "model/chat_private.h"

static const struct form {
    const char *before_inst, *after_inst, *before_end; /* around [INST] and before [/INST] */
    const char *before_answer, *after_answer;          /* after: behind EOS */
    enum { SYSTEM_RAISES, SYSTEM_FIRST, SYSTEM_LAST, SYSTEM_TURN } system;
    bool trims_answer;
} forms[CHAT_TEMPLATES] = {
    [CHAT_MISTRAL_OLD] = {"", " ", " ", "", " ", SYSTEM_RAISES, false},
    [CHAT_MISTRAL_OLD2] = {"", " ", " ", "", "", SYSTEM_RAISES, false},
    [CHAT_MISTRAL_V1] = {" ", " ", " ", " ", "", SYSTEM_FIRST, false},
    [CHAT_MISTRAL_V3] = {"", " ", "", " ", "", SYSTEM_LAST, true},
    [CHAT_MISTRAL_NEMO] = {"", "", "", "", "", SYSTEM_LAST, false},
    [CHAT_MISTRAL_V7] = {"", " ", "", " ", "", SYSTEM_TURN, false},
};

static enum status raise_alternation(const struct form *form, struct error *err)
{
    return fail(err, ST_INVALID, "%s roles must alternate user/assistant/user/assistant/...",
                form->system == SYSTEM_RAISES ? "Conversation"
                                              : "After the optional system message, conversation");
}

static enum status raise_role(const struct form *form, struct error *err)
{
    if (form->system == SYSTEM_RAISES)
        return fail(err, ST_INVALID, "Only user and assistant roles are supported!");
    if (form->system == SYSTEM_TURN)
        return fail(err, ST_INVALID, "Only user, system and assistant roles are supported!");
    return fail(err, ST_INVALID,
                "Only user and assistant roles are supported, with the exception of an initial "
                "optional system message!");
}

static bool is_tool(const struct form *form, const struct chat_message *message)
{
    return form->system == SYSTEM_LAST &&
           (has_role(message, "tool") || has_role(message, "tool_results"));
}

/* Users have the even turns. Tools have no turns of their own where the order is checked first. */
static enum status check_turn(const struct form *form, const struct chat_message *message,
                              size_t turn, struct error *err)
{
    if (form->system == SYSTEM_TURN || has_role(message, "user") == (turn % 2 == 0)) return ST_OK;
    return raise_alternation(form, err);
}

/* The newer forms look at all roles before they print any. */
static enum status check_turns(const struct form *form, const struct chat *chat, size_t first,
                               struct error *err)
{
    enum status status = ST_OK;
    size_t turn = 0;
    for (size_t i = first; !status && i < chat->count; i++)
        if (!is_tool(form, &chat->messages[i]))
            status = check_turn(form, &chat->messages[i], turn++, err);
    return status;
}

/* `system`: NULL, or the message whose content goes before this one's. */
static void put_question(struct rendering *r, const struct form *form, size_t i,
                         const struct chat_message *system)
{
    put_text(r, form->before_inst);
    put_special(r, "[INST]");
    put_text(r, form->after_inst);
    if (system) {
        put_bytes(r, system->content, system->content_length);
        put_text(r, "\n\n");
    }
    put_content(r, i, content_of(&r->chat->messages[i]));
    put_text(r, form->before_end);
    put_special(r, "[/INST]");
}

static void put_answer(struct rendering *r, const struct form *form, size_t i)
{
    struct span content = content_of(&r->chat->messages[i]);
    put_text(r, form->before_answer);
    put_content(r, i, form->trims_answer ? span_trim(content) : content);
    put_eos(r);
    put_text(r, form->after_answer);
}

static void put_system_turn(struct rendering *r, size_t i)
{
    put_special(r, "[SYSTEM_PROMPT]");
    put_text(r, " ");
    put_content(r, i, content_of(&r->chat->messages[i]));
    put_special(r, "[/SYSTEM_PROMPT]");
}

static enum status put_message(struct rendering *r, const struct form *form, size_t i,
                               const struct chat_message *system, struct error *err)
{
    const struct chat_message *message = &r->chat->messages[i];
    if (has_role(message, "user"))
        put_question(r, form, i, system);
    else if (has_role(message, "assistant"))
        put_answer(r, form, i);
    else if (has_role(message, "system") && form->system == SYSTEM_TURN)
        put_system_turn(r, i);
    else if (is_tool(form, message))
        return fail(err, ST_INVALID,
                    "role %.*s: results of tools belong to tool calls, which this template cannot "
                    "be given here",
                    (int)message->role_length, message->role);
    else
        return raise_role(form, err);
    return ST_OK;
}

/* The template has no generation prompt: [/INST] is one. */
enum status render_mistral(struct rendering *r, struct error *err)
{
    const struct chat *chat = r->chat;
    const struct form *form = &forms[chat->family];
    bool lifts = form->system == SYSTEM_FIRST || form->system == SYSTEM_LAST;
    if (lifts && !chat->count)
        return fail(err, ST_INVALID, "the template needs at least one message");
    const struct chat_message *system =
        lifts && has_role(&chat->messages[0], "system") ? &chat->messages[0] : NULL;
    size_t first = system != NULL;
    size_t with_system = form->system == SYSTEM_FIRST ? first : chat->count - 1;
    bool checks_first = form->system == SYSTEM_LAST;
    enum status status = checks_first ? check_turns(form, chat, first, err) : ST_OK;
    put_bos(r);
    for (size_t i = first; !status && i < chat->count; i++) {
        if (!checks_first) status = check_turn(form, &chat->messages[i], i - first, err);
        if (!status) status = put_message(r, form, i, i == with_system ? system : NULL, err);
    }
    return status;
}
