#include "quant/checkpoint/weight_file.h"
#include "base/base.h"
#include "model/checksum.h"
#include "model/quantized_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* What was written of a part. */
struct progress_of {
    struct checksum_stream *sum;
    size_t written;
};

struct weight_file {
    struct partial *partial;
    struct layout layout;
    struct progress_of *done; /* beside layout.parts */
    json_t *records;
    int fd;
    uint64_t data_start;
    struct checksum header;
};

/* --- the file */

static enum status no_room(const struct weight_file *w, int why, struct error *err)
{
    struct statvfs info;
    double need = (double)(w->data_start + w->layout.data_bytes) / 1e6;
    if (why == EFBIG)
        return fail(err, ST_NO_SPACE,
                    "%s/model.safetensors: %s: it has %.1f MB (a limit on the size of files: "
                    "ulimit -f)",
                    w->partial->path, strerror(why), need);
    if (why == ENOSPC && statvfs(w->partial->path, &info) == 0)
        return fail(err, ST_NO_SPACE,
                    "%s/model.safetensors: %s: it needs %.1f MB, %.1f MB are free",
                    w->partial->path, strerror(why), need,
                    (double)info.f_bavail * (double)info.f_frsize / 1e6);
    return fail(err, why == EDQUOT ? ST_NO_SPACE : ST_IO, "%s/model.safetensors: %s",
                w->partial->path, strerror(why));
}

/* Room for everything before the work begins, where the file system can promise it. */
static enum status reserve(const struct weight_file *w, struct error *err)
{
    off_t size = (off_t)(w->data_start + w->layout.data_bytes);
    int got;
    do
        got = fallocate(w->fd, 0, 0, size);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) got = ftruncate(w->fd, size);
    return got < 0 ? no_room(w, errno, err) : ST_OK;
}

