/* Horizontal bars: a name above each, its value behind it. */
#include "traces/results/chart_draw.h"

#include "base/base.h"
#include "traces/results/html.h"

#include <math.h>

#define WIDTH      420
#define ROW        40
#define BAR        14
#define VALUE_ROOM 76 /* behind the longest bar */
#define AXIS       24

#define MIDDLE (ROW - 4 - BAR / 2)

static double bar_end(const struct scale *x, const struct chart_bar *bar)
{
    return isfinite(bar->value) ? scale_pixel(x, bar->value) : x->at_low;
}

static void draw_bar(const struct scale *x, const struct chart_bar *bar, double top,
                     struct strbuf *out)
{
    double middle = top + MIDDLE;
    strbuf_text(out, "<path ");
    draw_class(out, "bar", bar->style);
    strbuf_format(out, " d=\"M%.1f %.1fH%.1fv%dH%.1fz\"/>\n", x->at_low, middle - BAR / 2.0,
                  bar_end(x, bar), BAR, x->at_low);
    if (bar->low < bar->high) {
        double low = scale_pixel(x, bar->low), high = scale_pixel(x, bar->high);
        strbuf_format(out,
                      "<path class=\"error\" d=\"M%.1f %.1fv10M%.1f %.1fv10M%.1f %.1fH%.1f\"/>\n",
                      low, middle - 5, high, middle - 5, low, middle, high);
    }
}

static void draw_texts(const struct scale *x, const struct chart_bar *bar, double top,
                       struct strbuf *out)
{
    char value[64] = "-";
    if (isfinite(bar->value)) scale_value_text(x->unit, bar->value, value, sizeof value);
    strbuf_format(out, "<text class=\"bar-name\" x=\"1\" y=\"%.1f\">", top + 14);
    html_text(out, bar->name);
    double end = bar_end(x, bar);
    if (bar->low < bar->high) end = fmax(end, scale_pixel(x, bar->high));
    strbuf_format(out, "</text>\n<text class=\"bar-value\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                  end + 7, top + MIDDLE + 4.5, value);
}

static void draw_axis(const struct scale *x, double bottom, struct strbuf *out)
{
    struct tick ticks[SCALE_TICKS];
    size_t count = scale_ticks(x, 5, ticks);
    for (size_t i = 0; i < count; i++) {
        double at = scale_pixel(x, ticks[i].value);
        strbuf_format(out, "<path class=\"grid\" d=\"M%.1f 0V%.1f\"/>\n", at, bottom);
        strbuf_format(out, "<text class=\"tick %s\" x=\"%.1f\" y=\"%.1f\">", i ? "middle" : "start",
                      at, bottom + 16);
        html_text(out, ticks[i].text);
        strbuf_text(out, "</text>\n");
    }
}

void bars_draw(const char *title, enum scale_unit unit, double limit, const struct chart_bar *bars,
               size_t count, struct strbuf *out)
{
    struct scale x = {unit, false, 0, 0, 1, WIDTH - VALUE_ROOM};
    for (size_t i = 0; i < count; i++)
        if (isfinite(bars[i].value)) x.high = fmax(x.high, fmax(bars[i].value, bars[i].high));
    if (isfinite(limit)) x.high = fmax(x.high, limit);
    if (unit == UNIT_PERCENT) x.high = 1;
    scale_fit(&x, true);

    double bottom = ROW * (double)count;
    strbuf_format(out, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", WIDTH,
                  bottom + AXIS);
    html_text(out, title);
    strbuf_text(out, "\">\n");
    draw_axis(&x, bottom, out);
    for (size_t i = 0; i < count; i++)
        draw_bar(&x, &bars[i], ROW * (double)i, out);
    if (isfinite(limit))
        strbuf_format(out, "<path class=\"limit\" d=\"M%.1f 0V%.1f\"/>\n", scale_pixel(&x, limit),
                      bottom);
    for (size_t i = 0; i < count; i++) /* over the limit's line */
        draw_texts(&x, &bars[i], ROW * (double)i, out);
    strbuf_text(out, "</svg>\n");
}
