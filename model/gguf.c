#include "model/gguf.h"
#include "base/base.h"
#include "model/dequantize.h"

#include <stdlib.h>
#include <string.h>

#define MAX_KEYS        65536
#define MAX_ALIGNMENT   ((uint64_t)1 << 24)
#define SMALLEST_KEY    13 /* empty key, type, one byte */
#define SMALLEST_TENSOR 24 /* empty name, no dims, type, offset */

static const struct {
    const char *name;
    size_t size; /* 0: not fixed */
} value_types[GGUF_VALUE_TYPES] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(enum gguf_type type)
{
    return value_types[type].name;
}

/* Numbers of the types as files write them; the others are named in the refusal. */
static const struct {
    const char *name;
    uint32_t number;
    int type; /* enum file_type, -1: cannot be read */
} tensor_types[] = {
    {"F32", 0, FILE_F32},
    {"F16", 1, FILE_F16},
    {"Q4_0", 2, FILE_Q4_0},
    {"Q4_1", 3, FILE_Q4_1},
    {"Q5_0", 6, FILE_Q5_0},
    {"Q5_1", 7, FILE_Q5_1},
    {"Q8_0", 8, FILE_Q8_0},
    {"Q8_1", 9, -1},
    {"Q2_K", 10, FILE_Q2_K},
    {"Q3_K", 11, FILE_Q3_K},
    {"Q4_K", 12, FILE_Q4_K},
    {"Q5_K", 13, FILE_Q5_K},
    {"Q6_K", 14, FILE_Q6_K},
    {"Q8_K", 15, -1},
    {"IQ2_XXS", 16, -1},
    {"IQ2_XS", 17, -1},
    {"IQ3_XXS", 18, -1},
    {"IQ1_S", 19, -1},
    {"IQ4_NL", 20, FILE_IQ4_NL},
    {"IQ3_S", 21, -1},
    {"IQ2_S", 22, -1},
    {"IQ4_XS", 23, -1},
    {"I8", 24, -1},
    {"I16", 25, -1},
    {"I32", 26, -1},
    {"I64", 27, -1},
    {"F64", 28, -1},
    {"IQ1_M", 29, -1},
    {"BF16", 30, FILE_BF16},
    {"TQ1_0", 34, -1},
    {"TQ2_0", 35, -1},
    {"MXFP4", 39, -1},
    {"NVFP4", 40, -1},
};

/* --- reading, always inside the file */

struct cursor {
    const uint8_t *data;
    uint64_t at, size;
    const char *reading; /* what, for the message */
    struct error *err;
};

/* The next `count` bytes, or NULL with the error set. */
static const uint8_t *take(struct cursor *c, uint64_t count)
{
    if (!range_inside(c->at, count, c->size)) {
        fail(c->err, ST_BAD_FILE,
             "offset %llu: %s needs %llu bytes, %llu are left of the file's %llu",
             (unsigned long long)c->at, c->reading, (unsigned long long)count,
             (unsigned long long)(c->size - c->at), (unsigned long long)c->size);
        return NULL;
    }
    const uint8_t *bytes = c->data + c->at;
    c->at += count;
    return bytes;
}

static bool take_u32(struct cursor *c, uint32_t *value)
{
    const uint8_t *bytes = take(c, sizeof *value);
    if (bytes) memcpy(value, bytes, sizeof *value);
    return bytes != NULL;
}

static bool take_u64(struct cursor *c, uint64_t *value)
{
    const uint8_t *bytes = take(c, sizeof *value);
    if (bytes) memcpy(value, bytes, sizeof *value);
    return bytes != NULL;
}

static bool take_string(struct cursor *c, struct gguf_string *string)
{
    uint64_t length;
    if (!take_u64(c, &length)) return false;
    const uint8_t *bytes = take(c, length);
    *string = (struct gguf_string){(const char *)bytes, length};
    return bytes != NULL;
}

/* --- keys */

