#include "base/options.h"
#include "base/base.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {
    {"KiB", (int64_t)1 << 10},
    {"MiB", (int64_t)1 << 20},
    {"GiB", (int64_t)1 << 30},
};
static const struct unit time_units[] = {
    {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}};
#define SHOWN_UNITS 3 /* a limit is shown in one of the first three */

/* "1.5GiB" with one of `units`; a bare number takes `bare` (0: a unit is required). False when it
 * is no such thing, is negative, or leaves int64_t. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t count, int64_t bare,
                            int64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9') return false; /* no sign, no "inf", no leading space */
    if (text[0] == '0' && (text[1] | 32) == 'x') return false;
    double number = strtod(text, &end);
    int64_t factor = *end ? 0 : bare;
    for (size_t i = 0; i < count; i++)
        if (!strcmp(end, units[i].name)) factor = units[i].factor;
    double value = number * (double)factor;
    if (!factor || !(value < 0x1p63) || (factor == 1 && value != floor(value))) return false;
    *out = (int64_t)llround(value);
    return true;
}

enum status parse_size(const char *text, int64_t *bytes, struct error *err)
{
    if (parse_with_unit(text, size_units, COUNT_OF(size_units), 1, bytes)) return ST_OK;
    return fail(err, ST_INVALID, "found '%s', allowed is a size such as 65536, 64KiB, 512MiB, 2GiB",
                text);
}

enum status parse_time(const char *text, int64_t *us, struct error *err)
{
    bool zero = !strcmp(text, "0"); /* the one time that means the same in every unit */
    if (parse_with_unit(text, time_units, COUNT_OF(time_units), zero, us)) return ST_OK;
    return fail(err, ST_INVALID,
                "found '%s', allowed is a time with its unit such as 500us, 250ms, 2s, 5m, 1h",
                text);
}

static bool parse_integer(const char *text, size_t length, int64_t *out)
{
    char digits[32], *end;
    if (length == 0 || length >= sizeof digits) return false;
    memcpy(digits, text, length);
    digits[length] = 0;
    if (digits[0] != '-' && (digits[0] < '0' || digits[0] > '9')) return false;
    errno = 0;
    *out = strtoll(digits, &end, 10);
    return errno == 0 && end == digits + length;
}

/* The number as the user would write it: 64MiB, 250ms, 7. */
static const char *show(enum option_type type, int64_t value, char buffer[32])
{
    const struct unit *units = type == OPT_SIZE ? size_units : time_units;
    size_t count = type == OPT_SIZE || type == OPT_TIME ? SHOWN_UNITS : 0;
    while (count > 0 && (value == 0 || value % units[count - 1].factor))
        count--;
    snprintf(buffer, 32, "%lld%s", (long long)(count ? value / units[count - 1].factor : value),
             count ? units[count - 1].name : "");
    return buffer;
}

static enum status check_range(const struct option_spec *option, int64_t value, const char *text,
                               struct error *err)
{
    char low[32], high[32];
    if (!option->minimum && !option->maximum) return ST_OK;
    if (value >= option->minimum && value <= option->maximum) return ST_OK;
    show(option->type, option->minimum, low);
    show(option->type, option->maximum, high);
    if (option->maximum == INT64_MAX)
        return fail(err, ST_INVALID, "found '%s', allowed is %s or more", text, low);
    return fail(err, ST_INVALID, "found '%s', allowed is %s to %s", text, low, high);
}

static enum status not_an_integer(const struct option_spec *option, const char *text,
                                  struct error *err)
{
    char low[32], high[32];
    if (!option->minimum && !option->maximum)
        return fail(err, ST_INVALID, "found '%s', allowed is an integer", text);
    show(option->type, option->minimum, low);
    show(option->type, option->maximum, high);
    return fail(err, ST_INVALID, "found '%s', allowed is an integer from %s to %s", text, low,
                high);
}

static enum status store_ints(const struct option_spec *option, const char *text, struct error *err)
{
    struct option_ints list = {0};
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        int64_t value;
        if (!parse_integer(at, length, &value))
            return fail(err, ST_INVALID, "found '%s', allowed are integers separated by commas",
                        text);
        if (list.count == COUNT_OF(list.values))
            return fail(err, ST_INVALID, "more than %zu numbers", COUNT_OF(list.values));
        enum status status = check_range(option, value, text, err);
        if (status) return status;
        list.values[list.count++] = value;
        at += length;
        if (!*at) break;
    }
    *(struct option_ints *)option->target = list;
    return ST_OK;
}

static enum status store_text(const struct option_spec *option, const char *text, struct error *err)
{
    struct option_texts *list = option->target;
    if (list->count == COUNT_OF(list->values))
        return fail(err, ST_INVALID, "given more than %zu times", COUNT_OF(list->values));
    list->values[list->count++] = text;
    return ST_OK;
}

static enum status store_real(const struct option_spec *option, const char *text, struct error *err)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return fail(err, ST_INVALID, "found '%s', allowed is a number", text);
    bool limited = option->minimum || option->maximum;
    if (limited && !(value >= (double)option->minimum && value <= (double)option->maximum))
        return fail(err, ST_INVALID, "found '%s', allowed is %lld to %lld", text,
                    (long long)option->minimum, (long long)option->maximum);
    *(double *)option->target = value;
    return ST_OK;
}

