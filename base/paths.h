/* Files of a command line that must not be one and the same: what is written would destroy what is
 * read, or what else is written.
 *
 *     const struct path_use uses[] = {{"trace", o.trace, false}, {"record", o.record, true}};
 *     status = paths_check(uses, COUNT_OF(uses), &err);
 */
#ifndef BASE_PATHS_H
#define BASE_PATHS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct path_use {
    const char *option; /* without the dashes */
    const char *path;   /* NULL: not given; "-": standard input, or output where it is written */
    bool written;
};

/* ST_USAGE: two of them, of which one is written, are the same regular file, by whatever names, or
 * would be: both are yet to be made under the same name in the same folder. Other kinds of files
 * (/dev/null, a pipe) may be named as often as one likes. To be called before anything is opened
 * for writing. */
enum status paths_check(const struct path_use *uses, size_t count, struct error *err);

#endif
