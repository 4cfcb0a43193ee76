/* quantization.json and the checksums that it holds. */
#include "model/quantized_directory.h"
#include "base/base.h"
#include "base/thread_pool.h"
#include "model/checkpoint_private.h"
#include "model/checksum.h"
#include "model/json_reader.h"
#include "model/mapped_file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RECORD   ((size_t)64 << 20) /* of quantization.json; a few hundred bytes a matrix */
#define MAX_DEPTH    8
#define SERIAL_BYTES ((int64_t)8 << 20) /* that many are verified before threads would be awake */

/* --- opening quantization.json */

/* The file's own checksum, over every byte before its digits. */
static enum status check_seal(const char *text, size_t length, struct error *err)
{
    const size_t before = strlen(QUANTIZATION_SEAL), behind = strlen(QUANTIZATION_SEAL_END);
    size_t tail = before + CHECKSUM_DIGITS + behind;
    if (length < tail || memcmp(text + length - tail, QUANTIZATION_SEAL, before) != 0 ||
        memcmp(text + length - behind, QUANTIZATION_SEAL_END, behind) != 0)
        return fail(err, ST_BAD_FILE,
                    "offset %zu: the file does not end with its checksum; it was cut or changed",
                    length < tail ? 0 : length - tail);
    const char *digits = text + length - behind - CHECKSUM_DIGITS;
    struct checksum found = checksum_of(text, (size_t)(digits - text));
    if (!memcmp(digits, found.digits, CHECKSUM_DIGITS)) return ST_OK;
    return fail(err, ST_BAD_FILE,
                "offsets 0 to %zu: the checksum is %s, the file says %.*s; it was changed",
                (size_t)(digits - text), found.digits, CHECKSUM_DIGITS, digits);
}

static enum status check_format(const json_t *json, struct error *err)
{
    const char *format = NULL;
    int64_t version = 0;
    enum status status = json_get_string(json, "format", &format, err);
    if (status) return status;
    if (!format || strcmp(format, QUANTIZATION_FORMAT) != 0)
        return fail(err, ST_UNSUPPORTED, "format is %.64s; supported is " QUANTIZATION_FORMAT,
                    format ? format : "missing");
    if ((status = json_get_int(json, "version", INT64_MIN, INT64_MAX, &version, err)))
        return status;
    if (version != QUANTIZATION_VERSION)
        return fail(err, ST_UNSUPPORTED, "version is %lld; supported is %d", (long long)version,
                    QUANTIZATION_VERSION);
    return ST_OK;
}

static enum status check_members(const json_t *json, struct error *err)
{
    static const char *const objects[] = {"source", "options", "tensors", "checksums"};
    static const char *const lists[] = {"tensors", "files"};
    for (size_t i = 0; i < COUNT_OF(objects); i++)
        if (!json_is_object(json_object_get(json, objects[i])))
            return fail(err, ST_BAD_FILE, "%s is missing or no object", objects[i]);
    const json_t *checksums = json_object_get(json, "checksums");
    if (!json_is_string(json_object_get(checksums, "header")))
        return fail(err, ST_BAD_FILE, "checksums.header is missing or no text");
    for (size_t i = 0; i < COUNT_OF(lists); i++)
        if (!json_is_object(json_object_get(checksums, lists[i])))
            return fail(err, ST_BAD_FILE, "checksums.%s is missing or no object", lists[i]);
    return ST_OK;
}

static enum status parse(const char *text, size_t length, json_t **json, struct error *err)
{
    enum status status = json_parse_object(text, length, MAX_DEPTH, json, err);
    if (!status) status = check_format(*json, err);
    if (!status) status = check_seal(text, length, err);
    return status ? status : check_members(*json, err);
}

static enum status join_path(char path[PATH_MAX], const char *dir, const char *name,
                             struct error *err)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX) return ST_OK;
    return fail(err, ST_INVALID, "%s: the path is longer than %d bytes", dir, PATH_MAX - 1);
}

enum status quantized_directory_open(const char *dir, struct quantized_directory *out,
                                     struct error *err)
{
    char path[PATH_MAX], *text;
    size_t length;
    struct error why = {0};
    out->json = NULL;
    enum status status = join_path(path, dir, QUANTIZATION_FILE, &why);
    if (!status) status = read_text_file(path, MAX_RECORD, &text, &length, &why);
    if (status == ST_NOT_FOUND) return ST_OK;
    if (status) return fail(err, status, "%s", why.text);
    status = parse(text, length, &out->json, err);
    free(text);
    return status ? fail_prefix(err, "%s", path) : ST_OK;
}

