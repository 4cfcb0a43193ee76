/* Values of a JSON line, with messages that name them.
 */
#ifndef TRACES_FORMATS_JSON_VALUES_H
#define TRACES_FORMATS_JSON_VALUES_H

#include "traces/formats/format.h"

/* The object on the line; NULL: the error says what is there instead. Caller frees. */
json_t *json_line(const struct line *line, struct error *err);

/* Why a text is no JSON, in words of the format, not of the library. A view of `problem`, or a
 * constant. */
const char *json_problem(const json_error_t *problem);

/* What a message shows of a value; "nothing" for NULL. */
struct shown show_value(const json_t *value);

/* An integer, or a real without a fraction. */
bool json_whole(const json_t *value, int64_t *number);

/* A value's place in the object, for messages: "stages", 1, 2 is stages[1][2]; -1: no index. */
struct json_place {
    const char *name;
    int64_t first, second;
};
#define JSON_KEY(name)  \
    (struct json_place) \
    {                   \
        (name), -1, -1  \
    }

/* Whole, from `least` to TRACE_MAX_TOKENS. false: the error says what is there. */
bool json_count(const json_t *value, int64_t least, struct json_place place, int32_t *out,
                struct error *err);
/* 0 to TRACE_MAX_MS. */
bool json_ms(const json_t *value, const char *where, double *out, struct error *err);

#endif
