/* The thread that takes connections from the listening socket.
 *
 * MHD could do it, but after an accept that failed for want of a descriptor it accepts nobody until
 * some connection closes, be it an idle one after a minute, and without any connection it spins.
 * Here clients wait in the backlog, and the system is asked again ten times a second. The same
 * happens while there is no room for one more connection.
 */
#ifndef SERVER_ACCEPTOR_H
#define SERVER_ACCEPTOR_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct acceptor;

/* Both are called on the acceptor's thread. `take` owns the descriptor, which does not block; who
 * works with it later calls acceptor_begun. Those of which that is not known yet are on their way:
 * `room` counts them in. */
struct acceptor_work {
    bool (*room)(void *context, int64_t on_their_way);
    void (*take)(void *context, int fd, const struct sockaddr *address, socklen_t length);
    void *context;
};

/* `listener` listens, does not block, and stays the caller's. */
enum status acceptor_create(int listener, struct acceptor_work work, struct acceptor **out,
                            struct error *err);

void acceptor_begun(struct acceptor *acceptor); /* any thread */

/* Stops listening and joins the thread; after it nothing is taken. NULL is allowed. */
void acceptor_free(struct acceptor *acceptor);

#endif
