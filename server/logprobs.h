/* The "logprobs" of a choice, token by token, in either endpoint's shape:
 *
 *   completions  {"tokens":[...],"token_logprobs":[...],"top_logprobs":[{TOKEN:NUMBER},...],
 *                 "text_offset":[...]}
 *   chat         {"content":[{"token","logprob","bytes","top_logprobs":[{"token",...}]},...],
 *                 "refusal":null}
 *
 * Every sampled token has its entry, the one that ends the answer included, so that entries and
 * usage.completion_tokens agree. A token that is no whole text is written as its bytes, as OpenAI
 * does: "bytes:\xf0\x9f" (completions) and "\xf0\x9f" (chat). JSON has no minus infinity: -9999
 * stands for it, as in vLLM.
 */
#ifndef SERVER_LOGPROBS_H
#define SERVER_LOGPROBS_H

#include "base/strbuf.h"
#include "model/tokenizer.h"
#include "server/token_log.h"

#include <stdbool.h>

struct logprobs_text {
    struct strbuf tokens;                 /* chat: "content", the only one that is used */
    struct strbuf numbers, tops, offsets; /* completions */
    int64_t offset;                       /* characters of text before the next token */
};

void logprobs_release(struct logprobs_text *text);

/* How many characters begin in these bytes. */
int64_t logprobs_characters(const char *bytes, size_t length);

/* A token without a probability: the first of an echoed prompt, as nothing stands before it, or one
 * of the prompt of a stage or branch. Completions only. */
void logprobs_add_given(struct logprobs_text *text, const struct tokenizer *tokenizer,
                        int32_t token);

/* A record of kind token or prompt; `top` as token_log_top gives it. */
void logprobs_add(struct logprobs_text *text, const struct tokenizer *tokenizer, bool chat,
                  const struct token_record *record, const struct token_logprob *top);

/* Appends the object of what was added since the last time. */
void logprobs_render(struct logprobs_text *text, bool chat, struct strbuf *out);

#endif