static enum status read_type(struct cursor *c, const struct gguf_value *value, enum gguf_type *type)
{
    uint64_t at = c->at;
    uint32_t number;
    if (!take_u32(c, &number)) return ST_BAD_FILE;
    if (number >= GGUF_VALUE_TYPES)
        return fail(c->err, ST_BAD_FILE, "offset %llu: key %.*s has type %u; types are 0 to %d",
                    (unsigned long long)at, (int)value->key.length, value->key.text, number,
                    GGUF_VALUE_TYPES - 1);
    *type = (enum gguf_type)number;
    return ST_OK;
}

static enum status skip_array(struct cursor *c, struct gguf_value *value)
{
    uint64_t at = c->at, bytes;
    if (read_type(c, value, &value->element) || !take_u64(c, &value->count)) return ST_BAD_FILE;
    value->data = c->data + c->at;
    if (value->element == GGUF_ARRAY)
        return fail(c->err, ST_UNSUPPORTED, "offset %llu: key %.*s is an array of arrays",
                    (unsigned long long)at, (int)value->key.length, value->key.text);
    if (value->element == GGUF_STRING) {
        struct gguf_string string;
        for (uint64_t i = 0; i < value->count; i++)
            if (!take_string(c, &string)) return ST_BAD_FILE;
        return ST_OK;
    }
    if (!checked_mul(value->count, value_types[value->element].size, &bytes))
        return fail(c->err, ST_BAD_FILE, "offset %llu: key %.*s has %llu elements",
                    (unsigned long long)at, (int)value->key.length, value->key.text,
                    (unsigned long long)value->count);
    return take(c, bytes) ? ST_OK : ST_BAD_FILE;
}

static enum status read_value(struct cursor *c, struct gguf_value *value)
{
    uint64_t at = c->at;
    c->reading = "a key";
    if (!take_string(c, &value->key)) return ST_BAD_FILE;
    if (!tensor_name_valid(value->key.text, value->key.length))
        return fail(
            c->err, ST_BAD_FILE,
            "offset %llu: a key of %zu bytes; supported are 1 to %d printable ASCII characters",
            (unsigned long long)at, value->key.length, TENSOR_MAX_NAME);
    c->reading = "a key's value";
    if (read_type(c, value, &value->type)) return ST_BAD_FILE;
    value->data = c->data + c->at;
    if (value->type == GGUF_ARRAY) return skip_array(c, value);
    if (value->type == GGUF_STRING) {
        struct gguf_string string;
        return take_string(c, &string) ? ST_OK : ST_BAD_FILE;
    }
    return take(c, value_types[value->type].size) ? ST_OK : ST_BAD_FILE;
}

static int compare_strings(const struct gguf_string *a, const struct gguf_string *b)
{
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->text, b->text, shorter);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int compare_keys(const void *a, const void *b)
{
    return compare_strings(&((const struct gguf_value *)a)->key,
                           &((const struct gguf_value *)b)->key);
}

static enum status read_values(struct cursor *c, struct gguf_file *file, uint64_t count)
{
    file->values = must_alloc((count + 1) * sizeof *file->values);
    for (uint64_t i = 0; i < count; i++) {
        enum status status = read_value(c, &file->values[i]);
        if (status) return status;
    }
    file->value_count = count;
    qsort(file->values, count, sizeof *file->values, compare_keys);
    for (uint64_t i = 1; i < count; i++)
        if (!compare_keys(&file->values[i - 1], &file->values[i]))
            return fail(c->err, ST_BAD_FILE, "key %.*s comes twice",
                        (int)file->values[i].key.length, file->values[i].key.text);
    return ST_OK;
}

/* --- tensors */

static enum status read_tensor_type(struct cursor *c, struct file_tensor *tensor)
{
    uint64_t at = c->at;
    uint32_t number;
    const char *name = "no known type";
    if (!take_u32(c, &number)) return ST_BAD_FILE;
    for (size_t i = 0; i < COUNT_OF(tensor_types); i++) {
        if (tensor_types[i].number != number) continue;
        tensor->type = (enum file_type)tensor_types[i].type;
        if (tensor_types[i].type >= 0) return ST_OK;
        name = tensor_types[i].name;
    }
    return fail(c->err, ST_UNSUPPORTED,
                "offset %llu: tensor %s has type %u (%s); supported are " FILE_TYPES_SUPPORTED,
                (unsigned long long)at, tensor->name, number, name);
}

