/* Lines, bands, dots and limits of a chart. */
#include "traces/results/chart_draw.h"

#include "base/base.h"
#include "traces/results/html.h"

#include <math.h>
#include <string.h>

#define COLOURS 8

void draw_class(struct strbuf *out, const char *kind, int style)
{
    strbuf_format(out, "class=\"%s s%d", kind, style % COLOURS);
    if (style >= COLOURS) strbuf_format(out, " d%d", style / COLOURS % 3);
    strbuf_text(out, "\"");
}

static void draw_title(struct strbuf *out, const char *title)
{
    if (!*title) return;
    strbuf_text(out, "<title>");
    html_text(out, title);
    strbuf_text(out, "</title>");
}

void draw_dot(struct strbuf *out, int style, double x, double y, const char *title)
{
    static const char *const shapes[] = {
        "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",    /* circle */
        "m-3.5-3.5h7v7h-7z",                     /* square */
        "m0-4.6l4.4 8h-8.8z",                    /* triangle */
        "m0-5l5 5l-5 5l-5-5z",                   /* diamond */
        "m0 4.6l4.4-8h-8.8z",                    /* triangle, down */
        "m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", /* plus */
    };
    strbuf_text(out, "<path ");
    draw_class(out, "dot", style);
    strbuf_format(out, " d=\"M%.1f %.1f%s\">", x, y, shapes[(size_t)style % COUNT_OF(shapes)]);
    draw_title(out, title);
    strbuf_text(out, "</path>\n");
}

static void point_title(const struct drawing *d, const struct chart_item *item, size_t i,
                        struct strbuf *title)
{
    char x[64], y[64];
    scale_value_text(d->chart->x_unit, item->x[i], x, sizeof x);
    scale_value_text(d->chart->y_unit, item->y[i], y, sizeof y);
    strbuf_clear(title);
    strbuf_format(title, "%s\n%s: %s\n%s: %s", item->name, d->chart->x_label, x, d->chart->y_label,
                  y);
}

static void draw_dots(const struct drawing *d, const struct chart_item *item)
{
    struct strbuf title = {0};
    for (size_t i = 0; i < item->count; i++) {
        if (!isfinite(item->x[i]) || !isfinite(item->y[i])) continue;
        point_title(d, item, i, &title);
        draw_dot(d->out, item->style, scale_pixel(&d->x, item->x[i]),
                 scale_pixel(&d->y, item->y[i]), strbuf_cstr(&title));
    }
    strbuf_free(&title);
}

/* Points of one pixel column: only the first, the least, the largest and the last can be seen. */
struct column {
    double x, first, low, high, last;
    bool any;
};

static void flush_column(struct strbuf *out, const struct column *c, bool *drawing)
{
    if (!c->any) return;
    strbuf_format(out, "%c%.1f %.1f", *drawing ? 'L' : 'M', c->x, c->first);
    if (c->low < fmin(c->first, c->last)) strbuf_format(out, "V%.1f", c->low);
    if (c->high > fmax(c->first, c->last)) strbuf_format(out, "V%.1f", c->high);
    if (c->last != c->first || !*drawing) strbuf_format(out, "V%.1f", c->last);
    *drawing = true;
}

static void draw_line(const struct drawing *d, const struct chart_item *item)
{
    bool drawing = false, stairs = item->kind == CHART_STAIRS;
    struct column c = {0};
    strbuf_text(d->out, "<path ");
    draw_class(d->out, "line", item->style);
    strbuf_text(d->out, " d=\"");
    for (size_t i = 0; i < item->count; i++) {
        if (!isfinite(item->x[i]) || !isfinite(item->y[i])) {
            flush_column(d->out, &c, &drawing);
            c.any = drawing = false;
            continue;
        }
        double x = scale_pixel(&d->x, item->x[i]), y = scale_pixel(&d->y, item->y[i]);
        if (c.any && x - c.x < 0.5) {
            c.low = fmin(c.low, y);
            c.high = fmax(c.high, y);
            c.last = y;
            continue;
        }
        flush_column(d->out, &c, &drawing);
        if (stairs && c.any) strbuf_format(d->out, "H%.1f", x);
        c = (struct column){x, y, y, y, y, true};
    }
    flush_column(d->out, &c, &drawing);
    strbuf_text(d->out, "\"/>\n");
}

