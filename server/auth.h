/* API keys from a file, one a line; blank lines and lines that begin with # are skipped, blanks
 * around a key too. A file that every user can read is warned of; no key is ever written. Only
 * SHA-256 digests are kept, and a presented key's digest is compared with every one of them in
 * full, so the time says neither which key nor how much of it was right. */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct auth;

/* ST_IO when it cannot be read, ST_INVALID when it holds no key or an absurd one. */
enum status auth_load(const char *path, struct auth **out, struct error *err);
void auth_free(struct auth *auth);

/* `header` is the value of Authorization ("Bearer KEY") or NULL. */
bool auth_allows(const struct auth *auth, const char *header);

#endif
