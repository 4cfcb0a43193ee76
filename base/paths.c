#include "base/paths.h"
#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a path leads to. */
struct place {
    bool named;   /* a path was given, and stands for a file that can be lost */
    bool there;   /* it exists: device and inode are its own, else those of its folder */
    dev_t device; /* with `inode` */
    ino_t inode;
    const char *name; /* in the folder, of what is not there */
};

/* The folder of what does not exist yet. false: neither does that, so nothing will be written. */
static bool find_folder(const char *path, struct place *place)
{
    struct stat found = {0};
    const char *slash = strrchr(path, '/');
    char *folder = slash ? must_strdup(path) : must_strdup(".");
    if (slash) folder[slash == path ? 1 : slash - path] = 0;
    bool there = !stat(folder, &found);
    free(folder);
    place->name = slash ? slash + 1 : path;
    place->device = found.st_dev;
    place->inode = found.st_ino;
    return there;
}

static struct place find_place(const struct path_use *use)
{
    struct place place = {0};
    struct stat found;
    bool standard = use->path && !strcmp(use->path, "-");
    int descriptor = use->written ? STDOUT_FILENO : STDIN_FILENO;
    if (!use->path) return place;
    if (standard ? !fstat(descriptor, &found) : !stat(use->path, &found)) {
        place.there = true;
        place.named = S_ISREG(found.st_mode);
        place.device = found.st_dev;
        place.inode = found.st_ino;
    } else if (!standard) {
        place.named = find_folder(use->path, &place);
    }
    return place;
}

static bool same(const struct place *a, const struct place *b)
{
    if (!a->named || !b->named || a->there != b->there) return false;
    if (a->device != b->device || a->inode != b->inode) return false;
    return a->there || !strcmp(a->name, b->name);
}

enum status paths_check(const struct path_use *uses, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct place place = find_place(&uses[i]);
        for (size_t j = 0; j < i; j++) {
            if (!uses[i].written && !uses[j].written) continue;
            struct place other = find_place(&uses[j]);
            if (same(&place, &other))
                return fail(err, ST_USAGE,
                            "--%s %s and --%s %s are the same file, which would be overwritten; "
                            "allowed are different ones",
                            uses[j].option, uses[j].path, uses[i].option, uses[i].path);
        }
    }
    return ST_OK;
}
