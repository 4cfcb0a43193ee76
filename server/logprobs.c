#include "server/logprobs.h"
#include "model/utf8.h"
#include "server/render.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define LOWEST_LOGPROB -9999.0

void logprobs_release(struct logprobs_text *text)
{
    strbuf_free(&text->tokens);
    strbuf_free(&text->numbers);
    strbuf_free(&text->tops);
    strbuf_free(&text->offsets);
}

static void comma(struct strbuf *out)
{
    if (out->length) strbuf_char(out, ',');
}

static void render_number(struct strbuf *out, float logprob)
{
    /* Nine digits: the client reads the very float back, so equal tokens have equal numbers. */
    if (isfinite(logprob))
        strbuf_format(out, "%.9g", (double)logprob);
    else
        strbuf_format(out, "%.1f", LOWEST_LOGPROB);
}

static void render_token(struct strbuf *out, const char *bytes, size_t length, bool chat)
{
    if (utf8_valid_prefix(bytes, length) == length) {
        render_json_string(out, bytes, length);
        return;
    }
    strbuf_text(out, chat ? "\"" : "\"bytes:");
    for (size_t i = 0; i < length; i++)
        strbuf_format(out, "\\\\x%02x", (unsigned char)bytes[i]);
    strbuf_char(out, '"');
}

/* --- completions */

int64_t logprobs_characters(const char *bytes, size_t length)
{
    int64_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return count;
}

static void add_place(struct logprobs_text *text, const struct tokenizer *tokenizer, int32_t token)
{
    size_t length, visible;
    const char *bytes = tokenizer_token_view(tokenizer, token, true, &length);
    comma(&text->tokens);
    render_token(&text->tokens, bytes, length, false);
    comma(&text->offsets);
    strbuf_format(&text->offsets, "%" PRId64, text->offset);
    const char *shown = tokenizer_token_view(tokenizer, token, false, &visible);
    text->offset += logprobs_characters(shown, visible);
}

void logprobs_add_given(struct logprobs_text *text, const struct tokenizer *tokenizer,
                        int32_t token)
{
    add_place(text, tokenizer, token);
    comma(&text->numbers);
    strbuf_text(&text->numbers, "null");
    comma(&text->tops);
    strbuf_text(&text->tops, "null");
}

static bool same_text(const struct tokenizer *tokenizer, int32_t a, int32_t b)
{
    size_t a_length, b_length;
    const char *a_bytes = tokenizer_token_view(tokenizer, a, true, &a_length);
    const char *b_bytes = tokenizer_token_view(tokenizer, b, true, &b_length);
    return a_length == b_length && memcmp(a_bytes, b_bytes, a_length) == 0;
}

/* A member of the object of alternatives, unless one of the likelier tokens before it has the same
 * text: a key comes once, with its largest number. */
static void add_alternative(struct strbuf *out, const struct tokenizer *tokenizer,
                            struct token_logprob one, const struct token_logprob *before,
                            size_t before_count)
{
    for (size_t i = 0; i < before_count; i++)
        if (same_text(tokenizer, one.token, before[i].token)) return;
    size_t length;
    const char *bytes = tokenizer_token_view(tokenizer, one.token, true, &length);
    if (before_count) strbuf_char(out, ',');
    render_token(out, bytes, length, false);
    strbuf_char(out, ':');
    render_number(out, one.logprob);
}

static void add_completion(struct logprobs_text *text, const struct tokenizer *tokenizer,
                           const struct token_record *record, const struct token_logprob *top)
{
    add_place(text, tokenizer, record->token);
    comma(&text->numbers);
    render_number(&text->numbers, record->logprob);
    comma(&text->tops);
    strbuf_char(&text->tops, '{');
    for (size_t i = 0; i < record->top_count; i++)
        add_alternative(&text->tops, tokenizer, top[i], top, i);
    struct token_logprob own = {record->token, record->logprob};
    add_alternative(&text->tops, tokenizer, own, top, record->top_count);
    strbuf_char(&text->tops, '}');
}

/* --- chat */

/* "token":...,"logprob":...,"bytes":[...] */
static void render_chat_token(struct strbuf *out, const struct tokenizer *tokenizer, int32_t token,
                              float logprob)
{
    size_t length;
    const char *bytes = tokenizer_token_view(tokenizer, token, true, &length);
    strbuf_text(out, "\"token\":");
    render_token(out, bytes, length, true);
    strbuf_text(out, ",\"logprob\":");
    render_number(out, logprob);
    strbuf_text(out, ",\"bytes\":[");
    for (size_t i = 0; i < length; i++)
        strbuf_format(out, i ? ",%d" : "%d", (unsigned char)bytes[i]);
    strbuf_char(out, ']');
}

static void add_chat(struct strbuf *out, const struct tokenizer *tokenizer,
                     const struct token_record *record, const struct token_logprob *top)
{
    comma(out);
    strbuf_char(out, '{');
    render_chat_token(out, tokenizer, record->token, record->logprob);
    strbuf_text(out, ",\"top_logprobs\":[");
    for (size_t i = 0; i < record->top_count; i++) {
        strbuf_text(out, i ? ",{" : "{");
        render_chat_token(out, tokenizer, top[i].token, top[i].logprob);
        strbuf_char(out, '}');
    }
    strbuf_text(out, "]}");
}

/* --- both */

void logprobs_add(struct logprobs_text *text, const struct tokenizer *tokenizer, bool chat,
                  const struct token_record *record, const struct token_logprob *top)
{
    if (chat)
        add_chat(&text->tokens, tokenizer, record, top);
    else
        add_completion(text, tokenizer, record, top);
}

void logprobs_render(struct logprobs_text *text, bool chat, struct strbuf *out)
{
    if (chat) {
        strbuf_format(out, "{\"content\":[%s],\"refusal\":null}", strbuf_cstr(&text->tokens));
    } else {
        strbuf_format(out, "{\"text_offset\":[%s],\"token_logprobs\":[%s],",
                      strbuf_cstr(&text->offsets), strbuf_cstr(&text->numbers));
        strbuf_format(out, "\"tokens\":[%s],\"top_logprobs\":[%s]}", strbuf_cstr(&text->tokens),
                      strbuf_cstr(&text->tops));
    }
    strbuf_clear(&text->tokens);
    strbuf_clear(&text->numbers);
    strbuf_clear(&text->tops);
    strbuf_clear(&text->offsets);
}
