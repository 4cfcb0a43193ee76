#include "traces/formats/writer.h"
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FLUSH_BYTES ((size_t)1 << 20)

/* --- a request as a line */

static void append_whole(struct strbuf *out, uint64_t number)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    strbuf_append(out, digits + at, sizeof digits - at);
}

/* As few decimals as say it, up to four: 0.1 us, the finest of the formats. What is finer still, in
 * 17 digits. */
static void append_ms(struct strbuf *out, double ms)
{
    double ticks = nearbyint(ms * 1e4);
    if (!(ticks < 0x1p53) || ticks / 1e4 != ms) {
        strbuf_format(out, "%.17g", ms);
        return;
    }
    uint64_t whole = (uint64_t)ticks / 10000, rest = (uint64_t)ticks % 10000;
    append_whole(out, whole);
    if (!rest) return;
    char digits[8];
    size_t length = (size_t)snprintf(digits, sizeof digits, ".%04u", (unsigned)rest);
    while (digits[length - 1] == '0')
        length--;
    strbuf_append(out, digits, length);
}

static void append_tokens(struct strbuf *out, const struct trace_stage *stage)
{
    if (stage->parallel) strbuf_char(out, '[');
    for (int32_t b = 0; b < stage->branch_count; b++) {
        if (b) strbuf_text(out, ", ");
        append_whole(out, (uint64_t)stage->branch_tokens[b]);
    }
    if (stage->parallel) strbuf_char(out, ']');
}

static void append_prefixes(struct strbuf *out, const struct trace_request *request)
{
    strbuf_text(out, ", \"prefix\": [");
    for (int32_t i = 0; i < request->prefix_count; i++) {
        strbuf_text(out, i ? ", [" : "[");
        append_whole(out, request->prefixes[i].id);
        strbuf_text(out, ", ");
        append_whole(out, (uint64_t)request->prefixes[i].tokens);
        strbuf_char(out, ']');
    }
    strbuf_char(out, ']');
}

static void append_slo(struct strbuf *out, const struct trace_request *request)
{
    strbuf_text(out, ", \"slo\": {");
    if (request->ttft_ms > 0) {
        strbuf_text(out, "\"ttft_ms\": ");
        append_ms(out, request->ttft_ms);
    }
    if (request->tpot_ms > 0) {
        strbuf_text(out, request->ttft_ms > 0 ? ", \"tpot_ms\": " : "\"tpot_ms\": ");
        append_ms(out, request->tpot_ms);
    }
    strbuf_char(out, '}');
}

/* Names from a CSV file need not be UTF-8; what is not becomes '?'. */
static void append_class(struct strbuf *out, const char *name)
{
    json_t *string = json_string(name);
    if (!string) {
        char *ascii = must_strdup(name);
        for (char *c = ascii; *c; c++)
            if (*c & 0x80) *c = '?';
        string = json_string(ascii);
        free(ascii);
    }
    char *text = json_dumps(string, JSON_ENCODE_ANY);
    invariant(text, "a name could not be written");
    strbuf_text(out, ", \"class\": ");
    strbuf_text(out, text);
    free(text);
    json_decref(string);
}

void trace_line(const struct trace_request *request, struct strbuf *out)
{
    strbuf_text(out, "{\"arrival_ms\": ");
    append_ms(out, request->arrival_ms);
    strbuf_text(out, ", \"prompt_tokens\": ");
    append_whole(out, (uint64_t)request->prompt_tokens);
    if (request->cached_tokens) {
        strbuf_text(out, ", \"cached_tokens\": ");
        append_whole(out, (uint64_t)request->cached_tokens);
    }
    if (request->prefix_count) append_prefixes(out, request);
    strbuf_text(out, ", \"stages\": [");
    for (int32_t i = 0; i < request->stage_count; i++) {
        if (i) strbuf_text(out, ", ");
        append_tokens(out, &request->stages[i]);
    }
    strbuf_char(out, ']');
    if (request->ttft_ms > 0 || request->tpot_ms > 0) append_slo(out, request);
    if (*request->class_name) append_class(out, request->class_name);
    strbuf_text(out, "}\n");
}

/* --- files */

struct trace_writer {
    const char *name; /* for messages */
    char *target;     /* NULL: into `fd` directly */
    int fd;           /* of the target when it is written into, else -1 */
    int spool;
    struct strbuf pending;
};

static enum status write_all(int fd, const char *bytes, size_t count, const char *name,
                             struct error *err)
{
    while (count > 0) {
        ssize_t wrote = write(fd, bytes, count);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return fail(err, ST_IO, "%s: %s", name, strerror(errno));
        bytes += wrote;
        count -= (size_t)wrote;
    }
    return ST_OK;
}

/* A file without a name in the directory: gone when it is closed, or when the process ends. */
static int open_spool(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || errno == ENOENT || errno == EACCES) return fd;
    char path[PATH_MAX]; /* a file system without O_TMPFILE */
    snprintf(path, sizeof path, "%.*s/.espalier-XXXXXX", PATH_MAX - 32, directory);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