/* The file lists the row first; ours is [rows, cols]. */
static enum status read_dims(struct cursor *c, struct file_tensor *tensor)
{
    uint64_t at = c->at;
    uint32_t count;
    if (!take_u32(c, &count)) return ST_BAD_FILE;
    if (count < 1 || count > TENSOR_MAX_DIMS)
        return fail(c->err, ST_BAD_FILE,
                    "offset %llu: tensor %s has %u dimensions, 1 to %d are allowed",
                    (unsigned long long)at, tensor->name, count, TENSOR_MAX_DIMS);
    tensor->dim_count = (int32_t)count;
    for (uint32_t i = count; i-- > 0;) {
        uint64_t dim;
        at = c->at;
        if (!take_u64(c, &dim)) return ST_BAD_FILE;
        if (dim < 1 || dim > INT64_MAX)
            return fail(c->err, ST_BAD_FILE, "offset %llu: tensor %s has a dimension of %llu",
                        (unsigned long long)at, tensor->name, (unsigned long long)dim);
        tensor->dims[i] = (int64_t)dim;
    }
    return ST_OK;
}

/* `data` is set to the offset for now; place_tensors turns it into an address. */
static enum status read_tensor(struct cursor *c, struct file_tensor *tensor, uint64_t *offset)
{
    uint64_t at = c->at;
    struct gguf_string name;
    c->reading = "a tensor's entry";
    if (!take_string(c, &name)) return ST_BAD_FILE;
    if (!tensor_name_valid(name.text, name.length))
        return fail(c->err, ST_BAD_FILE,
                    "offset %llu: a tensor's name of %zu bytes; names are 1 to %d printable ASCII "
                    "characters",
                    (unsigned long long)at, name.length, TENSOR_MAX_NAME);
    tensor->name = must_alloc(name.length + 1);
    memcpy(tensor->name, name.text, name.length);
    enum status status;
    if ((status = read_dims(c, tensor)) || (status = read_tensor_type(c, tensor)) ||
        (status = file_tensor_size(tensor, c->err)))
        return status;
    return take_u64(c, offset) ? ST_OK : ST_BAD_FILE;
}

static enum status place_tensors(struct cursor *c, struct gguf_file *file, const uint64_t *offsets)
{
    uint64_t start = (c->at + file->alignment - 1) / file->alignment * file->alignment;
    for (size_t i = 0; i < file->tensors.count; i++) {
        struct file_tensor *tensor = &file->tensors.items[i];
        uint64_t at;
        if (offsets[i] % file->alignment)
            return fail(c->err, ST_BAD_FILE,
                        "tensor %s: offset %llu is no multiple of the alignment %llu", tensor->name,
                        (unsigned long long)offsets[i], (unsigned long long)file->alignment);
        if (!checked_add(start, offsets[i], &at) || !range_inside(at, tensor->bytes, c->size))
            return fail(
                c->err, ST_BAD_FILE,
                "tensor %s: %zu bytes at offset %llu of the data (which starts at %llu) end "
                "beyond the file's %llu",
                tensor->name, tensor->bytes, (unsigned long long)offsets[i],
                (unsigned long long)start, (unsigned long long)c->size);
        tensor->data = c->data + at;
    }
    return ST_OK;
}

static enum status read_tensors(struct cursor *c, struct gguf_file *file, uint64_t count)
{
    uint64_t *offsets = must_alloc((count + 1) * sizeof *offsets);
    enum status status = ST_OK;
    for (uint64_t i = 0; !status && i < count; i++) {
        struct file_tensor tensor = {0};
        status = read_tensor(c, &tensor, &offsets[i]);
        if (status)
            free(tensor.name);
        else
            tensor_directory_add(&file->tensors, &tensor);
    }
    if (!status) status = place_tensors(c, file, offsets);
    if (!status) status = tensor_directory_finish(&file->tensors, c->err);
    free(offsets);
    return status;
}

