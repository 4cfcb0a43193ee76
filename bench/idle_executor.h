/* An executor that computes nothing, and a client that does not listen: what is left of a tick's
 * time is the scheduler's own. */
#ifndef BENCH_IDLE_EXECUTOR_H
#define BENCH_IDLE_EXECUTOR_H

#include "scheduler/request.h"

struct idle_executor {
    struct executor_capacity capacity; /* the owner's; .vocab > 0 */
    uint64_t tickets;
    int32_t row_count, copies; /* of the last step */
};

struct executor idle_executor_door(struct idle_executor *idle); /* borrowed */

struct request_events idle_events(void);

#endif