void quantized_directory_close(struct quantized_directory *quantized)
{
    json_decref(quantized->json);
    quantized->json = NULL;
}

/* --- verifying */

/* One thing to look at: a tensor's bytes, or the values of a matrix. */
struct task {
    const struct file_tensor *tensor;       /* or NULL */
    const struct checkpoint_tensor *matrix; /* or NULL */
    struct error error;
};

struct verifier {
    const json_t *checksums; /* of tensors, by name */
    const uint8_t *file;
    struct task *tasks;
    int64_t count, bytes;
};

static enum status compare(const char *what, size_t begin, const void *bytes, size_t size,
                           const json_t *expected, struct error *err)
{
    const char *digits = json_string_value(expected);
    struct checksum found = checksum_of(bytes, size);
    if (digits && !strcmp(digits, found.digits)) return ST_OK;
    return fail(err, ST_BAD_FILE,
                "%s, offsets %zu to %zu: the checksum is %s; " QUANTIZATION_FILE
                " says %.40s: a byte of it was changed",
                what, begin, begin + size, found.digits, digits ? digits : "nothing of it");
}

static void verify_tasks(void *argument, int64_t begin, int64_t end, int member)
{
    struct verifier *v = argument;
    (void)member;
    for (int64_t i = begin; i < end; i++) {
        struct task *task = &v->tasks[i];
        if (task->matrix) {
            quantized_matrix_check(task->matrix, v->file, &task->error);
            continue;
        }
        char what[TENSOR_MAX_NAME + 16];
        snprintf(what, sizeof what, "tensor %s", task->tensor->name);
        compare(what, task->tensor->offset, task->tensor->data, task->tensor->bytes,
                json_object_get(v->checksums, task->tensor->name), &task->error);
    }
}

/* Values first: they say more than a checksum does. */
static enum status list_tasks(struct verifier *v, const struct checkpoint *checkpoint,
                              struct error *err)
{
    const struct tensor_directory *tensors = &checkpoint->safetensors.tensors;
    int64_t slots = (int64_t)checkpoint->config.layers * TENSOR_ROLES;
    v->tasks = try_alloc((size_t)slots + tensors->count, sizeof *v->tasks);
    if (!v->tasks)
        return fail(err, ST_NO_MEMORY, "no memory to verify %zu tensors", tensors->count);
    for (int64_t i = 0; i < slots; i++) {
        const struct checkpoint_tensor *tensor = &checkpoint->tensors[i];
        if (checkpoint_tensor_coded(tensor)) v->tasks[v->count++].matrix = tensor;
    }
    for (size_t i = 0; i < tensors->count; i++) {
        v->tasks[v->count++].tensor = &tensors->items[i];
        v->bytes += (int64_t)tensors->items[i].bytes;
    }
    return ST_OK;
}

/* On all cores where it is worth it; the first refusal in the order of the tasks. */
static enum status run_tasks(struct verifier *v, struct error *err)
{
    struct thread_pool *pool = NULL;
    struct error no_pool = {0};
    if (v->bytes > SERIAL_BYTES && thread_pool_create(0, &pool, &no_pool) == ST_OK)
        thread_pool_for(pool, v->count, 1, verify_tasks, v);
    else
        verify_tasks(v, 0, v->count, 0);
    if (pool) thread_pool_free(pool);
    for (int64_t i = 0; i < v->count; i++)
        if (v->tasks[i].error.status)
            return fail(err, v->tasks[i].error.status, "%s", v->tasks[i].error.text);
    return ST_OK;
}

/* What quantization.json lists must be there as well. */
static enum status check_listed(const struct verifier *v, const struct checkpoint *checkpoint,
                                struct error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)v->checksums, name, value)
    {
        if (!tensor_directory_find(&checkpoint->safetensors.tensors, name))
            return fail(err, ST_BAD_FILE,
                        "tensor %.200s is missing; " QUANTIZATION_FILE " lists it", name);
    }
    return ST_OK;
}

