#include "tests/quant/support_rows.h"
#include "base/alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const int64_t row_lengths[] = {1,  2,  3,  7,  8,   15,  16,  17,  24,  31,  32,  33,  40, 47,
                               48, 63, 64, 65, 127, 128, 129, 255, 256, 257, 271, 576, 0};

static double student_t5(struct rng *rng)
{
    double normal = rng_normal(rng), chi = 0;
    for (int i = 0; i < 5; i++) {
        double n = rng_normal(rng);
        chi += n * n;
    }
    return normal / sqrt(chi / 5);
}

static double laplace(struct rng *rng)
{
    double u = rng_unit(rng) - 0.5;
    return (u < 0 ? 1 : -1) * log(1 - 2 * fabs(u));
}

void fill_row(struct rng *rng, enum distribution distribution, float *out, int64_t cols)
{
    for (int64_t k = 0; k < cols; k++)
        out[k] = (float)(0.02 * (distribution == GAUSS     ? rng_normal(rng)
                                 : distribution == LAPLACE ? laplace(rng)
                                                           : student_t5(rng)));
}

bool adversarial_row(int index, float *out, int64_t cols, const char **name)
{
    static const char *const names[] = {"zeros",
                                        "one outlier",
                                        "the last column alone",
                                        "a constant",
                                        "minus a constant",
                                        "alternating",
                                        "denormals",
                                        "largest allowed",
                                        "below 1e-30",
                                        "just above 1e-30",
                                        "all magnitudes",
                                        "minus zero",
                                        "exact levels",
                                        "huge beside tiny"};
    if (index >= (int)(sizeof names / sizeof *names)) return false;
    *name = names[index];
    struct rng rng = {(uint64_t)index + 1};
    for (int64_t k = 0; k < cols; k++) {
        float noise = (float)rng_normal(&rng);
        float sign = k % 2 ? -1.0f : 1.0f;
        float values[] = {0,
                          k == cols / 3 ? 100.0f : 0.01f * noise,
                          k == cols - 1 ? -3.0f : 0,
                          0.25f,
                          -0.25f,
                          sign * 0.5f,
                          1e-41f * noise,
                          k % 5 ? 1e37f * sign : 1e36f * noise,
                          0.9e-30f * sign,
                          k % 3 ? 1.1e-30f * sign : 0,
                          ldexpf(sign, (int)(k % 60) - 30),
                          -0.0f,
                          (float)((k % 16 - 7) * (1 + k / 16 % 15)),
                          k % 16 ? 1e-20f * noise : 1e20f};
        out[k] = values[index];
    }
    return true;
}

struct vsq4z_row row_open(int64_t cols)
{
    size_t vectors = (size_t)vsq4z_vectors(cols);
    return (struct vsq4z_row){.cols = cols,
                              .codes = must_alloc(vectors * VSQ4Z_VECTOR),
                              .scales = must_alloc(vectors),
                              .zeros = must_alloc(vectors)};
}

void row_close(struct vsq4z_row *row)
{
    free(row->codes);
    free(row->scales);
    free(row->zeros);
}

double sum_of_squares(const float *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

double squared_distance(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}