/* --- the whole file */

static enum status read_magic(struct cursor *c)
{
    uint32_t version;
    c->reading = "the header";
    const uint8_t *magic = take(c, 4);
    if (!magic) return ST_BAD_FILE;
    if (memcmp(magic, "GGUF", 4) != 0)
        return fail(c->err, ST_BAD_FILE,
                    "no GGUF file: it begins with bytes %02x %02x %02x %02x, not \"GGUF\"",
                    magic[0], magic[1], magic[2], magic[3]);
    if (!take_u32(c, &version)) return ST_BAD_FILE;
    if (version && !(version & 0xffff))
        return fail(c->err, ST_UNSUPPORTED,
                    "offset 4: a big-endian GGUF file; supported is little-endian");
    if (version != 2 && version != 3) /* 1 counted in 32 bits; 3 added the other byte order to 2 */
        return fail(c->err, ST_UNSUPPORTED, "offset 4: GGUF version %u; supported are 2 and 3",
                    version);
    return ST_OK;
}

/* Both counts with what the rest of the file could hold at most. */
static enum status read_counts(struct cursor *c, uint64_t *tensors, uint64_t *keys)
{
    if (!take_u64(c, tensors) || !take_u64(c, keys)) return ST_BAD_FILE;
    uint64_t left = c->size - c->at;
    if (*tensors > TENSOR_MAX_COUNT || *tensors > left / SMALLEST_TENSOR)
        return fail(
            c->err, ST_BAD_FILE, "offset 8: %llu tensors; a file of %llu bytes can have %llu",
            (unsigned long long)*tensors, (unsigned long long)c->size,
            (unsigned long long)(left / SMALLEST_TENSOR < TENSOR_MAX_COUNT ? left / SMALLEST_TENSOR
                                                                           : TENSOR_MAX_COUNT));
    if (*keys > MAX_KEYS || *keys > left / SMALLEST_KEY)
        return fail(
            c->err, ST_BAD_FILE, "offset 16: %llu keys; a file of %llu bytes can have %llu",
            (unsigned long long)*keys, (unsigned long long)c->size,
            (unsigned long long)(left / SMALLEST_KEY < MAX_KEYS ? left / SMALLEST_KEY : MAX_KEYS));
    return ST_OK;
}

static enum status read_alignment(struct gguf_file *file, struct error *err)
{
    int64_t alignment = 32; /* the format's default */
    enum status status =
        gguf_get_int(file, "general.alignment", 1, (int64_t)MAX_ALIGNMENT, &alignment, err);
    if (status) return status;
    if (alignment & (alignment - 1))
        return fail(err, ST_BAD_FILE, "key general.alignment: %lld; it must be a power of two",
                    (long long)alignment);
    file->alignment = (uint64_t)alignment;
    return ST_OK;
}

enum status gguf_open(const char *path, struct gguf_file *out, struct error *err)
{
    struct gguf_file file = {0};
    uint64_t tensors, keys;
    enum status status = mapped_file_open(path, &file.map, err);
    if (status) return status;
    struct cursor c = {.data = file.map.data, .size = file.map.size, .err = err};
    if ((status = read_magic(&c)) || (status = read_counts(&c, &tensors, &keys)) ||
        (status = read_values(&c, &file, keys)) || (status = read_alignment(&file, err)) ||
        (status = read_tensors(&c, &file, tensors))) {
        gguf_close(&file);
        return fail_prefix(err, "%s", path);
    }
    *out = file;
    return ST_OK;
}

void gguf_close(struct gguf_file *file)
{
    tensor_directory_free(&file->tensors);
    free(file->values);
    mapped_file_close(&file->map);
    *file = (struct gguf_file){0};
}

/* --- looking up */

const struct gguf_value *gguf_find(const struct gguf_file *file, const char *key)
{
    struct gguf_value wanted = {.key = {key, strlen(key)}};
    return bsearch(&wanted, file->values, file->value_count, sizeof wanted, compare_keys);
}

