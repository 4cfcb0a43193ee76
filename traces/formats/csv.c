#include "traces/formats/csv.h"
#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

int csv_split(const struct line *line, struct csv_field fields[CSV_MAX_FIELDS])
{
    const char *at = line->text, *end = line->text + line->length;
    for (int count = 0;; count++) {
        bool quoted = at < end && *at == '"';
        const char *close = quoted ? memchr(at + 1, '"', (size_t)(end - at - 1)) : NULL;
        const char *from = close ? close : at;
        const char *comma = memchr(from, ',', (size_t)(end - from));
        const char *stop = comma ? comma : end;
        if (count == CSV_MAX_FIELDS) return count + 1;
        fields[count] = (struct csv_field){at, (size_t)(stop - at)};
        if (close && close + 1 == stop)
            fields[count] = (struct csv_field){at + 1, (size_t)(close - at - 1)};
        if (!comma) return count + 1;
        at = comma + 1;
    }
}

int csv_find(const struct csv_field *fields, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (fields[i].length == strlen(name) && !strncasecmp(fields[i].text, name, strlen(name)))
            return i;
    return -1;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The digits in front; how many there are. */
static size_t leading_digits(const char *text, size_t length)
{
    size_t count = 0;
    while (count < length && is_digit(text[count]))
        count++;
    return count;
}

bool csv_is_whole(struct csv_field field)
{
    size_t digits = leading_digits(field.text, field.length), i = digits;
    if (digits == 0) return false;
    if (i < field.length && field.text[i++] != '.') return false;
    for (; i < field.length; i++)
        if (field.text[i] != '0') return false;
    return true;
}

bool csv_count(struct csv_field field, const char *column, int32_t least, int32_t *out,
               struct error *err)
{
    int64_t number = 0;
    bool good = csv_is_whole(field);
    for (size_t i = 0; good && i < field.length && field.text[i] != '.'; i++) {
        number = number * 10 + (field.text[i] - '0');
        good = number <= TRACE_MAX_TOKENS;
    }
    if (good && number >= least) {
        *out = (int32_t)number;
        return true;
    }
    fail(err, ST_INVALID, "%s: found %s, expected a whole number from %d to %d", column,
         show_text(field.text, field.length).text, least, TRACE_MAX_TOKENS);
    return false;
}

/* strtod, without its blanks, signs in front, hexadecimal and names of numbers. */
static bool parse_real(struct csv_field field, double *number)
{
    char text[40], *end;
    if (field.length == 0 || field.length >= sizeof text || !is_digit(field.text[0])) return false;
    memcpy(text, field.text, field.length);
    text[field.length] = 0;
    if (strspn(text, "0123456789.eE+-") != field.length) return false;
    *number = strtod(text, &end);
    return !*end;
}

bool csv_seconds(struct csv_field field, const char *column, double *out, struct error *err)
{
    double seconds;
    if (parse_real(field, &seconds) && seconds <= TRACE_MAX_MS / 1000) {
        *out = seconds;
        return true;
    }
    fail(err, ST_INVALID, "%s: found %s, expected a number of seconds from 0 to %.13g", column,
         show_text(field.text, field.length).text, TRACE_MAX_MS / 1000);
    return false;
}

/* --- times */

struct cursor {
    const char *at, *end;
    bool good;
};

/* A number of exactly `digits` digits within [least, most]. */
static int take_number(struct cursor *c, int digits, int least, int most)
{
    int number = 0;
    for (int i = 0; i < digits; i++, c->at++) {
        c->good = c->good && c->at < c->end && is_digit(*c->at);
        if (!c->good) return least;
        number = number * 10 + (*c->at - '0');
    }
    c->good = number >= least && number <= most;
    return c->good ? number : least;
}

static void take_one_of(struct cursor *c, const char *allowed)
{
    c->good = c->good && c->at < c->end && *c->at && strchr(allowed, *c->at);
    c->at += c->good;
}

static bool at_one_of(const struct cursor *c, const char *allowed)
{
    return c->good && c->at < c->end && *c->at && strchr(allowed, *c->at);
}

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t days_before(int year, int month)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    int64_t past = year - 1; /* whole years */
    int64_t days = 365 * past + past / 4 - past / 100 + past / 400;
    return days + before[month - 1] + (month > 2 && is_leap(year));
}

static int64_t take_date(struct cursor *c)
{
    int year = take_number(c, 4, 1, 9999);
    take_one_of(c, "-");
    int month = take_number(c, 2, 1, 12);
    take_one_of(c, "-");
    int64_t before = days_before(year, month);
    int64_t next = month == 12 ? days_before(year + 1, 1) : days_before(year, month + 1);
    return before + take_number(c, 2, 1, (int)(next - before)) - 1;
}

/* ".6805900": in 100 ns, further digits are cut. */
static int64_t take_fraction(struct cursor *c)
{
    int64_t ticks = 0, unit = 1000000;
    if (!at_one_of(c, ".")) return 0;
    c->at++;
    c->good = at_one_of(c, "0123456789");
    for (; at_one_of(c, "0123456789"); c->at++, unit /= 10)
        ticks += (*c->at - '0') * unit;
    return ticks;
}

/* Seconds that the clock shown is ahead of UTC. */
static int64_t take_zone(struct cursor *c)
{
    if (!c->good || c->at == c->end) return 0;
    bool behind = at_one_of(c, "-");
    take_one_of(c, "Z+-");
    if (!c->good || c->at[-1] == 'Z') return 0;
    int64_t seconds = take_number(c, 2, 0, 14) * 3600;
    if (at_one_of(c, ":")) c->at++;
    if (c->at < c->end) seconds += take_number(c, 2, 0, 59) * 60;
    return behind ? -seconds : seconds;
}

static bool parse_time(struct csv_field field, int64_t *ticks)
{
    struct cursor c = {field.text, field.text + field.length, true};
    int64_t seconds = take_date(&c) * 86400;
    take_one_of(&c, " T");
    seconds += take_number(&c, 2, 0, 23) * 3600;
    take_one_of(&c, ":");
    seconds += take_number(&c, 2, 0, 59) * 60;
    take_one_of(&c, ":");
    seconds += take_number(&c, 2, 0, 60);
    int64_t fraction = take_fraction(&c);
    seconds -= take_zone(&c);
    *ticks = seconds * 10000000 + fraction;
    return c.good && c.at == c.end;
}

bool csv_is_time(struct csv_field field)
{
    int64_t ticks;
    return parse_time(field, &ticks);
}

bool csv_time(struct csv_field field, const char *column, int64_t *ticks, struct error *err)
{
    if (parse_time(field, ticks)) return true;
    fail(err, ST_INVALID, "%s: found %s, expected a time such as 2023-11-16 18:15:46.6805900",
         column, show_text(field.text, field.length).text);
    return false;
}
