#include "model/mapped_file.h"
#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status open_regular(const char *path, int *fd, size_t *size, struct error *err)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not wait for a writer */
    if (*fd < 0)
        return fail(err, errno == ENOENT ? ST_NOT_FOUND : ST_IO, "%s: %s", path, strerror(errno));
    enum status status = ST_OK;
    if (fstat(*fd, &info) < 0)
        status = fail(err, ST_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = fail(err, ST_BAD_FILE, "%s: not a regular file", path);
    else if (info.st_size == 0)
        status = fail(err, ST_BAD_FILE, "%s: the file is empty", path);
    else
        *size = (size_t)info.st_size;
    if (status) close(*fd);
    return status;
}

enum status mapped_file_open(const char *path, struct mapped_file *out, struct error *err)
{
    int fd;
    size_t size = 0;
    enum status status = open_regular(path, &fd, &size, err);
    if (status) return status;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    int why = errno;
    close(fd); /* the mapping keeps the file */
    if (data == MAP_FAILED) return fail(err, ST_IO, "%s: mmap: %s", path, strerror(why));
    *out = (struct mapped_file){data, size};
    return ST_OK;
}

void mapped_file_close(struct mapped_file *file)
{
    if (file->data) munmap((void *)file->data, file->size);
    *file = (struct mapped_file){0};
}

void mapped_file_release_pages(const struct mapped_file *file)
{
    if (file->data) madvise((void *)file->data, file->size, MADV_DONTNEED);
}

enum status read_text_file(const char *path, size_t limit, char **text, size_t *length,
                           struct error *err)
{
    struct mapped_file file;
    enum status status = mapped_file_open(path, &file, err);
    if (status) return status;
    if (file.size > limit) {
        status =
            fail(err, ST_BAD_FILE, "%s: %zu bytes, at most %zu are read", path, file.size, limit);
    } else if (!(*text = try_alloc(file.size + 1, 1))) {
        status = fail(err, ST_NO_MEMORY, "%s: no memory for %zu bytes", path, file.size);
    } else {
        memcpy(*text, file.data, file.size);
        *length = file.size;
    }
    mapped_file_close(&file);
    return status;
}