static enum status wrong_type(const struct gguf_value *value, const char *wanted, struct error *err)
{
    bool array = value->type == GGUF_ARRAY;
    return fail(err, ST_BAD_FILE, "key %.*s is %s%s; expected %s", (int)value->key.length,
                value->key.text, array ? "an array of " : "",
                gguf_type_name(array ? value->element : value->type), wanted);
}

#define LOAD(type, at)                          \
    ({                                          \
        type loaded_;                           \
        memcpy(&loaded_, (at), sizeof loaded_); \
        loaded_;                                \
    })

/* false: no integer, or above INT64_MAX. */
static bool value_as_int(const struct gguf_value *value, int64_t *out)
{
    switch (value->type) {
    case GGUF_U8:
        *out = LOAD(uint8_t, value->data);
        return true;
    case GGUF_I8:
        *out = LOAD(int8_t, value->data);
        return true;
    case GGUF_U16:
        *out = LOAD(uint16_t, value->data);
        return true;
    case GGUF_I16:
        *out = LOAD(int16_t, value->data);
        return true;
    case GGUF_U32:
        *out = LOAD(uint32_t, value->data);
        return true;
    case GGUF_I32:
        *out = LOAD(int32_t, value->data);
        return true;
    case GGUF_I64:
        *out = LOAD(int64_t, value->data);
        return true;
    case GGUF_U64:
        *out = LOAD(int64_t, value->data);
        return *out >= 0;
    default:
        return false;
    }
}

enum status gguf_get_int(const struct gguf_file *file, const char *key, int64_t minimum,
                         int64_t maximum, int64_t *out, struct error *err)
{
    const struct gguf_value *value = gguf_find(file, key);
    int64_t found;
    if (!value) return ST_OK;
    if (!value_as_int(value, &found)) return wrong_type(value, "an integer", err);
    if (found < minimum || found > maximum)
        return fail(err, ST_BAD_FILE, "key %s: %lld; allowed is %lld to %lld", key,
                    (long long)found, (long long)minimum, (long long)maximum);
    *out = found;
    return ST_OK;
}

enum status gguf_get_real(const struct gguf_file *file, const char *key, double *out,
                          struct error *err)
{
    const struct gguf_value *value = gguf_find(file, key);
    if (!value) return ST_OK;
    if (value->type == GGUF_F32)
        *out = (double)LOAD(float, value->data);
    else if (value->type == GGUF_F64)
        *out = LOAD(double, value->data);
    else
        return wrong_type(value, "f32 or f64", err);
    return ST_OK;
}

enum status gguf_get_bool(const struct gguf_file *file, const char *key, bool *out,
                          struct error *err)
{
    const struct gguf_value *value = gguf_find(file, key);
    if (!value) return ST_OK;
    if (value->type != GGUF_BOOL) return wrong_type(value, "bool", err);
    if (*value->data > 1)
        return fail(err, ST_BAD_FILE, "key %s: a bool of %u; allowed is 0 or 1", key, *value->data);
    *out = *value->data == 1;
    return ST_OK;
}

enum status gguf_get_string(const struct gguf_file *file, const char *key, struct gguf_string *out,
                            struct error *err)
{
    const struct gguf_value *value = gguf_find(file, key);
    if (!value) return ST_OK;
    if (value->type != GGUF_STRING) return wrong_type(value, "string", err);
    const uint8_t *at = value->data;
    *out = gguf_next_string(&at);
    return ST_OK;
}

enum status gguf_get_array(const struct gguf_file *file, const char *key, enum gguf_type element,
                           const struct gguf_value **out, struct error *err)
{
    const struct gguf_value *value = gguf_find(file, key);
    if (!value) return ST_OK;
    if (value->type != GGUF_ARRAY || value->element != element)
        return wrong_type(value, element == GGUF_STRING ? "an array of string" : "an array of i32",
                          err);
    *out = value;
    return ST_OK;
}

struct gguf_string gguf_next_string(const uint8_t **at)
{
    uint64_t length = LOAD(uint64_t, *at);
    struct gguf_string string = {(const char *)*at + sizeof length, length};
    *at += sizeof length + length;
    return string;
}
