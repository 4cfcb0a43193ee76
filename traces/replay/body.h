/* The body of one request of a trace, by branch mode and endpoint. */
#ifndef TRACES_REPLAY_BODY_H
#define TRACES_REPLAY_BODY_H

#include "base/strbuf.h"
#include "traces/replay/flight.h"
#include "traces/replay/settings.h"
#include "traces/trace.h"

/* Appends the JSON. `prompt` is a JSON value, a string or an array of ids. What is asked for goes
 * into the flight: asked_tokens, branching, parallel stages. */
void body_write(const struct replay_settings *settings, const char *model,
                const struct trace_request *request, const struct strbuf *prompt,
                struct strbuf *out, struct flight *flight);

#endif
