#include "quant/checkpoint/partial.h"
#include "base/base.h"
#include "model/checksum.h"
#include "model/quantized_directory.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK ".partial-"

/* --- what a signal takes away, and what it says. The handler may use nothing but these and system
 * calls. */

static struct {
    char directory[PATH_MAX], target[PATH_MAX];
    char words[PATH_MAX + 96];
    dev_t device; /* of the directory, whatever its name has become */
    ino_t inode;
    char files[PARTIAL_MAX_FILES][PATH_MAX + 64];
    volatile sig_atomic_t file_count, active;
} doomed;

static void take_away(void)
{
    if (!doomed.active) return;
    for (int i = 0; i < doomed.file_count; i++)
        unlink(doomed.files[i]);
    rmdir(doomed.directory);
    doomed.active = 0;
}

/* It has its name already: the signal came behind the rename. */
static bool in_place(void)
{
    struct stat info;
    return stat(doomed.target, &info) == 0 && info.st_dev == doomed.device &&
           info.st_ino == doomed.inode;
}

static void take_away_and_tell(void)
{
    if (!doomed.active) return;
    bool kept = in_place();
    take_away();
    if (kept) return;
    ssize_t written = write(STDERR_FILENO, doomed.words, strlen(doomed.words));
    (void)written; /* nowhere to report a failing standard error */
}

static void take_away_and_die(int signal_number)
{
    take_away_and_tell();
    raise(signal_number); /* its action is the default again: SA_RESETHAND */
}

static void catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = take_away_and_die,
                               .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
    struct sigaction before;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < COUNT_OF(signals); i++) /* nohup's SIG_IGN stays */
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    at_quick_exit(take_away_and_tell); /* of a server, which waits for its signals */
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is an error of write(2) then */
}

/* --- what is there already */

static const char *const our_names[] = {
    "model.safetensors", QUANTIZATION_FILE,       "config.json",         "generation_config.json",
    "tokenizer.json",    "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"};

static bool made_by_us(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(our_names); i++)
        if (!strcmp(name, our_names[i])) return true;
    return false;
}

/* Looks through the directory at `path`: *empty, and in `foreign` the first name that no quantized
 * directory has ("" when there is none). */
static enum status look_through(const char *path, bool *empty, char foreign[NAME_MAX + 1],
                                struct error *err)
{
    DIR *list = opendir(path);
    bool record = false;
    if (!list) return fail(err, ST_IO, "%s: %s", path, strerror(errno));
    *empty = true;
    *foreign = 0;
    for (struct dirent *entry; (entry = readdir(list));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        *empty = false;
        record |= !strcmp(entry->d_name, QUANTIZATION_FILE);
        if (!*foreign && !made_by_us(entry->d_name))
            snprintf(foreign, NAME_MAX + 1, "%s", entry->d_name);
    }
    closedir(list);
    if (!*empty && !*foreign && !record)
        snprintf(foreign, NAME_MAX + 1, "a model without " QUANTIZATION_FILE);
    return ST_OK;
}

static enum status check_target(const struct partial *partial, struct error *err)
{
    struct stat info;
    bool empty;
    char foreign[NAME_MAX + 1];
    if (stat(partial->target, &info) < 0)
        return errno == ENOENT ? ST_OK
                               : fail(err, ST_IO, "%s: %s", partial->target, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return fail(err, ST_INVALID, "%s is there and no directory", partial->target);
    enum status status = look_through(partial->target, &empty, foreign, err);
    if (status || empty) return status;
    if (!partial->replace)
        return fail(err, ST_INVALID,
                    "%s is there and not empty; give another --out, or --force to replace a "
                    "quantized directory",
                    partial->target);
    if (*foreign)
        return fail(err, ST_INVALID,
                    "%s holds %s; --force replaces only what espalier quantize wrote: remove it "
                    "yourself, or give another --out",
                    partial->target, foreign);
    return ST_OK;
}

/* --- what earlier runs left */

void partial_remove(const char *path)
{
    char file[PATH_MAX + NAME_MAX + 32]; /* a path that remove_stale found is that much longer */
    for (size_t i = 0; i < COUNT_OF(our_names); i++) {
        snprintf(file, sizeof file, "%s/%s", path, our_names[i]);
        unlink(file);
    }
    if (rmdir(path) < 0) log_warn("%s: cannot be removed: %s", path, strerror(errno));
}

/* A living weights holds the lock; between its mkdir and its flock its process is there. */
static void remove_if_stale(const char *path, long pid)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    bool gone = kill((pid_t)pid, 0) < 0 && errno == ESRCH;
    if ((gone || pid == getpid()) && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        log_info("removing %s, which a run that was killed left", path);
        partial_remove(path);
    }
    close(fd);
}

