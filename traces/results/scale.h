/* An axis of a chart: from values to pixels, and where its ticks are. */
#ifndef TRACES_RESULTS_SCALE_H
#define TRACES_RESULTS_SCALE_H

#include <stdbool.h>
#include <stddef.h>

enum scale_unit {
    UNIT_NUMBER,
    UNIT_PERCENT, /* of 1 */
    UNIT_MS,      /* shown as ms, or s from 1000 on */
};

struct scale {
    enum scale_unit unit;
    bool log;
    double low, high;       /* values, low < high; log: both > 0 */
    double at_low, at_high; /* pixels */
};

#define SCALE_TICKS 32

struct tick {
    double value;
    bool labelled; /* false: a line of the grid only */
    bool strong;   /* its label goes before others where there is no room for all */
    char text[24];
};

/* Makes low < high around values that may all be the same, or none (low > high), and, with `nice`,
 * moves both out to ticks. */
void scale_fit(struct scale *scale, bool nice);

double scale_pixel(const struct scale *scale, double value);

/* At most SCALE_TICKS; about `most` of them have labels. */
size_t scale_ticks(const struct scale *scale, int most, struct tick *ticks);

/* One value for a title: "95.2 %", "48.1 ms", "1.52". */
void scale_value_text(enum scale_unit unit, double value, char *text, size_t size);

/* The same without zeros at the end, as limits are given: "2 s", "50 ms", "95 %". */
void scale_limit_text(enum scale_unit unit, double value, char *text, size_t size);

#endif
