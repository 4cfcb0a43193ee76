/* The visible text of one sequence as its tokens come: detokenizer, then stop strings. Used on both
 * sides of the token log: by the engine's thread to know when to stop, by HTTP to know what to
 * show. */
#ifndef SERVER_CHOICE_TEXT_H
#define SERVER_CHOICE_TEXT_H

#include "model/tokenizer.h"

#include <stdbool.h>

struct choice_text {
    struct detokenizer detokenizer;
    struct stop_matcher *matcher; /* NULL: no stop strings */
    struct strbuf piece;          /* scratch: one token's text */
    int32_t tokens;               /* pushed so far */
    bool stopped;                 /* a stop string is complete; nothing is shown any more */
};

void choice_text_init(struct choice_text *text, const char *const *stops, size_t stop_count);
void choice_text_release(struct choice_text *text);

/* Appends what may be shown of one more token. Stop strings are looked for only after `min_tokens`
 * tokens. true: the sequence ends here because of a stop string. */
bool choice_text_push(struct choice_text *text, const struct tokenizer *tokenizer, int32_t token,
                      int32_t min_tokens, bool include_stop, struct strbuf *out);

/* Appends what was held back at the end: an unfinished character, the beginning of a stop string.
 */
void choice_text_finish(struct choice_text *text, struct strbuf *out);

#endif
