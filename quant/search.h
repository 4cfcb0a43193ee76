/* From a row of f32 weights to VSQ4z: which row scale, which scale and zero point for each vector.
 *
 * Everywhere scales are rounded first and the elements are then rounded against the rounded scale,
 * which is 10 to 18 % less error for nothing (quantization.md, section 1). Three ways to choose:
 *
 *   CLIP_MAX     nothing is clipped: a vector's scale covers its largest magnitudes, the row scale
 *                the largest of those (VS-Quant, equations 2 to 5, with a zero point)
 *   CLIP_OCTAV   a vector's scale covers the clip that OCTAV finds for it (octav.h)
 *   CLIP_SEARCH  every scale and both zero points are tried for each vector, under many row scales;
 *                the smallest weighted squared error wins, the first of equals
 *
 * The error of input k counts `importance[k]` times (the energy of its activations, for the error
 * of the product; NULL: all alike). An importance below a ten-thousandth of the row's mean counts
 * as that much, so that an input which the calibration text never used keeps its weights.
 *
 * Weights below 1e-30 all over a row are zeros. Magnitudes are no matter otherwise: a row that is
 * multiplied by a power of two gets the same codes.
 *
 * Results are the same bits on every instruction set: sums of 16 vectors run in 16 lanes, no fused
 * multiply-add. Thread-safe: all memory is the caller's.
 */
#ifndef QUANT_SEARCH_H
#define QUANT_SEARCH_H

#include "quant/clip.h"
#include "quant/vsq4z.h"

#include <stdbool.h>

/* Floats of scratch that a row of `cols` inputs needs. */
int64_t search_scratch(int64_t cols);

/* weights[cols] and importance[cols], or NULL, have passed quant/check.h; row->cols is set by the
 * caller. Returns the weighted squared error that is left. */
double vsq4z_quantize_row(const float *weights, const float *importance, enum clip clip,
                          float *scratch, struct vsq4z_row *row);

/* For one vector, weights[16] and importance[16]: its scale and zero point under a row scale > 0.
 */
void vsq4z_choose_vector(const float *weights, const float *importance, float row_scale,
                         uint8_t *scale, uint8_t *zero);

/* The code of one weight under its scale and zero point: nearest, ties to even. */
uint8_t vsq4z_nearest(float weight, float row_scale, int32_t scale, int32_t zero);

#endif
