/* One completion: what a request becomes in the engine, and its answer.
 *
 * A request of p prompts and n sequences each is p requests to the engine (parts) and p * n
 * choices. The engine's thread writes their tokens into one log; the last part's done event ends
 * the completion. A stream is rendered by MHD's thread as it goes, a whole answer by a front-end
 * thread at the end.
 */
#ifndef SERVER_COMPLETION_H
#define SERVER_COMPLETION_H

#include "server/exchange.h"
#include "server/request_parse.h"

#include <stdbool.h>

/* Front-end thread. Tokenizes, checks against the context and submits; takes `request` over in any
 * case. true: the exchange has a completion and will be answered. false: refused, `error` says why.
 */
bool completion_start(struct exchange *exchange, struct api_request *request,
                      struct api_error *error);

/* Any thread: the engine ends it within one step. */
void completion_cancel(struct completion *completion);

/* Whether nothing more will come into the log. */
bool completion_finished(struct completion *completion);

/* MHD's thread, streams: appends events for what is new until `out` holds `enough` bytes; *ended is
 * set once there is nothing left to append and never will be. */
void completion_stream(struct completion *completion, size_t enough, struct strbuf *out,
                       bool *ended);
/* Whether completion_stream would do something. */
bool completion_has_news(struct completion *completion);

/* Front-end thread, whole answers, once finished: gives the exchange its answer. */
void completion_answer(struct completion *completion);

/* NULL is allowed. Nothing of it is in the engine any more. */
void completion_free(struct completion *completion);

/* The text or messages of prompt `index` as ids, BOS as the model asks. Also for /tokenize. */
bool request_tokens(const struct api_request *request, size_t index,
                    const struct served_model *model, struct token_list *out,
                    struct api_error *error);

#endif
