#include "server/auth.h"
#include "base/alloc.h"
#include "base/log.h"
#include "server/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define MAX_KEY_BYTES  4096
#define MAX_FILE_BYTES (1 << 20)

struct auth {
    uint8_t (*digests)[SHA256_BYTES];
    size_t count;
};

/* One line without its end; blanks around a key are no part of it. Messages name the line, never
 * what stands in it. */
static enum status add_line(struct auth *auth, const char *path, size_t line, const char *text,
                            size_t length, struct error *err)
{
    while (length && memchr(" \t\r", text[length - 1], 3))
        length--;
    while (length && memchr(" \t", *text, 2))
        text++, length--;
    if (length == 0 || *text == '#') return ST_OK;
    bool whole = true;
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~') whole = false;
    if (length > MAX_KEY_BYTES || !whole)
        return fail(err, ST_INVALID,
                    "%s: line %zu is no key: allowed are 1 to %d printable ASCII characters "
                    "without blanks",
                    path, line, MAX_KEY_BYTES);
    auth->digests = must_realloc(auth->digests, (auth->count + 1) * sizeof *auth->digests);
    sha256(text, length, auth->digests[auth->count++]);
    return ST_OK;
}

static enum status add_lines(struct auth *auth, const char *path, const char *text, size_t length,
                             struct error *err)
{
    enum status status = ST_OK;
    for (size_t line = 1, at = 0; !status && at < length; line++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t count = end ? (size_t)(end - (text + at)) : length - at;
        status = add_line(auth, path, line, text + at, count, err);
        at += count + 1;
    }
    if (!status && auth->count == 0)
        status = fail(err, ST_INVALID, "%s: holds no API key (one a line)", path);
    return status;
}

/* The whole file, or a pipe to its end; the caller frees *text. */
static enum status read_text(const char *path, char **text, size_t *length, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file) return fail(err, ST_IO, "%s: %s", path, strerror(errno));
    *text = must_alloc(MAX_FILE_BYTES + 1);
    *length = fread(*text, 1, MAX_FILE_BYTES + 1, file);
    enum status status = ST_OK;
    if (ferror(file))
        status = fail(err, ST_IO, "%s: %s", path, strerror(errno));
    else if (*length > MAX_FILE_BYTES)
        status = fail(err, ST_INVALID, "%s: more than %d bytes; a file of keys is smaller", path,
                      MAX_FILE_BYTES);
    fclose(file);
    return status;
}

static void warn_of_open_file(const char *path)
{
    struct stat about;
    if (stat(path, &about) == 0 && S_ISREG(about.st_mode) && about.st_mode & S_IROTH)
        log_warn("%s can be read by every user of this machine: chmod 600 it", path);
}

enum status auth_load(const char *path, struct auth **out, struct error *err)
{
    char *text = NULL;
    size_t length = 0;
    struct auth *auth = must_alloc(sizeof *auth);
    enum status status = read_text(path, &text, &length, err);
    if (!status) status = add_lines(auth, path, text, length, err);
    if (text) explicit_bzero(text, length);
    free(text);
    if (status) {
        auth_free(auth);
        return status;
    }
    warn_of_open_file(path);
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
