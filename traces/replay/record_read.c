#include "traces/replay/record_file.h"
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    const char *path;
    int64_t line;
    json_t *root; /* of the line at hand */
    struct error *err;
    bool bad;
};

static void complain(struct reading *r, const char *field, const char *expected)
{
    json_t *value = json_object_get(r->root, field);
    char *found = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (!r->bad)
        fail(r->err, ST_BAD_FILE, "%s:%lld: \"%s\": found %.100s, expected %s", r->path,
             (long long)r->line, field, found ? found : "nothing", expected);
    r->bad = true;
    free(found);
}

static int64_t number(struct reading *r, const char *field, int64_t minimum, int64_t maximum)
{
    char expected[80];
    json_t *value = json_object_get(r->root, field);
    json_int_t found = json_integer_value(value);
    if (json_is_integer(value) && found >= minimum && found <= maximum) return found;
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld", (long long)minimum,
             (long long)maximum);
    complain(r, field, expected);
    return minimum;
}

static int64_t time_of(struct reading *r, const char *field)
{
    return number(r, field, 0, FLIGHT_LAST_US);
}

/* null: -1. */
static int64_t maybe(struct reading *r, const char *field, int64_t maximum)
{
    return json_is_null(json_object_get(r->root, field)) ? -1 : number(r, field, 0, maximum);
}

static const char *text(struct reading *r, const char *field)
{
    const char *found = json_string_value(json_object_get(r->root, field));
    if (!found) complain(r, field, "a string");
    return found ? found : "";
}

static json_t *list(struct reading *r, const char *field)
{
    json_t *found = json_object_get(r->root, field);
    if (!json_is_array(found)) complain(r, field, "a list");
    return found;
}

static bool small(const json_t *value, int32_t *out)
{
    json_int_t found = json_integer_value(value);
    *out = (int32_t)found;
    return json_is_integer(value) && found >= 0 && found <= INT32_MAX;
}

/* [us, stage, branch ...] with a time no earlier than `before`. */
static bool row(const json_t *value, int64_t before, int64_t *us, int32_t *stage, int32_t *branch)
{
    const json_t *time = json_array_get(value, 0);
    *us = json_integer_value(time);
    return json_is_integer(time) && *us >= before && *us <= FLIGHT_LAST_US &&
           small(json_array_get(value, 1), stage) && small(json_array_get(value, 2), branch);
}

static void read_asked(struct reading *r, struct flight *f)
{
    f->index = number(r, "index", 0, INT64_MAX);
    f->class_name = text(r, "class");
    f->branching = json_is_true(json_object_get(r->root, "branching"));
    f->prompt_tokens = (int32_t)number(r, "prompt_tokens", 0, INT32_MAX);
    f->asked_tokens = (int32_t)number(r, "asked_tokens", 0, INT32_MAX / 4);
    f->answers = (int32_t)number(r, "answers", 1, INT32_MAX);
    f->slo.ttft_us = time_of(r, "slo_ttft_us");
    f->slo.tpot_us = time_of(r, "slo_tpot_us");
    json_t *parallel = list(r, "parallel");
    f->stage_count = (int32_t)json_array_size(parallel);
    f->parallel = must_realloc(f->parallel, ((size_t)f->stage_count + 1) * sizeof *f->parallel);
    for (int32_t i = 0; i < f->stage_count; i++)
        f->parallel[i] = json_is_true(json_array_get(parallel, (size_t)i));
}

static void read_result(struct reading *r, struct flight *f)
{
    f->due_us = time_of(r, "due_us");
    f->sent_us = time_of(r, "sent_us");
    f->connected_us = maybe(r, "connected_us", FLIGHT_LAST_US);
    f->first_byte_us = maybe(r, "first_byte_us", FLIGHT_LAST_US);
    f->end_us = time_of(r, "end_us");
    f->http_status = (int)number(r, "status", 0, 999);
    f->usage_prompt = (int32_t)maybe(r, "usage_prompt", INT32_MAX);
    f->usage_completion = (int32_t)maybe(r, "usage_completion", INT32_MAX);
    f->usage_cached = (int32_t)maybe(r, "usage_cached", INT32_MAX);
    f->spread_tokens = (int32_t)number(r, "spread_tokens", 0, INT32_MAX);
    snprintf(f->reason, sizeof f->reason, "%s", text(r, "reason"));
    snprintf(f->code, sizeof f->code, "%s", text(r, "code"));
    if (!outcome_parse(text(r, "outcome"), &f->outcome))
        complain(r, "outcome", "completed, refused, failed or unfinished");
}

