/* Tokens to text that is always valid UTF-8. A character's bytes may come from several tokens; they
 * are held until the character is whole, and replaced by U+FFFD as soon as it is known that it
 * never will be.
 */
#include "model/tokenizer.h"
#include "base/base.h"
#include "model/utf8.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Completes what is held with the first bytes of text; returns how many of them it took. The held
 * bytes begin a character, so a broken part holds all of them and nothing is looked at twice. */
static size_t complete_held(struct detokenizer *state, const char *text, size_t length,
                            struct strbuf *out)
{
    char joined[sizeof state->held + 4];
    size_t held = state->held_count, more = length < 4 ? length : 4;
    memcpy(joined, state->held, held);
    memcpy(joined + held, text, more);
    struct utf8_step step = utf8_step(joined, held + more);
    if (step.kind == UTF8_UNFINISHED) {
        memcpy(state->held, joined, step.length);
        state->held_count = step.length;
        return more;
    }
    state->held_count = 0;
    if (step.kind == UTF8_WHOLE)
        strbuf_append(out, joined, step.length);
    else
        strbuf_text(out, REPLACEMENT);
    return step.length - held;
}

static void push_bytes(struct detokenizer *state, const char *text, size_t length,
                       struct strbuf *out)
{
    while (length > 0) {
        size_t used;
        if (state->held_count) {
            used = complete_held(state, text, length, out);
        } else if ((used = utf8_valid_prefix(text, length)) > 0) {
            strbuf_append(out, text, used);
        } else {
            struct utf8_step step = utf8_step(text, length);
            used = step.length;
            if (step.kind == UTF8_BROKEN) strbuf_text(out, REPLACEMENT);
            if (step.kind == UTF8_UNFINISHED) {
                memcpy(state->held, text, used);
                state->held_count = step.length;
            }
        }
        text += used;
        length -= used;
    }
}

void detokenizer_push(struct detokenizer *state, const struct tokenizer *tokenizer, int32_t id,
                      bool show_special, struct strbuf *out)
{
    size_t length;
    const char *bytes = tokenizer_token_view(tokenizer, id, show_special, &length);
    push_bytes(state, bytes, length, out);
}

void detokenizer_finish(struct detokenizer *state, struct strbuf *out)
{
    if (state->held_count) strbuf_text(out, REPLACEMENT);
    state->held_count = 0;
}

void tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                      bool show_special, struct strbuf *out)
{
    struct detokenizer state = {0};
    for (size_t i = 0; i < count; i++)
        detokenizer_push(&state, tokenizer, ids[i], show_special, out);
    detokenizer_finish(&state, out);
}
