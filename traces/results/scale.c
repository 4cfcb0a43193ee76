#include "traces/results/scale.h"

#include "traces/results/rows.h"

#include <math.h>
#include <stdio.h>

/* 1, 2, 2.5 or 5 times a power of ten, at least `least`. */
static double nice_step(double least)
{
    double power = pow(10, floor(log10(least)));
    static const double factors[] = {1, 2, 2.5, 5, 10};
    for (int i = 0; i < 5; i++)
        if (factors[i] * power >= least * (1 - 1e-9)) return factors[i] * power;
    return 10 * power;
}

#define LINEAR_TICKS 5

static double linear_step(const struct scale *scale, int most)
{
    return nice_step((scale->high - scale->low) / most);
}

static void fit_log(struct scale *scale)
{
    if (scale->low > scale->high) scale->low = scale->high = 1;
    if (scale->low <= 0) scale->low = scale->high > 1e-3 ? 1e-3 : 1e-6;
    if (scale->high < scale->low) scale->high = scale->low;
    if (scale->high / scale->low < 2) {
        double middle = sqrt(scale->low * scale->high);
        scale->low = middle / 2;
        scale->high = middle * 2;
    }
}

static void fit_linear(struct scale *scale)
{
    if (scale->low > scale->high) {
        scale->low = 0;
        scale->high = 1;
    }
    if (scale->high - scale->low < 1e-9 * fmax(fabs(scale->high), 1e-9)) {
        double margin = scale->high != 0 ? fabs(scale->high) / 2 : 0.5;
        scale->low -= scale->low > 0 && scale->low < margin ? scale->low : margin;
        scale->high += margin;
    }
}

/* The nearest 1, 2 or 5 times a power of ten that is not above (up: not below) `value`. */
static double nice_bound(double value, bool up)
{
    double power = pow(10, floor(log10(value) + 1e-9));
    static const double factors[] = {1, 2, 5, 10};
    double below = power;
    for (int i = 0; i < 4; i++) {
        if (factors[i] * power >= value * (1 - 1e-9) && up) return factors[i] * power;
        if (factors[i] * power <= value * (1 + 1e-9)) below = factors[i] * power;
    }
    return below;
}

void scale_fit(struct scale *scale, bool nice)
{
    if (scale->log) {
        fit_log(scale);
        if (!nice) return;
        scale->low = nice_bound(scale->low, false);
        scale->high = nice_bound(scale->high, true);
        return;
    }
    fit_linear(scale);
    if (!nice) return;
    double step = linear_step(scale, LINEAR_TICKS);
    scale->low = floor(scale->low / step + 1e-9) * step;
    scale->high = ceil(scale->high / step - 1e-9) * step;
}

double scale_pixel(const struct scale *scale, double value)
{
    double share = scale->log
                       ? log(fmax(value, scale->low) / scale->low) / log(scale->high / scale->low)
                       : (value - scale->low) / (scale->high - scale->low);
    share = fmin(fmax(share, 0), 1);
    return scale->at_low + share * (scale->at_high - scale->at_low);
}

static void thousands_text(double value, int decimals, char *text, size_t size)
{
    if (fabs(value) >= 1e6)
        snprintf(text, size, "%gM", value / 1e6);
    else if (fabs(value) >= 1e4)
        snprintf(text, size, "%gk", value / 1e3);
    else
        snprintf(text, size, "%.*f", decimals, value);
}

/* Of a value that is a multiple of `step`. */
static void tick_text(enum scale_unit unit, double value, double step, char *text, size_t size)
{
    double shown = unit == UNIT_PERCENT ? step * 100 : step;
    int decimals = 0;
    while (decimals < 6 && fabs(shown - round(shown)) > 1e-6 * shown) {
        shown *= 10;
        decimals++;
    }
    if (unit == UNIT_PERCENT)
        snprintf(text, size, "%.*f %%", decimals, 100 * value);
    else if (unit == UNIT_MS && value >= 1000)
        snprintf(text, size, "%g s", value / 1000);
    else if (unit == UNIT_MS)
        snprintf(text, size, "%.*f ms", value == 0 ? 0 : decimals, value);
    else
        thousands_text(value, decimals, text, size);
}

static size_t linear_ticks(const struct scale *scale, int most, struct tick *ticks)
{
    double step = linear_step(scale, most);
    size_t count = 0;
    for (double i = ceil(scale->low / step - 1e-9); i * step <= scale->high + 1e-9 * step; i++) {
        if (count == SCALE_TICKS) break;
        double value = i == 0 ? 0 : i * step;
        ticks[count].value = value;
        ticks[count].labelled = ticks[count].strong = true;
        tick_text(scale->unit, value, step, ticks[count].text, sizeof ticks[count].text);
        count++;
    }
    return count;
}

/* Which multiples of a power of ten get a label, by how many decades are shown for each label. */
static bool log_labelled(int factor, int decade, double decades, int most)
{
    if (decades <= 1) return factor <= 5 || factor == 7;
    if (3 * decades <= most + 1) return factor == 1 || factor == 2 || factor == 5;
    if (2 * decades <= most) return factor == 1 || factor == 5;
    int every = (int)fmax(1, ceil(decades / most));
    return factor == 1 && decade % every == 0;
}

/* All nine multiples within one decade, else 1, 2 and 5 of each; of many decades the labelled. */
static size_t log_ticks(const struct scale *scale, int most, struct tick *ticks)
{
    double decades = log10(scale->high / scale->low);
    size_t count = 0;
    for (int d = (int)floor(log10(scale->low)) - 1; d <= log10(scale->high) + 1; d++)
        for (int f = 1; f <= 9; f++) {
            double value = f * pow(10, d);
            if (value < scale->low * (1 - 1e-9) || value > scale->high * (1 + 1e-9)) continue;
            bool labelled = log_labelled(f, d, decades, most);
            bool line = decades <= 1 || (decades <= 8 && (f == 1 || f == 2 || f == 5));
            if ((!line && !labelled) || count == SCALE_TICKS) continue;
            ticks[count].value = value;
            ticks[count].labelled = labelled;
            ticks[count].strong = f == 1;
            tick_text(scale->unit, value, value, ticks[count].text, sizeof ticks[count].text);
            count++;
        }
    return count;
}

size_t scale_ticks(const struct scale *scale, int most, struct tick *ticks)
{
    return scale->log ? log_ticks(scale, most, ticks) : linear_ticks(scale, most, ticks);
}

void scale_value_text(enum scale_unit unit, double value, char *text, size_t size)
{
    char number[48];
    if (unit == UNIT_PERCENT) {
        snprintf(text, size, "%.2f %%", 100 * value);
        return;
    }
    bool seconds = unit == UNIT_MS && value >= 10000;
    results_number_text(number, sizeof number, seconds ? value / 1000 : value);
    snprintf(text, size, "%s%s", number, unit != UNIT_MS ? "" : seconds ? " s" : " ms");
}

void scale_limit_text(enum scale_unit unit, double value, char *text, size_t size)
{
    if (unit == UNIT_PERCENT)
        snprintf(text, size, "%.6g %%", 100 * value);
    else if (unit == UNIT_MS && value >= 1000)
        snprintf(text, size, "%.6g s", value / 1000);
    else
        snprintf(text, size, "%.6g%s", value, unit == UNIT_MS ? " ms" : "");
}