static void read_tokens(struct reading *r, struct flight *f)
{
    json_t *value;
    size_t i;
    int64_t us = f->sent_us;
    int32_t stage, branch;
    json_array_foreach(list(r, "tokens"), i, value)
    {
        if (row(value, us, &us, &stage, &branch) && flight_token(f, us, stage, branch, TOKEN_SURE))
            continue;
        complain(r, "tokens",
                 "[microseconds, stage, branch] in order of time, none before sent_us");
        return;
    }
}

static void read_events(struct reading *r, struct flight *f)
{
    json_t *value;
    size_t i;
    int64_t us = f->sent_us;
    int32_t stage, branch;
    json_array_foreach(list(r, "events"), i, value)
    {
        const char *kind = json_string_value(json_array_get(value, 3));
        bool fork = kind && !strcmp(kind, "fork"), join = kind && !strcmp(kind, "join");
        if ((fork || join) && row(value, us, &us, &stage, &branch) &&
            flight_event(f, us, stage, branch, fork ? BRANCH_FORK : BRANCH_JOIN))
            continue;
        complain(r, "events", "[microseconds, stage, branch, \"fork\" or \"join\"]");
        return;
    }
}

static void read_finishes(struct reading *r, struct flight *f)
{
    json_t *value;
    size_t i;
    int32_t choice;
    json_array_foreach(list(r, "finishes"), i, value)
    {
        const char *reason = json_string_value(json_array_get(value, 1));
        if (reason && small(json_array_get(value, 0), &choice) && flight_finish(f, choice, reason))
            continue;
        complain(r, "finishes", "[choice, \"reason\"]");
        return;
    }
}

static enum status take_line(struct reading *r, const struct record_reader *reader,
                             struct flight *flight, bool *headed)
{
    if (json_object_get(r->root, "espalier_replay")) {
        if (number(r, "espalier_replay", 1, 1) && r->bad) return r->err->status;
        *headed = true;
        return reader->on_header(reader->context, r->root, r->err);
    }
    if (!*headed)
        return fail(r->err, ST_BAD_FILE,
                    "%s:%lld: expected a line with \"espalier_replay\": 1 first, as "
                    "`espalier replay --record` writes it",
                    r->path, (long long)r->line);
    json_t *end = json_object_get(r->root, "end");
    if (end) return reader->on_end(reader->context, end), ST_OK;
    flight_reset(flight);
    read_asked(r, flight);
    read_result(r, flight);
    read_tokens(r, flight);
    read_events(r, flight);
    read_finishes(r, flight);
    size_t count = flight->token_count;
    if (flight->end_us < (count ? flight->tokens[count - 1].us : flight->sent_us))
        complain(r, "end_us", "none before the last token");
    if (r->bad) return r->err->status;
    reader->on_flight(reader->context, flight);
    return ST_OK;
}

/* An editor may leave a byte order mark, and empty lines. */
static enum status read_line(struct reading *r, const char *line, size_t length,
                             const struct record_reader *reader, struct flight *flight,
                             bool *headed)
{
    json_error_t problem;
    bool marked = ++r->line == 1 && length >= 3 && !memcmp(line, "\xef\xbb\xbf", 3);
    if (marked) line += 3, length -= 3;
    if (strspn(line, " \t\r\n") == length) return ST_OK;
    r->root = json_loadb(line, length, JSON_ALLOW_NUL, &problem);
    if (!r->root && line[length - 1] != '\n') {
        log_warn("%s:%lld: the last line is cut off and left out", r->path, (long long)r->line);
        return ST_OK;
    }
    if (!r->root)
        return fail(r->err, ST_BAD_FILE, "%s:%lld: no JSON object: %s (column %d)", r->path,
                    (long long)r->line, problem.text, problem.column);
    enum status status = take_line(r, reader, flight, headed);
    json_decref(r->root);
    return status;
}

static enum status read_lines(FILE *in, const char *path, const struct record_reader *reader,
                              struct error *err)
{
    struct reading r = {.path = path, .err = err};
    struct flight flight = {0};
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    bool headed = false;
    enum status status = ST_OK;
    while (!status && (length = getline(&line, &room, in)) >= 0)
        status = read_line(&r, line, (size_t)length, reader, &flight, &headed);
    if (!status && ferror(in)) status = fail(err, ST_IO, "%s: %s", path, strerror(errno));
    if (!status && !headed) status = fail(err, ST_BAD_FILE, "%s: the file has no run", path);
    flight_free(&flight);
    free(line);
    return status;
}

enum status record_file_read(const char *path, const struct record_reader *reader,
                             struct error *err)
{
    bool standard = !strcmp(path, "-");
    FILE *in = standard ? stdin : fopen(path, "re");
    if (!in) return fail(err, ST_IO, "--from: cannot open %s: %s", path, strerror(errno));
    enum status status = read_lines(in, path, reader, err);
    if (!standard) fclose(in);
    return status;
}
