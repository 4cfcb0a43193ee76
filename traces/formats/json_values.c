#include "traces/formats/json_values.h"
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *json_problem(const json_error_t *problem)
{
    if (strstr(problem->text, "JSON_ALLOW_NUL")) return "\\u0000 is not allowed in a text";
    return problem->text;
}

json_t *json_line(const struct line *line, struct error *err)
{
    json_error_t problem;
    json_t *value = json_loadb(line->text, line->length, 0, &problem);
    if (json_is_object(value)) return value;
    if (value)
        fail(err, ST_INVALID, "found %s, expected a JSON object",
             show_text(line->text, line->length).text);
    else
        fail(err, ST_INVALID, "found %s, expected a JSON object (%s at byte %d)",
             show_text(line->text, line->length).text, json_problem(&problem), problem.position);
    json_decref(value);
    return NULL;
}

struct shown show_value(const json_t *value)
{
    if (!value) return show_text("", 0);
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
    struct shown shown = show_text(text ? text : "?", text ? strlen(text) : 1);
    free(text);
    return shown;
}

bool json_whole(const json_t *value, int64_t *number)
{
    double real = json_real_value(value); /* 0 for anything else */
    if (json_is_real(value) && fabs(real) < 0x1p53 && trunc(real) == real) {
        *number = (int64_t)real;
        return true;
    }
    *number = json_integer_value(value);
    return json_is_integer(value);
}

/* The name and indices in words. */
struct place_words {
    char text[80];
};

static struct place_words show_place(struct json_place place)
{
    struct place_words words;
    char first[24] = "", second[24] = "";
    if (place.first >= 0) snprintf(first, sizeof first, "[%lld]", (long long)place.first);
    if (place.second >= 0) snprintf(second, sizeof second, "[%lld]", (long long)place.second);
    snprintf(words.text, sizeof words.text, "%.30s%s%s", place.name, first, second);
    return words;
}

bool json_count(const json_t *value, int64_t least, struct json_place place, int32_t *out,
                struct error *err)
{
    int64_t number;
    if (json_whole(value, &number) && number >= least && number <= TRACE_MAX_TOKENS) {
        *out = (int32_t)number;
        return true;
    }
    fail(err, ST_INVALID, "%s: found %s, expected a whole number from %lld to %d",
         show_place(place).text, show_value(value).text, (long long)least, TRACE_MAX_TOKENS);
    return false;
}

bool json_ms(const json_t *value, const char *where, double *out, struct error *err)
{
    double ms = json_number_value(value);
    if (json_is_number(value) && ms >= 0 && ms <= TRACE_MAX_MS) {
        *out = ms;
        return true;
    }
    fail(err, ST_INVALID, "%s: found %s, expected a number from 0 to %.13g", where,
         show_value(value).text, TRACE_MAX_MS);
    return false;
}