/* DIR.partial-N beside DIR, N a number. */
static void remove_stale(const char *target)
{
    const char *slash = strrchr(target, '/'), *name = slash ? slash + 1 : target;
    size_t length = strlen(name), mark = strlen(MARK);
    char parent[PATH_MAX], path[PATH_MAX + NAME_MAX + 2];
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - target) : 1,
             slash ? target : ".");
    DIR *list = opendir(*parent ? parent : "/");
    for (struct dirent *entry; list && (entry = readdir(list));) {
        const char *found = entry->d_name;
        char *end;
        if (strncmp(found, name, length) || strncmp(found + length, MARK, mark)) continue;
        if (!isdigit((unsigned char)found[length + mark])) continue;
        long pid = strtol(found + length + mark, &end, 10);
        if (*end || pid <= 0 || pid > INT_MAX) continue;
        snprintf(path, sizeof path, "%s/%s", parent, found);
        remove_if_stale(path, pid);
    }
    if (list) closedir(list);
}

/* --- begin */

static enum status name_paths(const char *target, struct partial *out, struct error *err)
{
    size_t length = strlen(target);
    while (length > 1 && target[length - 1] == '/')
        length--;
    if (!length) return fail(err, ST_INVALID, "--out is empty; it is the directory to write");
    if (snprintf(out->target, sizeof out->target, "%.*s", (int)length, target) >=
            (int)sizeof out->target ||
        snprintf(out->path, sizeof out->path, "%.*s" MARK "%ld", (int)length, target,
                 (long)getpid()) >= (int)sizeof out->path - 64)
        return fail(err, ST_INVALID, "--out: the path is longer than %d bytes", PATH_MAX - 80);
    return ST_OK;
}

/* What a signal would say; on a terminal in place of the progress bar. */
static void prepare_words(const char *target)
{
    const char *clear = isatty(STDERR_FILENO) ? "\r\033[K" : "";
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s", target);
    make_printable(name);
    snprintf(doomed.words, sizeof doomed.words,
             "%sespalier: interrupted; nothing was written to %s\n", clear, name);
}

static enum status make_directory(struct partial *out, struct error *err)
{
    struct stat info = {0};
    prepare_words(out->target);
    if (mkdir(out->path, 0777) < 0)
        return errno == ENOENT
                   ? fail(err, ST_NOT_FOUND, "%s: the directory it belongs into does not exist",
                          out->target)
                   : fail(err, ST_IO, "%s: %s", out->path, strerror(errno));
    snprintf(doomed.directory, sizeof doomed.directory, "%s", out->path);
    snprintf(doomed.target, sizeof doomed.target, "%s", out->target);
    stat(out->path, &info);
    doomed.device = info.st_dev;
    doomed.inode = info.st_ino;
    doomed.file_count = 0;
    doomed.active = 1;
    out->lock = open(out->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->lock >= 0 && flock(out->lock, LOCK_EX | LOCK_NB) == 0) return ST_OK;
    enum status status = fail(err, ST_IO, "%s: %s", out->path, strerror(errno));
    partial_abandon(out);
    return status;
}

enum status partial_begin(const char *target, bool replace, struct partial *out, struct error *err)
{
    *out = (struct partial){.lock = -1, .replace = replace};
    enum status status = name_paths(target, out, err);
    if (!status) status = check_target(out, err);
    if (status) return status;
    remove_stale(out->target);
    catch_signals();
    if ((status = make_directory(out, err))) return status;
    out->checksums = json_object();
    return ST_OK;
}