static enum status write_at(const struct weight_file *w, uint64_t offset, const void *bytes,
                            size_t length, struct error *err)
{
    const char *at = bytes;
    while (length) {
        ssize_t got = pwrite(w->fd, at, length, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return no_room(w, errno, err);
        at += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return ST_OK;
}

static enum status begin_file(struct weight_file *w, struct error *err)
{
    struct strbuf header = {0};
    layout_header(&w->layout, &header);
    w->data_start = header.length;
    w->header = checksum_of(header.data, header.length);
    enum status status = partial_create(w->partial, "model.safetensors", &w->fd, err);
    if (!status) status = reserve(w, err);
    if (!status) status = write_at(w, 0, header.data, header.length, err);
    strbuf_free(&header);
    return status;
}

static size_t part_count(const struct weight_file *w)
{
    return (size_t)w->layout.layers * TENSOR_ROLES * PARTS_PER_TENSOR;
}

enum status weight_file_create(struct partial *partial, const struct checkpoint *source,
                               const struct format_plan *plan, struct weight_file **out,
                               struct error *err)
{
    struct weight_file *w = must_alloc(sizeof *w);
    w->partial = partial;
    w->fd = -1;
    w->records = json_object();
    layout_make(source, plan, &w->layout);
    w->done = must_alloc(part_count(w) * sizeof *w->done);
    enum status status = begin_file(w, err);
    if (status) {
        weight_file_close(w);
        return status;
    }
    *out = w;
    return ST_OK;
}

void weight_file_close(struct weight_file *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    for (size_t i = 0; i < part_count(w); i++)
        checksum_stream_free(w->done[i].sum);
    free(w->done);
    layout_release(&w->layout);
    json_decref(w->records);
    free(w);
}

/* --- tensors */

static enum status append(struct weight_file *w, const struct part *part, const void *bytes,
                          size_t size, struct error *err)
{
    struct progress_of *done = &w->done[part - w->layout.parts];
    invariant(part->bytes && size <= part->bytes - done->written,
              "%zu bytes more of %s, %zu of %zu", size, part->name, done->written, part->bytes);
    if (!done->sum) done->sum = checksum_stream_new();
    checksum_stream_add(done->sum, bytes, size);
    uint64_t at = w->data_start + part->offset + done->written;
    done->written += size;
    return write_at(w, at, bytes, size, err);
}

enum status weight_file_vector(struct weight_file *w, enum tensor_role role, int32_t layer,
                               const float *values, struct error *err)
{
    const struct part *part = layout_parts(&w->layout, role, layer);
    return append(w, part, values, part->bytes, err);
}

enum status weight_file_vsq4z(struct weight_file *w, enum tensor_role role, int32_t layer,
                              const struct vsq4z_matrix *m, struct error *err)
{
    const struct part *parts = layout_parts(&w->layout, role, layer);
    size_t rows = (size_t)m->rows;
    enum status status;
    if ((status = append(w, &parts[0], m->codes, rows * (size_t)vsq4z_code_bytes(m->cols), err)) ||
        (status =
             append(w, &parts[1], m->scales, rows * (size_t)vsq4z_scale_bytes(m->cols), err)) ||
        (status = append(w, &parts[2], m->zeros, rows * (size_t)vsq4z_zero_bytes(m->cols), err)))
        return status;
    return append(w, &parts[3], m->row_scale, rows * sizeof *m->row_scale, err);
}

enum status weight_file_w8(struct weight_file *w, enum tensor_role role, int32_t layer,
                           const struct w8_matrix *m, struct error *err)
{
    const struct part *parts = layout_parts(&w->layout, role, layer);
    size_t rows = (size_t)m->rows;
    enum status status = append(w, &parts[0], m->values, rows * (size_t)m->cols, err);
    if (status) return status;
    return append(w, &parts[1], m->scales, rows * (size_t)w8_groups(m->cols) * sizeof *m->scales,
                  err);
}

void weight_file_record(struct weight_file *w, enum tensor_role role, int32_t layer, json_t *record)
{
    char name[TENSOR_NAME_ROOM];
    json_object_set_new(w->records, written_name(role, layer, name), record);
}

/* --- the end */

static json_t *part_checksums(struct weight_file *w)
{
    json_t *sums = json_object();
    for (size_t i = 0; i < part_count(w); i++) {
        const struct part *part = &w->layout.parts[i];
        if (!part->bytes) continue;
        invariant(w->done[i].written == part->bytes, "%zu of %zu bytes of %s were written",
                  w->done[i].written, part->bytes, part->name);
        struct checksum sum = checksum_stream_digest(w->done[i].sum);
        json_object_set_new(sums, part->name, json_string(sum.digits));
    }
    return sums;
}

/* The text of the record, and behind it its own checksum. */
static void seal(const json_t *record, struct strbuf *out)
{
    char *text = json_dumps(record, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    invariant(text, "no JSON text of " QUANTIZATION_FILE);
    strbuf_append(out, text, strlen(text) - strlen("\n}"));
    strbuf_text(out, ",\n " QUANTIZATION_SEAL);
    struct checksum sum = checksum_of(out->data, out->length);
    strbuf_text(out, sum.digits);
    strbuf_text(out, QUANTIZATION_SEAL_END);
    free(text);
}

enum status weight_file_finish(struct weight_file *w, json_t *head, json_t **out, struct error *err)
{
    if (fsync(w->fd) < 0) return no_room(w, errno, err);
    json_t *record = json_pack("{s:s, s:i, s:s}", "format", QUANTIZATION_FORMAT, "version",
                               QUANTIZATION_VERSION, "made_by", "espalier " ESPALIER_VERSION);
    json_object_update(record, head);
    json_object_set(record, "tensors", w->records);
    json_object_set_new(record, "checksums",
                        json_pack("{s:s, s:s, s:o, s:o}", "algorithm", CHECKSUM_NAME, "header",
                                  w->header.digits, "files", json_copy(w->partial->checksums),
                                  "tensors", part_checksums(w)));
    struct strbuf text = {0};
    seal(record, &text);
    *out = record;
    enum status status = partial_write(w->partial, QUANTIZATION_FILE, text.data, text.length, err);
    strbuf_free(&text);
    return status;
}
