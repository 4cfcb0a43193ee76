/* What `espalier replay` prints: one JSON document, or a table. */
#ifndef TRACES_REPLAY_OUTPUT_H
#define TRACES_REPLAY_OUTPUT_H

#include "traces/replay/session.h"

void output_json(const struct replay_runs *runs);
void output_table(const struct replay_runs *runs);

#endif
