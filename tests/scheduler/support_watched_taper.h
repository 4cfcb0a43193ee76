/* taper, and behind each of its choices everything that it promises, worked out anew the slow way:
 *
 *   each request has a row, and of its sequences the one that had none for longest
 *   what is chosen beside these fits the time that docs/taper.md says the step may take
 *   prompts fit it too, or what urgent ones may have, save 16 tokens, or one a row
 *   no block is taken from anybody for a row that could wait
 *
 * Dies where one is broken. */
#ifndef SUPPORT_WATCHED_TAPER_H
#define SUPPORT_WATCHED_TAPER_H

#include "scheduler/policy.h"

struct policy watched_taper(void);

/* What was seen since somebody made it all zero. */
struct watched {
    const struct scheduler *scheduler; /* the test's: whose preemptions are looked at, or NULL */
    int32_t choices;
    int64_t preemptions;        /* that the scheduler had at the first choice */
    bool baseline_lacks_room;   /* at one: the pool has not a block for all of it */
    int32_t rows, base_rows;    /* of the last choice */
    double most_us, planned_us; /* predicted: what is allowed, what it is */
};
struct watched *watched_taper_last(void);

#endif
