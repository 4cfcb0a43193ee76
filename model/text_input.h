/* A text that a user names, whatever it comes from: a file, a pipe (a shell's <(command) too), or
 * "-", standard input. Read to its end, into memory.
 */
#ifndef MODEL_TEXT_INPUT_H
#define MODEL_TEXT_INPUT_H

#include "base/status.h"

#include <stddef.h>

/* At most `limit` bytes; NUL-terminated, caller frees. ST_NOT_FOUND, ST_IO, ST_NO_MEMORY, or
 * ST_BAD_FILE for more than the limit. An empty text is none of these. */
enum status text_input_read(const char *name, size_t limit, char **text, size_t *length,
                            struct error *err);

/* How messages call it: "standard input" for "-". */
const char *text_input_label(const char *name);

#endif
