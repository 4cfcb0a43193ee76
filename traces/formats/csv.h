/* Fields of a CSV line and the values that the trace formats have in them.
 */
#ifndef TRACES_FORMATS_CSV_H
#define TRACES_FORMATS_CSV_H

#include "traces/formats/format.h"

#define CSV_MAX_FIELDS 16

struct csv_field {
    const char *text; /* without quotes around it */
    size_t length;
};

/* Number of fields, CSV_MAX_FIELDS + 1 when there are more. A field in quotes ends at the next one:
 * no format here has quotes inside. */
int csv_split(const struct line *line, struct csv_field fields[CSV_MAX_FIELDS]);

/* The place of the column with this name, whatever its case; -1: none. */
int csv_find(const struct csv_field *fields, int count, const char *name);

/* Digits, and a fraction of zeros as pandas writes one. */
bool csv_is_whole(struct csv_field field);
/* Whole, from `least` to TRACE_MAX_TOKENS. false: the error says what `column` has. */
bool csv_count(struct csv_field field, const char *column, int32_t least, int32_t *out,
               struct error *err);
/* A number of seconds, 0 to TRACE_MAX_MS / 1000. */
bool csv_seconds(struct csv_field field, const char *column, double *out, struct error *err);
/* "2023-11-16 18:15:46.6805900", with 'T' for the blank, any fraction or none, and "Z" or an
 * offset such as +00:00 behind it: in units of 100 ns since the year 0. */
bool csv_time(struct csv_field field, const char *column, int64_t *ticks, struct error *err);
bool csv_is_time(struct csv_field field);

#endif
