#include "server/auth.h"
#include "base/alloc.h"
#include "server/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_KEY_BYTES 4096

struct auth {
    uint8_t (*digests)[SHA256_BYTES];
    size_t count;
};

static enum status add_line(struct auth *auth, const char *path, size_t line, char *text,
                            struct error *err)
{
    text[strcspn(text, "\r\n")] = 0;
    size_t length = strlen(text);
    if (length == 0 || text[0] == '#') return ST_OK;
    if (length > MAX_KEY_BYTES || strpbrk(text, " \t"))
        return fail(err, ST_INVALID,
                    "%s: line %zu is no key: at most %d characters without blanks are allowed",
                    path, line, MAX_KEY_BYTES);
    auth->digests = must_realloc(auth->digests, (auth->count + 1) * sizeof *auth->digests);
    sha256(text, length, auth->digests[auth->count++]);
    return ST_OK;
}

enum status auth_load(const char *path, struct auth **out, struct error *err)
{
    FILE *file = fopen(path, "r");
    if (!file) return fail(err, ST_IO, "%s: %s", path, strerror(errno));
    struct auth *auth = must_alloc(sizeof *auth);
    char *text = NULL;
    size_t capacity = 0, line = 0;
    enum status status = ST_OK;
    while (!status && getline(&text, &capacity, file) >= 0)
        status = add_line(auth, path, ++line, text, err);
    free(text);
    fclose(file);
    if (!status && auth->count == 0)
        status = fail(err, ST_INVALID, "%s: holds no API key (one a line)", path);
    if (status) {
        auth_free(auth);
        return status;
    }
    *out = auth;
    return ST_OK;
}

void auth_free(struct auth *auth)
{
    if (!auth) return;
    free(auth->digests);
    free(auth);
}

bool auth_allows(const struct auth *auth, const char *header)
{
    if (!header || strncasecmp(header, "Bearer ", 7) != 0) return false;
    const char *key = header + 7;
    key += strspn(key, " ");
    uint8_t digest[SHA256_BYTES];
    sha256(key, strlen(key), digest);
    unsigned found = 0;
    for (size_t i = 0; i < auth->count; i++) {
        unsigned difference = 0;
        for (size_t b = 0; b < SHA256_BYTES; b++)
            difference |= digest[b] ^ auth->digests[i][b];
        found |= (difference - 1) >> 8 & 1; /* 1 only for a difference of 0 */
    }
    return found;
}
