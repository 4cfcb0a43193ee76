/* GGUF versions 2 and 3, the container: a header of typed key-value pairs, a list of tensors, their
 * bytes.
 *
 *     "GGUF" u32 version  u64 tensors  u64 keys
 *     keys    x { string key, u32 type, value }              string: u64 length, bytes
 *     tensors x { string name, u32 dims, u64 dim[dims], u32 type, u64 offset }     dim[0] is the
 * row padding to general.alignment, then the data that `offset` counts from
 *
 * Every length is checked against what is left of the file before it is used, and nothing is
 * allocated by a count alone. Values stay in the mapping; numbers are little-endian and may be
 * unaligned. gguf_checkpoint.c gives the keys their meaning.
 */
#ifndef MODEL_GGUF_H
#define MODEL_GGUF_H

#include "model/mapped_file.h"
#include "model/tensor_directory.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_VALUE_TYPES,
};
const char *gguf_type_name(enum gguf_type type);

/* Bytes in the mapping, not terminated. */
struct gguf_string {
    const char *text;
    size_t length;
};

struct gguf_value {
    struct gguf_string key;
    enum gguf_type type;
    enum gguf_type element; /* of a GGUF_ARRAY: any type but an array */
    uint64_t count;         /* of a GGUF_ARRAY */
    const uint8_t *data;    /* the value, or the array's first element; inside the mapping */
};

struct gguf_file {
    struct mapped_file map;
    struct gguf_value *values; /* [value_count], sorted by key */
    size_t value_count;
    struct tensor_directory tensors;
    uint64_t alignment;
};

/* Maps and checks. On failure nothing is left open and `err` starts with the path. */
enum status gguf_open(const char *path, struct gguf_file *out, struct error *err);
void gguf_close(struct gguf_file *file);

/* NULL: no such key. */
const struct gguf_value *gguf_find(const struct gguf_file *file, const char *key);

/* Scalars. An absent key leaves *out alone and is ST_OK; a wrong type or range is ST_BAD_FILE. */
enum status gguf_get_int(const struct gguf_file *file, const char *key, int64_t minimum,
                         int64_t maximum, int64_t *out, struct error *err);
enum status gguf_get_real(const struct gguf_file *file, const char *key, double *out,
                          struct error *err);
enum status gguf_get_bool(const struct gguf_file *file, const char *key, bool *out,
                          struct error *err);
enum status gguf_get_string(const struct gguf_file *file, const char *key, struct gguf_string *out,
                            struct error *err);

/* An array of strings or of 32-bit integers; *out stays NULL when absent. */
enum status gguf_get_array(const struct gguf_file *file, const char *key, enum gguf_type element,
                           const struct gguf_value **out, struct error *err);

/* The string at *at of a checked array; moves *at behind it. Start with value->data. */
struct gguf_string gguf_next_string(const uint8_t **at);

#endif
