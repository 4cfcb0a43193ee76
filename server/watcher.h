/* The thread between the engine and MHD, and the eyes on every socket.
 *
 * 1. It resumes connections for the engine's thread, which only pushes onto a lock-free list and,
 * once a tick, writes to an eventfd: one wake-up of this thread serves all streams of a step.
 * 2. MHD does not look at a suspended connection's socket, so a client that leaves would decode on.
 * The watcher polls each for hang-up (EPOLLRDHUP: also a client that closes only its sending half
 * is gone, as for nginx) and abandons the exchange.
 *    A connection that sits with half a request after its client has left is closed as well.
 * 3. Twice a second it closes connections that take too long to send a request. When nearly all
 *    connections are in use, idle ones get a second only.
 *
 * A slot is one open connection. Its descriptor is valid from watcher_open to watcher_close, both
 * called by MHD's thread, the second before the descriptor is closed; the lock they share with the
 * watcher makes sure that no reused descriptor is ever touched.
 */
#ifndef SERVER_WATCHER_H
#define SERVER_WATCHER_H

#include "base/clock.h"
#include "base/status.h"
#include "server/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct exchange;
struct watcher;
struct watch_slot;

enum status watcher_create(const struct server_limits *limits, struct clock clock,
                           struct watcher **out, struct error *err);
void watcher_free(
    struct watcher *watcher); /* every slot is closed, the wake list is empty by then */

/* --- MHD's thread */
struct watch_slot *watcher_open(struct watcher *watcher, int fd); /* NULL: refuse it */
void watcher_close(struct watcher *watcher, struct watch_slot *slot);
void watcher_reads_body(struct watcher *watcher, struct watch_slot *slot);
/* From here to watcher_idle a hang-up abandons `exchange` (referenced). */
void watcher_busy(struct watcher *watcher, struct watch_slot *slot, struct exchange *exchange);
void watcher_idle(struct watcher *watcher, struct watch_slot *slot);

/* --- the engine's thread. Lock-free. */
/* Unpark `exchange` at the next watcher_ring. */
void watcher_wake(struct watcher *watcher, struct exchange *exchange);
/* After a tick: wakes the watcher once for all that the tick has news for. */
void watcher_ring(struct watcher *watcher);

/* Calls visit for each exchange that is busy; it is referenced meanwhile. */
void watcher_each(struct watcher *watcher, void (*visit)(struct exchange *exchange));

int32_t watcher_connections(struct watcher *watcher);

#endif