/* There along the upper edge, back along the lower one. */
static void draw_band(const struct drawing *d, const struct chart_item *item)
{
    strbuf_text(d->out, "<path ");
    draw_class(d->out, "band", item->style);
    strbuf_text(d->out, " d=\"");
    for (size_t begin = 0, end; begin < item->count; begin = end + 1) {
        for (end = begin; end < item->count && isfinite(item->y[end]); end++)
            strbuf_format(d->out, "%c%.1f %.1f", end == begin ? 'M' : 'L',
                          scale_pixel(&d->x, item->x[end]), scale_pixel(&d->y, item->z[end]));
        for (size_t i = end; i-- > begin;)
            strbuf_format(d->out, "L%.1f %.1f", scale_pixel(&d->x, item->x[i]),
                          scale_pixel(&d->y, item->y[i]));
        if (end > begin) strbuf_char(d->out, 'z');
    }
    strbuf_text(d->out, "\"/>\n");
}

static void draw_interval(const struct drawing *d, const struct chart_item *item)
{
    double low = scale_pixel(&d->x, item->x[0]), at = scale_pixel(&d->x, item->x[1]);
    double high = scale_pixel(&d->x, item->x[2]), y = scale_pixel(&d->y, item->y[0]);
    strbuf_text(d->out, "<path ");
    draw_class(d->out, "whisker", item->style);
    strbuf_format(d->out, " d=\"M%.1f %.1fv10M%.1f %.1fv10M%.1f %.1fH%.1f\"/>\n", low, y - 5, high,
                  y - 5, low, y, high);
    draw_dot(d->out, item->style, at, y, item->name);
}

static void draw_limit(const struct drawing *d, const struct chart_item *item)
{
    strbuf_text(d->out, "<path class=\"limit\" d=\"");
    if (item->kind == CHART_X_LIMIT)
        strbuf_format(d->out, "M%.1f %.1fV%.1f", scale_pixel(&d->x, item->x[0]), d->y.at_low,
                      d->y.at_high);
    else
        strbuf_format(d->out, "M%.1f %.1fH%.1f", d->x.at_low, scale_pixel(&d->y, item->y[0]),
                      d->x.at_high);
    strbuf_text(d->out, "\"/>\n");
}

/* Beside the line, on the side where there is room; after everything that could cover it. */
static void draw_limit_label(const struct drawing *d, const struct chart_item *item)
{
    bool left = false;
    double x = d->x.at_low + 5, y = d->y.at_low - 7;
    if (item->kind == CHART_X_LIMIT) {
        double at = scale_pixel(&d->x, item->x[0]);
        double width = CHARACTER_WIDTH * (double)strlen(item->name) + 6;
        left = at + width > d->x.at_high && at - width > d->x.at_low;
        x = left ? at - 5 : at + 5;
    } else {
        double at = scale_pixel(&d->y, item->y[0]);
        y = at - d->y.at_high < 16 ? at + 14 : at - 5;
    }
    strbuf_format(d->out, "<text class=\"limit-label%s\" x=\"%.1f\" y=\"%.1f\">",
                  left ? " end" : "", x, y);
    html_text(d->out, item->name);
    strbuf_text(d->out, "</text>\n");
}

static void draw_hover(const struct drawing *d, const struct chart_item *item)
{
    double from = scale_pixel(&d->x, item->x[0]), to = scale_pixel(&d->x, item->x[1]);
    strbuf_format(d->out, "<path class=\"hover\" d=\"M%.1f %.1fV%.1fH%.1fV%.1fz\">", from,
                  d->y.at_low, d->y.at_high, to, d->y.at_low);
    draw_title(d->out, item->name);
    strbuf_text(d->out, "</path>\n");
}

/* From the back to the front: limits do not hide behind bands, nor dots behind lines. */
void draw_items(const struct drawing *d)
{
    static const struct {
        enum chart_kind kind;
        void (*draw)(const struct drawing *, const struct chart_item *);
    } order[] = {
        {CHART_BAND, draw_band},           {CHART_X_LIMIT, draw_limit},
        {CHART_Y_LIMIT, draw_limit},       {CHART_STAIRS, draw_line},
        {CHART_LINE, draw_line},           {CHART_DOTS, draw_dots},
        {CHART_INTERVAL, draw_interval},   {CHART_X_LIMIT, draw_limit_label},
        {CHART_Y_LIMIT, draw_limit_label}, {CHART_HOVER, draw_hover},
    };
    for (size_t o = 0; o < COUNT_OF(order); o++)
        for (size_t i = 0; i < d->chart->item_count; i++)
            if (d->chart->items[i].kind == order[o].kind) order[o].draw(d, &d->chart->items[i]);
}

void chart_key(int style, struct strbuf *out)
{
    strbuf_text(out, "<svg class=\"key\" viewBox=\"0 0 26 12\" aria-hidden=\"true\"><path ");
    draw_class(out, "line", style);
    strbuf_text(out, " d=\"M1 6H25\"/>");
    draw_dot(out, style, 13, 6, "");
    strbuf_text(out, "</svg>");
}
