/* A chart as plain SVG: what it shows is added, then it is drawn. Colours, dashes and marks are by
 * style number, the same for a run wherever it appears (report.css has the colours). Everything
 * given is copied.
 */
#ifndef TRACES_RESULTS_CHART_H
#define TRACES_RESULTS_CHART_H

#include "base/strbuf.h"
#include "traces/results/scale.h"

enum chart_kind {
    CHART_LINE,     /* x[], y[] in order of x; NAN in y: a gap */
    CHART_STAIRS,   /* the same, level until the next x */
    CHART_DOTS,     /* x[], y[] */
    CHART_BAND,     /* x[], from y[] to z[]; NAN: a gap */
    CHART_INTERVAL, /* x[0] .. x[2] around x[1] at y[0]: a whisker */
    CHART_X_LIMIT,  /* a line across at x[0] */
    CHART_Y_LIMIT,  /* a line across at y[0] */
    CHART_HOVER,    /* nothing but a title, over the whole height from x[0] to x[1] */
};

struct chart_item {
    enum chart_kind kind;
    int style;  /* 0 .. */
    char *name; /* in titles; of a limit: its label */
    size_t count;
    double *x, *y, *z; /* [count] or NULL */
};

struct chart {
    const char *title; /* for who does not see it */
    const char *x_label, *y_label;
    enum scale_unit x_unit, y_unit;
    bool x_log;
    bool y_zero;                         /* the axis begins at 0 */
    double x_low, x_high, y_low, y_high; /* both equal: by what is shown */
    struct chart_item *items;            /* [item_count] */
    size_t item_count, item_capacity;
};

/* Of x, y and z, those that the kind has no use for are NULL. */
void chart_add(struct chart *chart, enum chart_kind kind, int style, const char *name, size_t count,
               const double *x, const double *y, const double *z);
void chart_limit(struct chart *chart, enum chart_kind kind, double at, const char *label);

void chart_draw(const struct chart *chart, struct strbuf *out);
void chart_free(struct chart *chart);

/* Horizontal bars, one a run, with the value written beside it. */
struct chart_bar {
    const char *name;
    int style;
    double value;     /* NAN: "-" */
    double low, high; /* an interval; both equal: none */
};
void bars_draw(const char *title, enum scale_unit unit, double limit /* NAN: none */,
               const struct chart_bar *bars, size_t count, struct strbuf *out);

/* The mark of a style, for legends: an SVG of its own. */
void chart_key(int style, struct strbuf *out);

#endif
