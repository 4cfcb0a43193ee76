/* Between chart.c (axes) and chart_items.c (what stands in them). */
#ifndef TRACES_RESULTS_CHART_DRAW_H
#define TRACES_RESULTS_CHART_DRAW_H

#include "traces/results/chart.h"

#define CHARACTER_WIDTH 6.7 /* of a digit of the ticks' text, about */

struct drawing {
    struct strbuf *out;
    const struct chart *chart;
    struct scale x, y;
};

void draw_items(const struct drawing *d);

/* class="KIND s3 d1": colour by the style, dashes when the colours are used up. */
void draw_class(struct strbuf *out, const char *kind, int style);
/* A dot of the style's shape around a pixel, `title` on hovering ("": none). */
void draw_dot(struct strbuf *out, int style, double x, double y, const char *title);

#endif
