#include "traces/results/chart.h"

#include "base/base.h"
#include "traces/results/chart_draw.h"
#include "traces/results/html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH  420
#define HEIGHT 262
#define TOP    26 /* the label of y stands above */
#define RIGHT  16
#define BOTTOM 42

static double *copy(const double *values, size_t count)
{
    if (!values) return NULL;
    double *own = must_alloc((count + 1) * sizeof *own);
    if (count) memcpy(own, values, count * sizeof *own);
    return own;
}

void chart_add(struct chart *chart, enum chart_kind kind, int style, const char *name, size_t count,
               const double *x, const double *y, const double *z)
{
    if (chart->item_count == chart->item_capacity) {
        chart->item_capacity = chart->item_capacity * 2 + 16;
        chart->items = must_realloc(chart->items, chart->item_capacity * sizeof *chart->items);
    }
    chart->items[chart->item_count++] = (struct chart_item){
        .kind = kind,
        .style = style,
        .name = must_strdup(name ? name : ""),
        .count = count,
        .x = copy(x, count),
        .y = copy(y, count),
        .z = copy(z, count),
    };
}

void chart_limit(struct chart *chart, enum chart_kind kind, double at, const char *label)
{
    chart_add(chart, kind, 0, label, 1, kind == CHART_X_LIMIT ? &at : NULL,
              kind == CHART_X_LIMIT ? NULL : &at, NULL);
}

void chart_free(struct chart *chart)
{
    for (size_t i = 0; i < chart->item_count; i++) {
        free(chart->items[i].name);
        free(chart->items[i].x);
        free(chart->items[i].y);
        free(chart->items[i].z);
    }
    free(chart->items);
    chart->items = NULL;
    chart->item_count = chart->item_capacity = 0;
}

static void widen(struct scale *scale, const double *values, size_t count)
{
    for (size_t i = 0; values && i < count; i++) {
        if (!isfinite(values[i])) continue;
        if (scale->log && values[i] <= 0) continue;
        scale->low = fmin(scale->low, values[i]);
        scale->high = fmax(scale->high, values[i]);
    }
}

/* What is below a given end is drawn at it. */
static void set_scales(const struct chart *chart, struct scale *x, struct scale *y)
{
    *x = (struct scale){chart->x_unit, chart->x_log, INFINITY, -INFINITY, 0, 0};
    *y = (struct scale){chart->y_unit, false, INFINITY, -INFINITY, 0, 0};
    for (size_t i = 0; i < chart->item_count; i++) {
        const struct chart_item *item = &chart->items[i];
        widen(x, item->x, item->count);
        widen(y, item->y, item->count);
        widen(y, item->z, item->count);
    }
    if (chart->y_zero && y->low > 0 && y->low < INFINITY) y->low = 0;
    bool x_given = chart->x_low < chart->x_high, y_given = chart->y_low < chart->y_high;
    if (x_given) {
        x->low = chart->x_low;
        x->high = chart->x_high;
    }
    if (y_given) {
        y->low = chart->y_low;
        y->high = chart->y_high;
    }
    scale_fit(x, x->log);
    scale_fit(y, !y_given);
}

/* The left margin is as wide as the widest label of y. */
static double left_margin(const struct tick *ticks, size_t count)
{
    size_t longest = 1;
    for (size_t i = 0; i < count; i++)
        if (strlen(ticks[i].text) > longest) longest = strlen(ticks[i].text);
    return 14 + CHARACTER_WIDTH * (double)longest;
}

static void draw_y_axis(const struct drawing *d, const struct tick *ticks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double at = scale_pixel(&d->y, ticks[i].value);
        strbuf_format(d->out, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n", d->x.at_low, at,
                      d->x.at_high);
        strbuf_format(d->out, "<text class=\"tick end\" x=\"%.1f\" y=\"%.1f\">", d->x.at_low - 7,
                      at + 4);
        html_text(d->out, ticks[i].text);
        strbuf_text(d->out, "</text>\n");
    }
    strbuf_text(d->out, "<text class=\"label\" x=\"2\" y=\"13\">");
    html_text(d->out, d->chart->y_label);
    strbuf_text(d->out, "</text>\n");
}

struct room { /* taken by labels of x */
    double from[SCALE_TICKS], to[SCALE_TICKS];
    size_t count;
};

/* false: it would touch another label, or leave the picture. */
static bool take_room(struct room *room, double from, double to)
{
    const double gap = 12;
    if (from < 0 || to > WIDTH) return false;
    for (size_t i = 0; i < room->count; i++)
        if (from < room->to[i] + gap && to > room->from[i] - gap) return false;
    room->from[room->count] = from;
    room->to[room->count++] = to;
    return true;
}

static void draw_x_labels(const struct drawing *d, const struct tick *ticks, size_t count,
                          bool strong, struct room *room)
{
    for (size_t i = 0; i < count; i++) {
        double at = scale_pixel(&d->x, ticks[i].value);
        double half = CHARACTER_WIDTH * (double)strlen(ticks[i].text) / 2;
        if (!ticks[i].labelled || ticks[i].strong != strong) continue;
        if (!take_room(room, at - half, at + half)) continue;
        strbuf_format(d->out, "<text class=\"tick middle\" x=\"%.1f\" y=\"%.1f\">", at,
                      d->y.at_low + 16);
        html_text(d->out, ticks[i].text);
        strbuf_text(d->out, "</text>\n");
    }
}

static void draw_x_axis(const struct drawing *d)
{
    struct tick ticks[SCALE_TICKS];
    struct room room = {.count = 0};
    size_t count = scale_ticks(&d->x, d->x.log ? 5 : 7, ticks);
    for (size_t i = 0; i < count; i++)
        strbuf_format(d->out, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>\n",
                      scale_pixel(&d->x, ticks[i].value), d->y.at_low, d->y.at_high);
    draw_x_labels(d, ticks, count, true, &room);
    draw_x_labels(d, ticks, count, false, &room);
    strbuf_format(d->out, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", d->x.at_low,
                  d->y.at_low, d->x.at_high);
    strbuf_format(d->out, "<text class=\"label middle\" x=\"%.1f\" y=\"%d\">",
                  (d->x.at_low + d->x.at_high) / 2, HEIGHT - 6);
    html_text(d->out, d->chart->x_label);
    strbuf_text(d->out, "</text>\n");
}

void chart_draw(const struct chart *chart, struct strbuf *out)
{
    struct drawing d = {.out = out, .chart = chart};
    struct tick ticks[SCALE_TICKS];
    set_scales(chart, &d.x, &d.y);
    d.y.at_low = HEIGHT - BOTTOM;
    d.y.at_high = TOP;
    size_t count = scale_ticks(&d.y, 5, ticks);
    d.x.at_low = left_margin(ticks, count);
    d.x.at_high = WIDTH - RIGHT;

    strbuf_format(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    html_text(out, chart->title);
    strbuf_text(out, "\">\n");
    draw_y_axis(&d, ticks, count);
    draw_x_axis(&d);
    draw_items(&d);
    strbuf_text(out, "</svg>\n");
}
