/* JSON lines as programs write them, without a tree: six times as fast as jansson.
 *
 * Knows less than JSON on purpose: no escapes in strings, ASCII alone, no signs or exponents in
 * numbers. Whatever else it meets makes `good` false, and then json_values.h reads the line anew:
 * it takes all of JSON, and has the words for what is wrong. Once false, good stays false and
 * nothing is read.
 */
#ifndef TRACES_FORMATS_JSON_SCAN_H
#define TRACES_FORMATS_JSON_SCAN_H

#include "traces/formats/format.h"

struct scan {
    const char *at, *end;
    bool good;
};

struct scan scan_line(const struct line *line);
/* No array of the line has more elements. */
size_t scan_most_elements(const struct line *line);

/* The character behind blanks is this one, and is passed. */
bool scan_if(struct scan *scan, char c);
void scan_expect(struct scan *scan, char c);
void scan_end(struct scan *scan); /* nothing but blanks is left */

/* A string: a view between its quotes. */
struct scan_text {
    const char *text;
    size_t length;
};
struct scan_text scan_string(struct scan *scan);
bool scan_is(struct scan_text text, const char *word);

/* Whole numbers within [least, TRACE_MAX_TOKENS], ids up to 18 digits, times up to TRACE_MAX_MS. A
 * time has the very double that strtod gives. */
int32_t scan_count(struct scan *scan, int32_t least);
uint64_t scan_id(struct scan *scan);
double scan_ms(struct scan *scan);

/* Behind a value of an object or list: true when another follows, false at its end, `close`. */
bool scan_more(struct scan *scan, char close);

#endif
