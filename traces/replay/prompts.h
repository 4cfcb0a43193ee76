/* Prompts of a wanted number of tokens, with the sharing that a trace describes, for a server whose
 * tokenizer we do not have.
 *
 * A prompt is a row of words, each of which is one token of the server's: `/tokenize` says so
 * before the run, for all words in a few calls, so that no request needs a call of its own. Word i
 * of the shared text `id` depends on (seed, id, i) alone; what no prefix covers depends on the
 * request. So equal ids give equal bytes, and equal tokens. Where words cannot be (a vocabulary of
 * bytes) letters take their place; where there is no /tokenize each word is taken for one token and
 * the report says that nothing was checked.
 */
#ifndef TRACES_REPLAY_PROMPTS_H
#define TRACES_REPLAY_PROMPTS_H

#include "base/strbuf.h"
#include "traces/replay/target.h"
#include "traces/trace.h"

enum prompt_check {
    PROMPTS_EXACT,     /* checked by /tokenize */
    PROMPTS_BY_IDS,    /* token ids: exact without a check */
    PROMPTS_ESTIMATED, /* no /tokenize, or it counts otherwise than word by word */
};

struct prompt_options {
    const char *corpus; /* a text file whose words are used, in its order; NULL: common words */
    bool ids;           /* arrays of token ids */
    bool chat; /* inside one user's message: its template's tokens are part of the prompt */
    int32_t max_tokens; /* longer ones are cut; 0: never */
};

struct prompts;

/* Asks the server. ST_IO, ST_INVALID: the corpus cannot be read or has no words. */
enum status prompts_create(const struct prompt_options *options, const struct target *target,
                           struct prompts **out, struct error *err);
void prompts_free(struct prompts *prompts);

/* Of all texts from now on, shared ones too. Each run has another, so that a server's prefix cache
 * knows nothing of the run before. 0 at first. */
void prompts_set_seed(struct prompts *prompts, uint64_t seed);

/* Appends the prompt of a request as a JSON value; `own` makes the part that it shares with nobody.
 * Returns its tokens: the trace's number, or max_tokens where that is less, and no fewer than the
 * server adds by itself and one. */
int32_t prompts_write(const struct prompts *prompts, const struct trace_request *request,
                      uint64_t own, struct strbuf *out);

enum prompt_check prompts_check(const struct prompts *prompts);
const char *prompts_check_words(const struct prompts *prompts); /* why it is so, for people */
const char *prompts_source(const struct prompts *prompts); /* "words", "letters", "corpus", "ids" */
int32_t prompts_added(const struct prompts *prompts);      /* tokens that the server adds to each */

#endif
