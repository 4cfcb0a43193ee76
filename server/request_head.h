/* What the header of a request says, before anything of its body is read.
 *
 * Where a request ends must be in no doubt: a proxy in front that reads the lengths another way
 * would pass a second request inside the first (request smuggling). So two lengths, a length and
 * chunks, or an encoding that is not "chunked" are refused and the connection is closed.
 */
#ifndef SERVER_REQUEST_HEAD_H
#define SERVER_REQUEST_HEAD_H

#include "server/api_error.h"
#include "server/limits.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

const char *head_value(struct MHD_Connection *connection, const char *name);

/* The client's own X-Request-Id when it is clean and shorter than `size` (at least 33), else one
 * of ours: what is echoed can break nobody's log and no header. */
void head_request_id(struct MHD_Connection *connection, char *id, size_t size);

/* The body's declared length: 0 without one, -1 for chunks. */
int64_t head_body_length(struct MHD_Connection *connection);

/* Whether there is one way only to read where this request ends. */
bool head_is_clear(struct MHD_Connection *connection, struct api_error *error);

bool head_is_small(struct MHD_Connection *connection, const struct server_limits *limits,
                   struct api_error *error);

/* The path of "http://name/path", which clients send to a proxy; any other target as it is. */
const char *head_path(const char *target);

/* MHD's hook to undo %XX in place; returns the new length. A text with %00 stays as it was, so that
 * no path ends early. */
size_t head_unescape(void *unused, struct MHD_Connection *connection, char *text);

#endif
