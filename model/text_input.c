#include "model/text_input.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 16)

static bool is_standard_input(const char *name)
{
    return !strcmp(name, "-");
}

const char *text_input_label(const char *name)
{
    return is_standard_input(name) ? "standard input" : name;
}

static enum status read_all(int fd, const char *label, size_t limit, struct strbuf *out,
                            struct error *err)
{
    char chunk[CHUNK];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(err, ST_IO, "%s: %s", label, strerror(errno));
        if ((size_t)got > limit - out->length)
            return fail(err, ST_BAD_FILE, "%s: more than %zu bytes, the most that are read", label,
                        limit);
        strbuf_append(out, chunk, (size_t)got);
        if (out->failed)
            return fail(err, ST_NO_MEMORY, "%s: no memory for a text of this size", label);
        if (!got) return ST_OK;
    }
}

enum status text_input_read(const char *name, size_t limit, char **text, size_t *length,
                            struct error *err)
{
    struct strbuf read = {.may_fail = true};
    bool standard = is_standard_input(name);
    int fd = standard ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(err, errno == ENOENT ? ST_NOT_FOUND : ST_IO, "%s: %s", name, strerror(errno));
    enum status status = read_all(fd, text_input_label(name), limit, &read, err);
    if (!standard) close(fd);
    if (status) {
        strbuf_free(&read);
        return status;
    }
    *length = read.length;
    *text = strbuf_take(&read);
    return ST_OK;
}
