#include "traces/workload/rate_levels.h"

#include "base/base.h"
#include "base/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_MOST 1e6

static enum status refuse(const char *text, struct error *err)
{
    return fail(err, ST_USAGE,
                "--rate-levels: found '%s', allowed is WEIGHT:TIME,... such as 1:300s,2:300s, at "
                "most %d of them, weights above 0 to %.0f, times with their unit",
                text, RATE_LEVELS_MOST, WEIGHT_MOST);
}

/* One "WEIGHT:TIME". */
static bool parse_level(const char *text, size_t length, double *weight, double *seconds)
{
    char copy[64], *end;
    int64_t us = 0;
    if (length == 0 || length >= sizeof copy) return false;
    memcpy(copy, text, length);
    copy[length] = 0;
    size_t number = strcspn(copy, ":");
    if (copy[number] != ':' || strspn(copy, "0123456789.") != number) return false;
    *weight = strtod(copy, &end);
    if (end != copy + number || !(*weight > 0 && *weight <= WEIGHT_MOST)) return false;
    if (parse_time(copy + number + 1, &us, NULL) || us <= 0) return false;
    *seconds = (double)us / 1e6;
    return true;
}

enum status rate_levels_parse(const char *text, struct rate_levels *levels, struct error *err)
{
    *levels = (struct rate_levels){0};
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        int32_t i = levels->count;
        if (i == RATE_LEVELS_MOST ||
            !parse_level(at, length, &levels->weights[i], &levels->seconds[i]))
            return refuse(text, err);
        levels->count++;
        at += length;
        if (!*at) return ST_OK;
    }
}

double rate_levels_time(const struct rate_levels *levels, double rate, double requests)
{
    double turn_s = 0, turn_weight = 0; /* of all levels: seconds, and weights times seconds */
    if (levels->count == 0) return requests / rate;
    for (int32_t i = 0; i < levels->count; i++) {
        turn_s += levels->seconds[i];
        turn_weight += levels->weights[i] * levels->seconds[i];
    }
    double per_weight = rate * turn_s / turn_weight; /* requests/s of a level of weight 1 */
    double turns = floor(requests / (rate * turn_s)), left = requests - turns * rate * turn_s;
    double time = turns * turn_s;
    for (int32_t i = 0; i < levels->count; i++) {
        double level_rate = per_weight * levels->weights[i];
        double here = level_rate * levels->seconds[i];
        if (left < here || i + 1 == levels->count) return time + left / level_rate;
        left -= here;
        time += levels->seconds[i];
    }
    return time;
}
