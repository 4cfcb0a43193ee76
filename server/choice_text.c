#include "server/choice_text.h"
#include "base/alloc.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

void choice_text_init(struct choice_text *text, const char *const *stops, size_t stop_count)
{
    *text = (struct choice_text){.matcher = stop_matcher_create(stops, stop_count)};
}

void choice_text_release(struct choice_text *text)
{
    stop_matcher_free(text->matcher);
    strbuf_free(&text->piece);
    strbuf_free(&text->rest);
    free(text->waiting.ends);
}

/* --- what stays in the context */

void choice_text_keep(struct choice_text *text)
{
    text->keeps = true;
}

static void queue_end(struct token_ends *queue, uint64_t end)
{
    if (queue->first + queue->count == queue->capacity) {
        if (queue->first >= queue->capacity / 2 && queue->first > 0) {
            memmove(queue->ends, queue->ends + queue->first, queue->count * sizeof *queue->ends);
            queue->first = 0;
        } else {
            queue->capacity = queue->capacity ? 2 * queue->capacity : 16;
            queue->ends = must_realloc(queue->ends, queue->capacity * sizeof *queue->ends);
        }
    }
    queue->ends[queue->first + queue->count++] = end;
}

/* One token's text has come from the detokenizer. The first character of it completes what the
 * tokens before had begun. */
static void count_token(struct choice_text *text, const char *piece, size_t length)
{
    struct token_ends *queue = &text->waiting;
    if (length > 0 && queue->open > 0) {
        uint64_t end = text->decoded + utf8_step(piece, length).length;
        for (; queue->open > 0; queue->open--)
            queue->ends[queue->first + queue->count - queue->open] = end;
    }
    text->decoded += length;
    queue_end(queue, text->decoded);
    if (text->detokenizer.held_count > 0) queue->open++;
}

static void count_visible(struct choice_text *text, const struct strbuf *out, size_t before)
{
    if (!text->keeps || out->failed) return;
    text->visible += out->length - before;
    strbuf_append(&text->rest, strbuf_cstr(out) + before, out->length - before);
}

void choice_text_settle(struct choice_text *text)
{
    struct token_ends *queue = &text->waiting;
    uint64_t rest_begins = text->visible - text->rest.length, kept_end = rest_begins;
    while (queue->count > queue->open && queue->ends[queue->first] <= text->visible) {
        kept_end = queue->ends[queue->first++];
        queue->count--;
        text->kept++;
    }
    strbuf_drop_front(&text->rest, kept_end - rest_begins);
}

void choice_text_cut(struct choice_text *text, size_t bytes)
{
    text->stopped = true;
    text->visible -= bytes;
    strbuf_truncate(&text->rest, text->rest.length - bytes);
}

/* --- the text */

static bool push(struct choice_text *text, const struct tokenizer *tokenizer, int32_t token,
                 int32_t min_tokens, bool include_stop, struct strbuf *out)
{
    struct strbuf *piece = &text->piece;
    bool search = text->matcher && text->tokens > min_tokens;
    if (!search && !text->keeps) {
        detokenizer_push(&text->detokenizer, tokenizer, token, false, out);
        return false;
    }
    strbuf_clear(piece);
    detokenizer_push(&text->detokenizer, tokenizer, token, false, piece);
    if (text->keeps) count_token(text, strbuf_cstr(piece), piece->length);
    if (search)
        return stop_matcher_push(text->matcher, strbuf_cstr(piece), piece->length, include_stop,
                                 out);
    strbuf_append(out, strbuf_cstr(piece), piece->length);
    return false;
}

bool choice_text_push(struct choice_text *text, const struct tokenizer *tokenizer, int32_t token,
                      int32_t min_tokens, bool include_stop, struct strbuf *out)
{
    if (text->stopped) return true;
    if (text->keeps) choice_text_settle(text);
    text->tokens++;
    size_t before = out->length;
    text->stopped = push(text, tokenizer, token, min_tokens, include_stop, out);
    count_visible(text, out, before);
    return text->stopped;
}

void choice_text_finish(struct choice_text *text, struct strbuf *out)
{
    if (text->stopped) return;
    if (!text->matcher) {
        detokenizer_finish(&text->detokenizer, out);
        return;
    }
    strbuf_clear(&text->piece);
    detokenizer_finish(&text->detokenizer, &text->piece);
    text->stopped =
        stop_matcher_push(text->matcher, strbuf_cstr(&text->piece), text->piece.length, false, out);
    if (!text->stopped) stop_matcher_finish(text->matcher, out);
}

void choice_text_end(struct choice_text *text, struct strbuf *out)
{
    size_t before = out->length;
    if (!text->stopped && text->matcher) stop_matcher_finish(text->matcher, out);
    count_visible(text, out, before);
    choice_text_settle(text);
}
