/* SIGTERM and SIGINT, taken by a thread of their own, so that no work happens in a handler.
 *
 *   until lifecycle_ready   a signal ends the process at once, status 0: nothing was accepted yet
 *   the first after it      lifecycle_wait returns; the caller drains
 *   the next                ends the process at once, status 1
 *
 * SIGPIPE is ignored: a client that leaves shows as a failed write.
 */
#ifndef SERVER_LIFECYCLE_H
#define SERVER_LIFECYCLE_H

#include "base/status.h"

/* Before any other thread is started, so that all inherit the blocked signals. */
enum status lifecycle_begin(struct error *err);
void lifecycle_ready(void);
void lifecycle_wait(void);

#endif