/* Where the spool goes: beside the target, else where temporary files are. */
static char *spool_directory(const struct trace_writer *writer)
{
    const char *temporary = getenv("TMPDIR");
    if (!writer->target) return must_strdup(temporary && *temporary ? temporary : "/tmp");
    const char *slash = strrchr(writer->target, '/');
    if (!slash) return must_strdup(".");
    char *directory = must_strdup(writer->target);
    directory[slash == writer->target ? 1 : slash - writer->target] = 0;
    return directory;
}

/* A regular file, there or not, is replaced as a whole; anything else is written into. */
static enum status choose_target(struct trace_writer *writer, const char *path, struct error *err)
{
    struct stat stat_now;
    writer->fd = -1;
    if (!strcmp(path, "-")) {
        writer->name = "standard output";
        writer->fd = STDOUT_FILENO;
    } else if (stat(path, &stat_now) || S_ISREG(stat_now.st_mode)) {
        char *resolved = realpath(path, NULL); /* through a symbolic link, to what it names */
        writer->target = resolved ? resolved : must_strdup(path);
    } else {
        writer->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (writer->fd < 0) return fail(err, ST_IO, "%s: %s", path, strerror(errno));
    }
    return ST_OK;
}

enum status trace_writer_open(const char *path, struct trace_writer **out, struct error *err)
{
    struct trace_writer *writer = must_alloc(sizeof *writer);
    *out = NULL;
    writer->name = path;
    writer->spool = -1;
    enum status status = choose_target(writer, path, err);
    if (!status) {
        char *directory = spool_directory(writer);
        writer->spool = open_spool(directory);
        if (writer->spool < 0)
            status = fail(err, ST_IO, "%s: no file can be made in %s: %s", writer->name, directory,
                          strerror(errno));
        free(directory);
    }
    if (status)
        trace_writer_discard(writer);
    else
        *out = writer;
    return status;
}

void trace_writer_discard(struct trace_writer *writer)
{
    if (!writer) return;
    if (writer->spool >= 0) close(writer->spool);
    if (writer->fd > STDERR_FILENO) close(writer->fd);
    strbuf_free(&writer->pending);
    free(writer->target);
    free(writer);
}

static enum status flush(struct trace_writer *writer, struct error *err)
{
    enum status status = write_all(writer->spool, strbuf_cstr(&writer->pending),
                                   writer->pending.length, writer->name, err);
    strbuf_clear(&writer->pending);
    return status;
}

enum status trace_writer_add(struct trace_writer *writer, const struct trace_request *request,
                             struct error *err)
{
    trace_line(request, &writer->pending);
    return writer->pending.length < FLUSH_BYTES ? ST_OK : flush(writer, err);
}

static enum status write_header(int fd, const json_t *header, const char *name, struct error *err)
{
    json_t *object = json_object();
    json_object_set_new(object, "espalier_trace", json_integer(1));
    json_object_update(object, (json_t *)header);
    char *text = json_dumps(object, JSON_REAL_PRECISION(8));
    invariant(text, "the header could not be written");
    enum status status = write_all(fd, text, strlen(text), name, err);
    if (!status) status = write_all(fd, "\n", 1, name, err);
    free(text);
    json_decref(object);
    return status;
}

static enum status copy_spool(struct trace_writer *writer, int to, struct error *err)
{
    char *buffer = must_realloc(NULL, FLUSH_BYTES);
    enum status status = ST_OK;
    for (off_t at = 0; !status;) {
        ssize_t got = pread(writer->spool, buffer, FLUSH_BYTES, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = fail(err, ST_IO, "%s: %s", writer->name, strerror(errno));
        if (got <= 0) break;
        status = write_all(to, buffer, (size_t)got, writer->name, err);
        at += got;
    }
    free(buffer);
    return status;
}

static enum status write_whole(struct trace_writer *writer, int to, const json_t *header,
                               struct error *err)
{
    enum status status = flush(writer, err);
    if (!status) status = write_header(to, header, writer->name, err);
    return status ? status : copy_spool(writer, to, err);
}

/* Beside the target under another name, which becomes the target's in one step. */
static enum status replace_target(struct trace_writer *writer, const json_t *header,
                                  struct error *err)
{
    struct strbuf path = {0};
    strbuf_format(&path, "%s.part-%d", writer->target, (int)getpid());
    const char *part = strbuf_cstr(&path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    enum status status = ST_OK;
    if (fd < 0)
        status = fail(err, ST_IO, "%s: %s", part, strerror(errno));
    else
        status = write_whole(writer, fd, header, err);
    if (fd >= 0 && close(fd) && !status) status = fail(err, ST_IO, "%s: %s", part, strerror(errno));
    if (!status && rename(part, writer->target))
        status = fail(err, ST_IO, "%s: %s", writer->target, strerror(errno));
    if (status && fd >= 0) unlink(part);
    strbuf_free(&path);
    return status;
}

enum status trace_writer_finish(struct trace_writer *writer, const json_t *header,
                                struct error *err)
{
    enum status status = writer->target ? replace_target(writer, header, err)
                                        : write_whole(writer, writer->fd, header, err);
    trace_writer_discard(writer);
    return status;
}
