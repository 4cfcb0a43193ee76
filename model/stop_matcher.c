/* Stop strings in a stream. Each string is followed by its own automaton (Knuth, Morris, Pratt):
 * its state is the number of its bytes that the text ends with. The largest state is therefore
 * exactly the part of the text that may turn out to begin a stop string and must not be shown yet.
 *
 * The string that is complete first counts; of those complete at the same byte, the longest.
 */
#include "model/tokenizer.h"
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

struct stop_string {
    char *text;
    size_t length;
    size_t *fallback; /* [length + 1]: the state to try next when a byte does not fit */
    size_t state;
};

struct stop_matcher {
    struct strbuf held; /* the end of the text, as long as the largest state */
    bool stopped;
    size_t count;
    struct stop_string strings[];
};

/* The state after `byte`. A complete string is left before the next byte comes. */
static size_t advance(const struct stop_string *s, size_t state, char byte)
{
    while (state > 0 && (state == s->length || s->text[state] != byte))
        state = s->fallback[state];
    return s->text[state] == byte ? state + 1 : 0;
}

/* fallback[n] is the state that the automaton reaches on the string's own bytes 1 to n - 1. */
static void build(struct stop_string *s, const char *text)
{
    s->length = strlen(text);
    invariant(s->length > 0, "an empty stop string");
    s->text = must_strdup(text);
    s->fallback = must_alloc((s->length + 1) * sizeof *s->fallback);
    for (size_t i = 1; i < s->length; i++)
        s->fallback[i + 1] = advance(s, s->fallback[i], text[i]);
}

struct stop_matcher *stop_matcher_create(const char *const *strings, size_t count)
{
    if (count == 0) return NULL;
    struct stop_matcher *matcher = must_alloc(sizeof *matcher + count * sizeof matcher->strings[0]);
    matcher->count = count;
    for (size_t i = 0; i < count; i++)
        build(&matcher->strings[i], strings[i]);
    return matcher;
}

void stop_matcher_free(struct stop_matcher *matcher)
{
    if (!matcher) return;
    for (size_t i = 0; i < matcher->count; i++) {
        free(matcher->strings[i].text);
        free(matcher->strings[i].fallback);
    }
    strbuf_free(&matcher->held);
    free(matcher);
}

/* Takes one byte into every automaton. *largest: the largest state; the result: the length of the
 * longest string that is complete, or 0. */
static size_t take_byte(struct stop_matcher *matcher, char byte, size_t *largest)
{
    size_t complete = 0;
    *largest = 0;
    for (size_t i = 0; i < matcher->count; i++) {
        struct stop_string *s = &matcher->strings[i];
        s->state = advance(s, s->state, byte);
        if (s->state > *largest) *largest = s->state;
        if (s->state == s->length && s->length > complete) complete = s->length;
    }
    return complete;
}

bool stop_matcher_push(struct stop_matcher *matcher, const char *text, size_t length, bool include,
                       struct strbuf *out)
{
    struct strbuf *held = &matcher->held;
    size_t keep = held->length;
    for (size_t i = 0; i < length && !matcher->stopped; i++) {
        strbuf_char(held, text[i]);
        size_t complete = take_byte(matcher, text[i], &keep);
        if (!complete) continue;
        strbuf_append(out, held->data, held->length - (include ? 0 : complete));
        strbuf_clear(held);
        matcher->stopped = true;
    }
    if (matcher->stopped) return true;
    size_t certain = held->length - keep;
    strbuf_append(out, strbuf_cstr(held), certain);
    strbuf_drop_front(held, certain);
    return false;
}

void stop_matcher_finish(struct stop_matcher *matcher, struct strbuf *out)
{
    strbuf_append(out, strbuf_cstr(&matcher->held), matcher->held.length);
    strbuf_clear(&matcher->held);
}