static enum status verify_weights(const struct quantized_directory *quantized,
                                  const struct checkpoint *checkpoint, struct error *err)
{
    const json_t *checksums = json_object_get(quantized->json, "checksums");
    const struct safetensors_file *file = &checkpoint->safetensors.files[0];
    struct verifier v = {.checksums = json_object_get(checksums, "tensors"),
                         .file = file->map.data};
    uint64_t length;
    memcpy(&length, v.file, sizeof length); /* safetensors_open checked it */
    enum status status = list_tasks(&v, checkpoint, err);
    if (!status) status = run_tasks(&v, err);
    free(v.tasks);
    if (!status) status = check_listed(&v, checkpoint, err);
    if (!status)
        status = compare("the header", 0, v.file, sizeof length + (size_t)length,
                         json_object_get(checksums, "header"), err);
    return status;
}

static enum status verify_file(const char *dir, const char *name, const json_t *expected,
                               struct error *err)
{
    char path[PATH_MAX];
    struct mapped_file file;
    if (strchr(name, '/'))
        return fail(err, ST_BAD_FILE, "%s/" QUANTIZATION_FILE ": checksums.files: %.64s is no name",
                    dir, name);
    enum status status = join_path(path, dir, name, err);
    if (!status) status = mapped_file_open(path, &file, err);
    if (status) return status;
    status = compare("the file", 0, file.data, file.size, expected, err);
    mapped_file_close(&file);
    return status ? fail_prefix(err, "%s", path) : ST_OK;
}

static enum status verify_files(const struct quantized_directory *quantized, const char *dir,
                                struct error *err)
{
    static const char *const needed[] = {"config.json", "tokenizer.json"};
    json_t *files = json_object_get(json_object_get(quantized->json, "checksums"), "files");
    const char *name;
    json_t *expected;
    for (size_t i = 0; i < COUNT_OF(needed); i++)
        if (!json_object_get(files, needed[i]))
            return fail(err, ST_BAD_FILE,
                        "%s/" QUANTIZATION_FILE ": checksums.files has no checksum of %s", dir,
                        needed[i]);
    json_object_foreach(files, name, expected)
    {
        enum status status = verify_file(dir, name, expected, err);
        if (status) return status;
    }
    return ST_OK;
}

/* What is multiplied as one matrix at run time has one format; the embedding and the head are
 * looked up and searched as W8. */
static enum status check_formats(const struct checkpoint *checkpoint, struct error *err)
{
    static const enum tensor_role pairs[][2] = {
        {TENSOR_Q, TENSOR_K}, {TENSOR_Q, TENSOR_V}, {TENSOR_GATE, TENSOR_UP}};
    for (int32_t layer = 0; layer < checkpoint->config.layers; layer++)
        for (size_t i = 0; i < COUNT_OF(pairs); i++) {
            const struct checkpoint_tensor *a = checkpoint_tensor(checkpoint, pairs[i][0], layer);
            const struct checkpoint_tensor *b = checkpoint_tensor(checkpoint, pairs[i][1], layer);
            if (a->type != b->type)
                return fail(err, ST_BAD_FILE, "tensor %s is %s and %s is %s; allowed is one format",
                            a->name, file_type_name(a->type), b->name, file_type_name(b->type));
        }
    for (enum tensor_role role = TENSOR_EMBEDDING; role <= TENSOR_HEAD; role++) {
        const struct checkpoint_tensor *table = checkpoint_tensor(checkpoint, role, 0);
        if (table && table->type != FILE_W8)
            return fail(err, ST_UNSUPPORTED, "tensor %s is %s; allowed is W8", table->name,
                        file_type_name(table->type));
    }
    return ST_OK;
}

enum status quantized_directory_verify(const struct quantized_directory *quantized, const char *dir,
                                       const struct checkpoint *checkpoint, struct error *err)
{
    if (!quantized->json) return ST_OK;
    if (checkpoint->safetensors.file_count != 1)
        return fail(err, ST_UNSUPPORTED, "%s: %zu files of weights; allowed is model.safetensors",
                    dir, checkpoint->safetensors.file_count);
    enum status status = check_formats(checkpoint, err);
    if (!status) status = verify_weights(quantized, checkpoint, err);
    if (status) return fail_prefix(err, "%s/model.safetensors", dir);
    return verify_files(quantized, dir, err);
}
