/* The visible text of one sequence as its tokens come: detokenizer, then stop strings. Used on both
 * sides of the token log: by the engine's thread to know when to stop and what stays in the
 * context, by HTTP to know what to show.
 *
 * In an answer with stages (choice_text_keep) a token stays in the context only when all its bytes
 * are visible. `kept` counts these tokens and `rest` is what is visible behind them: empty, or the
 * beginning of a token that was cut. Both are certain once the sequence has ended.
 * Both sides must give the same stop strings, min_tokens and include_stop, and in stages no EOS.
 *
 *     init, keep?, (push, cut?)*, finish or end, release
 */
#ifndef SERVER_CHOICE_TEXT_H
#define SERVER_CHOICE_TEXT_H

#include "model/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

/* The tokens that are not kept yet: for each, how many bytes of text there are when all of its own
 * are text. A queue in an array. */
struct token_ends {
    uint64_t *ends; /* [capacity] */
    size_t first, count, capacity;
    size_t open; /* the last of them: in an unfinished character, their end is not known */
};

struct choice_text {
    struct detokenizer detokenizer;
    struct stop_matcher *matcher; /* NULL: no stop strings */
    struct strbuf piece;          /* scratch: one token's text */
    int32_t tokens;               /* pushed so far */
    bool stopped;                 /* the text is complete; nothing is shown any more */

    bool keeps; /* what follows is kept count of */
    int32_t kept;
    struct strbuf rest;
    struct token_ends waiting;
    uint64_t decoded, visible; /* bytes of text: all, and those shown */
};

void choice_text_init(struct choice_text *text, const char *const *stops, size_t stop_count);
void choice_text_release(struct choice_text *text);

/* Right behind init: counts what stays in the context. */
void choice_text_keep(struct choice_text *text);

/* Appends what may be shown of one more token. Stop strings are looked for only after `min_tokens`
 * tokens. true: the sequence ends here because of a stop string. */
bool choice_text_push(struct choice_text *text, const struct tokenizer *tokenizer, int32_t token,
                      int32_t min_tokens, bool include_stop, struct strbuf *out);

/* The text ends `bytes` before what the last push made visible does: whoever looks for a tag that
 * ends the sequence found it there. The caller takes them off what it shows. */
void choice_text_cut(struct choice_text *text, size_t bytes);

/* `kept` and `rest` as far as they are known; the next push and the end do it too. */
void choice_text_settle(struct choice_text *text);

/* Appends what was held back at the end: an unfinished character (as U+FFFD), the beginning of a
 * stop string. */
void choice_text_finish(struct choice_text *text, struct strbuf *out);

/* The same at the end of a sequence of a stage: an unfinished character is dropped. Then `kept` and
 * `rest` are certain. */
void choice_text_end(struct choice_text *text, struct strbuf *out);

#endif