/* --- files */

enum status partial_create(struct partial *partial, const char *name, int *fd, struct error *err)
{
    invariant(doomed.file_count < PARTIAL_MAX_FILES && made_by_us(name), "a file %s", name);
    char *path = doomed.files[doomed.file_count];
    snprintf(path, sizeof doomed.files[0], "%s/%s", partial->path, name);
    doomed.file_count++;
    *fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return *fd < 0 ? fail(err, ST_IO, "%s: %s", path, strerror(errno)) : ST_OK;
}

enum status write_all(int fd, const void *bytes, size_t length, const char *path, struct error *err)
{
    const char *at = bytes;
    while (length) {
        ssize_t got = write(fd, at, length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return fail(err, errno == ENOSPC ? ST_NO_SPACE : ST_IO, "%s: %s", path,
                        strerror(errno));
        at += got;
        length -= (size_t)got;
    }
    return ST_OK;
}

enum status partial_write(struct partial *partial, const char *name, const void *bytes,
                          size_t length, struct error *err)
{
    int fd;
    enum status status = partial_create(partial, name, &fd, err);
    if (status) {
        if (fd >= 0) close(fd);
        return status;
    }
    status = write_all(fd, bytes, length, name, err);
    if (!status && fsync(fd) < 0) status = fail(err, ST_IO, "%s: %s", name, strerror(errno));
    if (close(fd) < 0 && !status) status = fail(err, ST_IO, "%s: %s", name, strerror(errno));
    if (status) return fail_prefix(err, "%s", partial->path);
    json_object_set_new(partial->checksums, name, json_string(checksum_of(bytes, length).digits));
    return ST_OK;
}

/* --- the end */

static void forget(struct partial *partial)
{
    if (partial->lock >= 0) close(partial->lock);
    partial->lock = -1;
    json_decref(partial->checksums);
    partial->checksums = NULL;
}

void partial_abandon(struct partial *partial)
{
    take_away();
    forget(partial);
}

/* The name is on the disk when the directory that holds it is. */
static void sync_parent(const char *target)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(target, '/');
    snprintf(parent, sizeof parent, "%.*s", slash > target ? (int)(slash - target) : 1,
             slash ? target : ".");
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) fsync(fd);
    if (fd >= 0) close(fd);
}

/* With `replace` the two change places in one step, and the old one, now partial, goes. A file
 * system without that step gets the old one moved away first. */
static int exchange(const struct partial *partial)
{
    if (renameat2(AT_FDCWD, partial->path, AT_FDCWD, partial->target, RENAME_EXCHANGE) == 0) {
        partial_remove(partial->path);
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) return -1;
    char old[PATH_MAX + 8];
    snprintf(old, sizeof old, "%s.old", partial->path);
    if (rename(partial->target, old) < 0) return -1;
    if (rename(partial->path, partial->target) == 0) {
        partial_remove(old);
        return 0;
    }
    int why = errno;
    if (rename(old, partial->target) < 0) log_warn("%s is what %s was", old, partial->target);
    errno = why;
    return -1;
}

static enum status no_commit(const struct partial *partial, struct error *err)
{
    if (errno == ENOTEMPTY || errno == EEXIST)
        return fail(err, ST_INVALID,
                    "%s was made by somebody else meanwhile; --force would replace it",
                    partial->target);
    return fail(err, ST_IO, "%s: %s", partial->target, strerror(errno));
}

enum status partial_commit(struct partial *partial, struct error *err)
{
    enum status status = ST_OK;
    if (fsync(partial->lock) < 0) {
        status = fail(err, ST_IO, "%s: %s", partial->path, strerror(errno));
    } else if (rename(partial->path, partial->target) < 0) {
        bool full = errno == ENOTEMPTY || errno == EEXIST;
        if (!full || !partial->replace)
            status = no_commit(partial, err);
        else if (!(status = check_target(partial, err)) && exchange(partial) < 0)
            status = no_commit(partial, err);
    }
    if (status) take_away();
    doomed.active = 0;
    forget(partial);
    if (!status) sync_parent(partial->target);
    return status;
}
