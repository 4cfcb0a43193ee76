/* The page of --report. */
#ifndef TRACES_REPLAY_PAGE_H
#define TRACES_REPLAY_PAGE_H

#include "traces/replay/session.h"

enum status page_write(const struct replay_options *options, const struct replay_runs *runs,
                       struct error *err);

#endif
