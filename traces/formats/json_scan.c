#include "traces/formats/json_scan.h"
#include "base/base.h"

#include <string.h>

#define MOST_DIGITS 18 /* their number is below 2^63 */
#define EXACT       ((uint64_t)1 << 53)

struct scan scan_line(const struct line *line)
{
    return (struct scan){line->text, line->text + line->length, true};
}

size_t scan_most_elements(const struct line *line)
{
    size_t commas = 0;
    for (size_t i = 0; i < line->length; i++)
        commas += line->text[i] == ',';
    return commas + 1;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(struct scan *scan)
{
    while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\t'))
        scan->at++;
}

bool scan_if(struct scan *scan, char c)
{
    if (!scan->good) return false;
    skip_blanks(scan);
    if (scan->at == scan->end || *scan->at != c) return false;
    scan->at++;
    return true;
}

void scan_expect(struct scan *scan, char c)
{
    scan->good = scan_if(scan, c);
}

void scan_end(struct scan *scan)
{
    if (scan->good) skip_blanks(scan);
    scan->good = scan->good && scan->at == scan->end;
}

bool scan_more(struct scan *scan, char close)
{
    if (scan_if(scan, ',')) return true;
    scan_expect(scan, close);
    return false;
}

struct scan_text scan_string(struct scan *scan)
{
    scan_expect(scan, '"');
    const char *from = scan->at;
    while (scan->good && scan->at < scan->end && *scan->at != '"') {
        unsigned char c = (unsigned char)*scan->at++;
        scan->good = c >= 0x20 && c < 0x7f && c != '\\';
    }
    struct scan_text text = {from, (size_t)(scan->at - from)};
    scan_expect(scan, '"');
    return text;
}

bool scan_is(struct scan_text text, const char *word)
{
    return text.length == strlen(word) && !memcmp(text.text, word, text.length);
}

/* Digits behind blanks, at most MOST_DIGITS with those that were there; how many there are. JSON
 * has no zero in front of other digits. */
static int take_digits(struct scan *scan, uint64_t *number, int before)
{
    const char *from = scan->at;
    while (scan->at < scan->end && is_digit(*scan->at) && scan->at - from <= MOST_DIGITS)
        *number = *number * 10 + (uint64_t)(*scan->at++ - '0');
    int digits = (int)(scan->at - from);
    scan->good = scan->good && digits > 0 && before + digits <= MOST_DIGITS &&
                 (before > 0 || digits == 1 || *from != '0');
    return digits;
}

static bool number_goes_on(const struct scan *scan)
{
    return scan->at < scan->end && (*scan->at == '.' || (*scan->at | 32) == 'e');
}

uint64_t scan_id(struct scan *scan)
{
    uint64_t number = 0;
    if (!scan->good) return 0;
    skip_blanks(scan);
    take_digits(scan, &number, 0);
    scan->good = scan->good && !number_goes_on(scan);
    return number;
}

int32_t scan_count(struct scan *scan, int32_t least)
{
    uint64_t number = scan_id(scan);
    scan->good = scan->good && number >= (uint64_t)least && number <= TRACE_MAX_TOKENS;
    return scan->good ? (int32_t)number : least;
}

/* A whole number below 2^53 over a power of ten that a double holds exactly: their quotient is
 * rounded once, as strtod's. */
double scan_ms(struct scan *scan)
{
    static const double powers[] = {1,    1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                    1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
    uint64_t number = 0;
    int decimals = 0;
    if (!scan->good) return 0;
    skip_blanks(scan);
    int digits = take_digits(scan, &number, 0);
    if (scan->good && scan->at < scan->end && *scan->at == '.') {
        scan->at++;
        decimals = take_digits(scan, &number, digits);
    }
    scan->good = scan->good && !number_goes_on(scan) && number < EXACT;
    double ms = scan->good ? (double)number / powers[decimals] : 0;
    scan->good = scan->good && ms <= TRACE_MAX_MS;
    return ms;
}
