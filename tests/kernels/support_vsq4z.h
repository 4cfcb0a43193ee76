/* Quantized matrices for tests: canonical VSQ4z and W8 codes, random or as bad as they come. */
#ifndef TESTS_KERNELS_SUPPORT_VSQ4Z_H
#define TESTS_KERNELS_SUPPORT_VSQ4Z_H

#include "tests/kernels/support_rig.h"

enum levels {
    LEVELS_RANDOM,  /* every s, q and z alike */
    LEVELS_LARGEST, /* s = 15, q = 15, z = 7: +120 */
    LEVELS_LOWEST,  /* s = 15, q = 0, z = 8: -120 */
    LEVELS_MIXED,   /* s = 15 or 0, q = 15 or 0 */
};

/* Inputs behind the last column have q = z. Free with vsq4z_free. */
struct vsq4z_matrix vsq4z_random(struct rng *rng, int64_t rows, int64_t cols, enum levels levels);
void vsq4z_free(struct vsq4z_matrix *m);
struct weight *rig_vsq4z(struct rig *rig, const struct vsq4z_matrix *parts, int count, bool paired);

/* The levels of a VSQ4z matrix as W8 codes with scales of 1. Free with w8_free. */
struct w8_matrix w8_of_levels(const struct vsq4z_matrix *m);
struct w8_matrix w8_random(struct rng *rng, int64_t rows, int64_t cols);
void w8_free(struct w8_matrix *m);
struct weight *rig_w8(struct rig *rig, const struct w8_matrix *parts, int count, bool paired);

/* What a product makes of one row of activations, in double precision from the definition: 4
 * outliers times the weights, the rest rounded to int8 (in f32, as defined). *magnitude: the sum of
 * the sizes of its terms. */
double vsq4z_reference(const struct vsq4z_matrix *m, int64_t output, const float *x,
                       double *magnitude);
double w8_reference(const struct w8_matrix *m, int64_t output, const float *x, double *magnitude);

#endif
