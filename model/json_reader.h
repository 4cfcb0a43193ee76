/* JSON from files that are not trusted: bounded size and depth, no duplicate keys, and members by
 * name with errors that say which field, what was found and what is allowed. */
#ifndef MODEL_JSON_READER_H
#define MODEL_JSON_READER_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* json_loadb that survives a lack of memory (json_memory.c): NULL, and *short_of_memory is true. */
json_t *json_load(const char *text, size_t length, size_t flags, json_error_t *why,
                  bool *short_of_memory);

/* The object in text[length]; ST_BAD_FILE with line and column. Caller: json_decref(*out). */
enum status json_parse_object(const char *text, size_t length, int max_depth, json_t **out,
                              struct error *err);

/* The object in the file at DIR/NAME, at most `limit` bytes. ST_NOT_FOUND when there is none. */
enum status json_read_object(const char *dir, const char *name, size_t limit, json_t **out,
                             struct error *err);

/* Members of `object`. Absent or null: *out keeps its value and the result is ST_OK. */
enum status json_get_int(const json_t *object, const char *key, int64_t minimum, int64_t maximum,
                         int64_t *out, struct error *err);
enum status json_get_real(const json_t *object, const char *key, double *out, struct error *err);
enum status json_get_bool(const json_t *object, const char *key, bool *out, struct error *err);
enum status json_get_string(const json_t *object, const char *key, const char **out,
                            struct error *err); /* view of the object */
enum status json_get_object(const json_t *object, const char *key, const json_t **out,
                            struct error *err); /* view of the object */

#endif
