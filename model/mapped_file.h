/* A whole file, read-only, in the address space.
 *
 * Pages come from the page cache when touched and can be given back at any time. Whoever shortens
 * the file while it is mapped kills the reader (SIGBUS); replace model files by rename.
 */
#ifndef MODEL_MAPPED_FILE_H
#define MODEL_MAPPED_FILE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct mapped_file {
    const uint8_t *data; /* NULL: nothing mapped */
    size_t size;
};

/* ST_NOT_FOUND, ST_IO, or ST_BAD_FILE for what is empty or no regular file. */
enum status mapped_file_open(const char *path, struct mapped_file *out, struct error *err);
void mapped_file_close(struct mapped_file *file);
void mapped_file_release_pages(const struct mapped_file *file);

/* A small text file as a NUL-terminated string, at most `limit` bytes; caller frees. */
enum status read_text_file(const char *path, size_t limit, char **text, size_t *length,
                           struct error *err);

#endif