static enum status store(const struct option_spec *option, const char *text, struct error *err)
{
    int64_t value = 0;
    enum status status = ST_OK;
    switch (option->type) {
    case OPT_FLAG:
        *(bool *)option->target = true;
        return ST_OK;
    case OPT_STRING:
        *(const char **)option->target = text;
        return ST_OK;
    case OPT_REAL:
        return store_real(option, text, err);
    case OPT_INTS:
        return store_ints(option, text, err);
    case OPT_TEXTS:
        return store_text(option, text, err);
    case OPT_INT:
    case OPT_INT32:
        if (!parse_integer(text, strlen(text), &value)) status = not_an_integer(option, text, err);
        break;
    case OPT_SIZE:
        status = parse_size(text, &value, err);
        break;
    case OPT_TIME:
        status = parse_time(text, &value, err);
        break;
    }
    if (!status) status = check_range(option, value, text, err);
    if (status) return status;
    if (option->type == OPT_INT32)
        *(int32_t *)option->target = (int32_t)value;
    else
        *(int64_t *)option->target = value;
    return ST_OK;
}

/* --- --help */

static void print_option(const char *name, const char *value, const char *text, int width)
{
    char left[128];
    snprintf(left, sizeof left, "--%s%s%s", name, value ? " " : "", value ? value : "");
    printf("  %-*s  ", width, left);
    for (; *text; text++) {
        putchar(*text);
        if (*text == '\n') printf("%*s", width + 4, "");
    }
    putchar('\n');
}

static void print_help(const struct command_help *help, const struct option_spec *table,
                       size_t count)
{
    int width = (int)strlen("--help");
    for (size_t i = 0; i < count; i++) {
        if (!table[i].name) continue;
        size_t value = table[i].value ? 1 + strlen(table[i].value) : 0;
        width = max_i32(width, (int)(2 + strlen(table[i].name) + value));
    }
    printf("Example:\n  %s\n\n%s\n\nOptions of %s:\n", help->example, help->summary, help->name);
    for (size_t i = 0; i < count; i++) {
        if (table[i].name)
            print_option(table[i].name, table[i].value, table[i].help, min_i32(width, 32));
        else
            printf("\n%s\n", table[i].help);
    }
    print_option("help", NULL, "this text", min_i32(width, 32));
}

/* --- parsing */

/* Edits that turn a into b (insert, delete, replace), for "did you mean". */
static int edit_distance(const char *a, const char *b)
{
    int row[64];
    size_t columns = strlen(b);
    if (columns >= COUNT_OF(row)) return INT32_MAX;
    for (size_t j = 0; j <= columns; j++)
        row[j] = (int)j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            int replaced = diagonal + (*a != b[j - 1]);
            diagonal = row[j];
            row[j] = min_i32(min_i32(row[j] + 1, row[j - 1] + 1), replaced);
        }
    }
    return row[columns];
}

static const char *nearest(const struct option_spec *table, size_t count, const char *name)
{
    const char *best = NULL;
    int limit = 1 + (int)strlen(name) / 3; /* further away, a suggestion would be noise */
    for (size_t i = 0; i < count; i++) {
        int distance = table[i].name ? edit_distance(name, table[i].name) : INT32_MAX;
        if (distance > limit) continue;
        best = table[i].name;
        limit = distance - 1;
    }
    return best;
}

static const struct option_spec *find(const struct option_spec *table, size_t count,
                                      const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (table[i].name && strlen(table[i].name) == length &&
            !memcmp(table[i].name, name, length))
            return &table[i];
    return NULL;
}

/* True for "--name" or "--name=..." of an option in the table: such a word is never a value, or
 * "--model --json" would open a file called --json. */
static bool is_option_word(const struct option_spec *table, size_t count, const char *word)
{
    if (strncmp(word, "--", 2)) return false;
    return !strcmp(word, "--help") || find(table, count, word + 2, strcspn(word + 2, "="));
}

static int unknown_word(const struct command_help *help, const struct option_spec *table,
                        size_t count, const char *word)
{
    if (strncmp(word, "--", 2) || !word[2]) {
        bool model = find(table, count, "model", strlen("model")) && word[0] != '-';
        fprintf(stderr, "%s: found '%s' where an option was expected; %s%s\n", help->name, word,
                model ? "a model is given as --model " : "see --help", model ? word : "");
        return -1;
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const char *guess = nearest(table, count, name);
    if (guess)
        fprintf(stderr, "%s: unknown option --%s; did you mean --%s?\n", help->name, name, guess);
    else
        fprintf(stderr, "%s: unknown option --%s; see --help\n", help->name, name);
    return -1;
}

int options_parse(const struct command_help *help, const struct option_spec *table, size_t count,
                  int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            print_help(help, table, count);
            return 1;
        }
        size_t length = strncmp(word, "--", 2) ? 0 : strcspn(word + 2, "=");
        const struct option_spec *option = find(table, count, word + 2 * (length > 0), length);
        if (!option) return unknown_word(help, table, count, word);
        const char *value = word[2 + length] == '=' ? word + 3 + length : NULL;
        if (option->type == OPT_FLAG && value) {
            fprintf(stderr, "%s: --%s takes no value, found '%s'\n", help->name, option->name,
                    value);
            return -1;
        }
        if (option->type != OPT_FLAG && !value) {
            if (i + 1 == argc || is_option_word(table, count, argv[i + 1])) {
                fprintf(stderr, "%s: --%s needs a value (%s)\n", help->name, option->name,
                        option->value ? option->value : "VALUE");
                return -1;
            }
            value = argv[++i];
        }
        struct error err = {0};
        if (store(option, value, &err)) {
            fprintf(stderr, "%s: --%s: %s\n", help->name, option->name, err.text);
            return -1;
        }
    }
    return 0;
}
