#include "quant/vsq.h"
#include "quant/octav.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LARGEST_CODE 7

/* CLIP_SEARCH tries a vector's clip at 1, 15/16, ..., 8/16 of its largest value, and row scales at
 * 1, 31/32, ..., 16/32 of what the paper's would be. */
#define VECTOR_PARTS 16
#define ROW_PARTS    32

static bool one_of(int value, const int *allowed, int count)
{
    for (int i = 0; i < count; i++)
        if (value == allowed[i]) return true;
    return false;
}

enum status vsq_parse(const char *text, struct vsq_format *out, struct error *err)
{
    int vector = 0, bits = 0, end = 0;
    enum clip clip = CLIP_MAX;
    bool well_formed = sscanf(text, "vsq4:%2d,%2d%n", &vector, &bits, &end) == 2;
    if (well_formed && text[end] == ',') {
        for (; clip <= CLIP_SEARCH && strcmp(text + end + 1, clip_name(clip)) != 0; clip++)
            ;
        well_formed = clip <= CLIP_SEARCH;
    } else if (well_formed) {
        well_formed = !text[end];
    }
    if (!well_formed || !one_of(vector, (const int[]){16, 32, 64}, 3) ||
        !one_of(bits, (const int[]){4, 6, 8, 10}, 4))
        return fail(err, ST_USAGE,
                    "%s: allowed are vsq4:V,M and vsq4:V,M,CLIP with V 16, 32 or 64, M 4, 6, 8 or "
                    "10, CLIP max, octav or search",
                    text);
    *out = (struct vsq_format){vector, bits, clip};
    return ST_OK;
}

static float nearest_code(float weight, float inverse)
{
    float code = (weight * inverse + 12582912.0f) - 12582912.0f; /* rounds, ties to even */
    return code < -LARGEST_CODE ? -LARGEST_CODE : code > LARGEST_CODE ? LARGEST_CODE : code;
}

/* --- one vector */

static float largest_of(const float *x, int64_t count)
{
    float largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    return largest;
}

static double error_of(const float *weights, int64_t count, float step)
{
    float inverse = step > 0 ? 1.0f / step : 0;
    double error = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)weights[i] - (double)(nearest_code(weights[i], inverse) * step);
        error += d * d;
    }
    return error;
}

/* The scale of a vector before it is rounded to M bits. */
static float vector_scale(const float *weights, int64_t count, enum clip clip)
{
    float largest = largest_of(weights, count), best = largest / LARGEST_CODE;
    if (clip == CLIP_OCTAV) return octav_clip(weights, count, 4) / LARGEST_CODE;
    if (clip == CLIP_MAX) return best;
    double least = error_of(weights, count, best);
    for (int part = VECTOR_PARTS - 1; part >= VECTOR_PARTS / 2; part--) {
        float scale = largest * ((float)part / VECTOR_PARTS) / LARGEST_CODE;
        double error = error_of(weights, count, scale);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

struct rounded {
    float step; /* row scale times the integer scale */
    double error;
};

/* The integer scale next to `scale`, or, for a search, the better of those below and above it. */
static struct rounded round_scale(const float *weights, int64_t count, float scale, float row_scale,
                                  const struct vsq_format *format)
{
    float levels = scale / row_scale, most = (float)((1 << format->scale_bits) - 1);
    float low = format->clip == CLIP_SEARCH ? floorf(levels) : nearbyintf(levels);
    float high = format->clip == CLIP_SEARCH ? low + 1 : low;
    struct rounded best = {0, INFINITY};
    for (float s = low; s <= high; s++) {
        float step = row_scale * (s < most ? s : most);
        double error = error_of(weights, count, step);
        if (error < best.error) best = (struct rounded){step, error};
    }
    return best;
}

/* --- a row */

struct row {
    const float *weights;
    const float *scales; /* of the vectors, before they are rounded */
    int64_t cols;
    const struct vsq_format *format;
};

static int64_t vector_length(const struct row *row, int64_t at)
{
    return row->cols - at < row->format->vector ? row->cols - at : row->format->vector;
}

static struct rounded round_vector(const struct row *row, int64_t at, float row_scale)
{
    return round_scale(row->weights + at, vector_length(row, at),
                       row->scales[at / row->format->vector], row_scale, row->format);
}

static double row_error(const struct row *row, float row_scale, double limit)
{
    double error = 0;
    for (int64_t at = 0; at < row->cols && error <= limit; at += row->format->vector)
        error += round_vector(row, at, row_scale).error;
    return error;
}

static float choose_row_scale(const struct row *row)
{
    float largest = largest_of(row->scales, vsq_vectors(row->format, row->cols));
    float paper = largest / (float)((1 << row->format->scale_bits) - 1), best = paper;
    if (row->format->clip != CLIP_SEARCH) return best;
    double least = row_error(row, best, INFINITY);
    for (int part = ROW_PARTS - 1; part >= ROW_PARTS / 2; part--) {
        float scale = paper * ((float)part / ROW_PARTS);
        double error = row_error(row, scale, least);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

double vsq_simulate_row(const float *weights, int64_t cols, const struct vsq_format *format,
                        float *scratch, float *out)
{
    struct row row = {weights, scratch, cols, format};
    if (largest_of(weights, cols) < 1e-30f) {
        double error = error_of(weights, cols, 0);
        memset(out, 0, (size_t)cols * sizeof *out);
        return error;
    }
    for (int64_t at = 0; at < cols; at += format->vector)
        scratch[at / format->vector] =
            vector_scale(weights + at, vector_length(&row, at), format->clip);
    float row_scale = choose_row_scale(&row);
    double error = 0;
    for (int64_t at = 0; at < cols; at += format->vector) {
        struct rounded r = round_vector(&row, at, row_scale);
        float inverse = r.step > 0 ? 1.0f / r.step : 0;
        for (int64_t i = at; i < at + vector_length(&row, at); i++)
            out[i] = nearest_code(weights[i], inverse) * r.step;
        error += r.error;
    }
    return error;
}
