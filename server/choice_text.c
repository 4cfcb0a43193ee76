#include "server/choice_text.h"

void choice_text_init(struct choice_text *text, const char *const *stops, size_t stop_count)
{
    *text = (struct choice_text){.matcher = stop_matcher_create(stops, stop_count)};
}

void choice_text_release(struct choice_text *text)
{
    stop_matcher_free(text->matcher);
    strbuf_free(&text->piece);
}

bool choice_text_push(struct choice_text *text, const struct tokenizer *tokenizer, int32_t token,
                      int32_t min_tokens, bool include_stop, struct strbuf *out)
{
    if (text->stopped) return true;
    text->tokens++;
    if (!text->matcher || text->tokens <= min_tokens) {
        detokenizer_push(&text->detokenizer, tokenizer, token, false, out);
        return false;
    }
    strbuf_clear(&text->piece);
    detokenizer_push(&text->detokenizer, tokenizer, token, false, &text->piece);
    text->stopped = stop_matcher_push(text->matcher, strbuf_cstr(&text->piece), text->piece.length,
                                      include_stop, out);
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
