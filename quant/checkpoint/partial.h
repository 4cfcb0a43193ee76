/* A directory that appears whole or not at all.
 *
 * It is written as DIR.partial-PID beside DIR and renamed when everything in it is on the disk.
 * Whatever ends the process before that (an error, SIGINT, SIGTERM, SIGHUP) takes the partial
 * directory away (a signal says so on standard error); what kill -9 or a crash leaves behind is
 * recognised by the next run, which holds the lock that its weights held, and taken away then. One
 * per process.
 */
#ifndef QUANT_CHECKPOINT_PARTIAL_H
#define QUANT_CHECKPOINT_PARTIAL_H

#include "base/status.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define PARTIAL_MAX_FILES 16

struct partial {
    char target[PATH_MAX]; /* without a slash at its end */
    char path[PATH_MAX];   /* of the partial directory */
    int lock;              /* the directory, open and locked */
    bool replace;          /* what is at `target` may go */
    json_t *checksums;     /* of the files that partial_write wrote, by name */
};

/* Refuses a target that is no directory or has something in it; with `replace` only one that holds
 * more than a quantized directory does. On failure nothing is left. */
enum status partial_begin(const char *target, bool replace, struct partial *out, struct error *err);

/* A new file, open for writing; its name is remembered for taking away. */
enum status partial_create(struct partial *partial, const char *name, int *fd, struct error *err);

/* A whole small file, on the disk when it returns; its checksum goes to `checksums`. */
enum status partial_write(struct partial *partial, const char *name, const void *bytes,
                          size_t length, struct error *err);

/* Puts it in the place of `target`. The partial directory is gone afterwards, whatever happened. */
enum status partial_commit(struct partial *partial, struct error *err);

/* Takes it away; no effect after partial_commit. */
void partial_abandon(struct partial *partial);

/* Takes away what a quantized directory is made of, and the directory when nothing else is in it.
 */
void partial_remove(const char *path);

/* write(2) until all is written. */
enum status write_all(int fd, const void *bytes, size_t length, const char *path,
                      struct error *err);

#endif
