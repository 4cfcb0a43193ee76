/* A progress bar on standard error when that is a terminal. Elsewhere, in a log, a plain line of
 * work that takes long: behind each tenth of it, but not more often than every ten seconds. */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H

#include <stdint.h>

struct progress {
    const char *label; /* borrowed until progress_end */
    int64_t total;
    int64_t started_us;
    int64_t told_us; /* when the bar was drawn or the last line written */
    int64_t told;    /* what was done then (lines) */
    int terminal;
};

void progress_begin(struct progress *bar, const char *label, int64_t total);
void progress_update(struct progress *bar, int64_t done); /* redraws at most every 100 ms */
void progress_end(struct progress *bar);

#endif
