/* What the files of model/chat_*.c share: the text that is being rendered, and its families. */
#ifndef MODEL_CHAT_PRIVATE_H
#define MODEL_CHAT_PRIVATE_H

#include "model/chat.h"

#include <string.h>

/* The rendered text, and where the template's own special tokens stand in it. */
struct rendering {
    const struct chat *chat;
    struct strbuf text;
    struct chat_mark {
        size_t at, length;
        const char *special; /* a literal of these files, or NULL: the token is `id` */
        int32_t id;          /* -1: looked up by its text */
    } * marks;
    size_t mark_count, mark_capacity;
    /* Where the last message's content ends, for continue_final; 0: not rendered yet. */
    size_t final_end, final_marks;
    const struct tokenizer *tokenizer; /* NULL: BOS and EOS are chat->bos and chat->eos */
};

void put_special(struct rendering *r, const char *special);
void put_bos(struct rendering *r);
void put_eos(struct rendering *r);
void put_bytes(struct rendering *r, const char *text, size_t length);
void put_text(struct rendering *r, const char *text);

/* A stretch of a message. */
struct span {
    const char *text;
    size_t length;
};

/* What is shown of message i's content; the last message's end is remembered. */
void put_content(struct rendering *r, size_t i, struct span content);

static inline struct span content_of(const struct chat_message *message)
{
    return (struct span){message->content, message->content_length};
}

static inline bool has_role(const struct chat_message *message, const char *role)
{
    return message->role_length == strlen(role) &&
           memcmp(message->role, role, message->role_length) == 0;
}

/* Jinja's trim: Python's str.strip(). */
struct span span_trim(struct span span);
/* Python's strip("\n"), one side or both. */
struct span span_lstrip_newlines(struct span span);
struct span span_rstrip_newlines(struct span span);
/* Where `word` begins, the first or the last time; NULL: nowhere. */
const char *span_find(struct span span, const char *word);
const char *span_find_last(struct span span, const char *word);

/* One for each kind of template; they look at r->chat->family for the differences within. */
enum status render_chatml(struct rendering *r, struct error *err);
enum status render_qwen(struct rendering *r, struct error *err);
enum status render_llama3(struct rendering *r, struct error *err);
enum status render_mistral(struct rendering *r, struct error *err);

/* The system text that is put first when the conversation begins otherwise; NULL: none. */
const char *chat_default_system(enum chat_template family);

#endif
