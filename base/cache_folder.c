#include "base/cache_folder.h"

#include "base/alloc.h"
#include "base/strbuf.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

char *cache_folder(const char *part)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    struct strbuf path = {0};
    if (base && *base == '/')
        strbuf_format(&path, "%s/espalier/%s", base, part);
    else if (home && *home == '/')
        strbuf_format(&path, "%s/.cache/espalier/%s", home, part);
    else
        return NULL;
    return strbuf_take(&path);
}

int make_folders(const char *path)
{
    if (!*path) return ENOENT;
    char *part = must_strdup(path);
    int problem = 0;
    for (char *at = part + 1; !problem; at++) {
        if (*at != '/' && *at != '\0') continue;
        char end = *at;
        *at = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) problem = errno;
        *at = end;
        if (end == '\0') break;
    }
    free(part);
    return problem;
}
