/* Llama 3, and its successors that write the date into the system text. */
#include "base/base.h"
#include "model/chat_private.h"

#include <stdio.h>
#include <time.h>

static void put_header(struct rendering *r, const char *role, size_t length)
{
    put_special(r, "<|start_header_id|>");
    put_bytes(r, role, length);
    put_special(r, "<|end_header_id|>");
    put_text(r, "\n\n");
}

static void put_trimmed(struct rendering *r, size_t i)
{
    const struct chat_message *message = &r->chat->messages[i];
    put_header(r, message->role, message->role_length);
    put_content(r, i, span_trim(content_of(message)));
    put_special(r, "<|eot_id|>");
}

/* strftime_now("%d %b %Y"), with English months whatever the locale. */
static void put_today(struct rendering *r)
{
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = r->chat->now ? (time_t)r->chat->now : time(NULL);
    struct tm day;
    if (!localtime_r(&now, &day)) return;
    strbuf_format(&r->text, "%02d %s %04d", day.tm_mday, months[day.tm_mon], day.tm_year + 1900);
}

static void put_date(struct rendering *r)
{
    if (r->chat->date)
        put_bytes(r, r->chat->date, r->chat->date_length);
    else if (r->chat->family == CHAT_LLAMA32)
        put_today(r);
    else
        put_text(r, "26 Jul 2024"); /* the day that Llama 3.1's template names */
}

/* json.dumps(content, ensure_ascii=False) */
static void put_json(struct rendering *r, size_t i)
{
    struct span content = content_of(&r->chat->messages[i]);
    put_text(r, "\"");
    for (size_t at = 0; at < content.length; at++) {
        unsigned char c = (unsigned char)content.text[at];
        static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
        const char *found = c ? strchr(escaped, c) : NULL;
        if (found)
            strbuf_format(&r->text, "\\%c", letters[found - escaped]);
        else if (c < 0x20)
            strbuf_format(&r->text, "\\u%04x", c);
        else
            strbuf_char(&r->text, (char)c);
    }
    put_content(r, i, (struct span){"\"", 1});
}

static void put_dated_system(struct rendering *r, bool given)
{
    put_header(r, "system", strlen("system"));
    put_text(r, "Cutting Knowledge Date: December 2023\nToday Date: ");
    put_date(r);
    put_text(r, "\n\n");
    if (given) put_content(r, 0, span_trim(content_of(&r->chat->messages[0])));
    put_special(r, "<|eot_id|>");
}

static void put_dated_turn(struct rendering *r, size_t i)
{
    const struct chat_message *message = &r->chat->messages[i];
    if (!has_role(message, "tool") && !has_role(message, "ipython")) {
        put_trimmed(r, i);
        return;
    }
    put_header(r, "ipython", strlen("ipython"));
    put_json(r, i);
    put_special(r, "<|eot_id|>");
}

enum status render_llama3(struct rendering *r, struct error *err)
{
    const struct chat *chat = r->chat;
    bool dated = chat->family == CHAT_LLAMA31 || chat->family == CHAT_LLAMA32;
    if (dated && !chat->count)
        return fail(err, ST_INVALID, "the template needs at least one message");
    if (dated || chat->count) put_bos(r);
    size_t first = 0;
    if (dated) {
        first = has_role(&chat->messages[0], "system");
        put_dated_system(r, first);
    }
    for (size_t i = first; i < chat->count; i++)
        if (dated)
            put_dated_turn(r, i);
        else
            put_trimmed(r, i);
    /* The first template had no condition here. */
    if (chat->add_generation_prompt || chat->family == CHAT_LLAMA3_FIRST)
        put_header(r, "assistant", strlen("assistant"));
    return ST_OK;
}
