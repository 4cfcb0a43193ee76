/* OCTAV (Optimally Clipped Tensors And Vectors, arXiv 2206.06501): the clip that minimizes the mean
 * squared error of a symmetric B-bit quantization, by the Newton iteration of its equation 8:
 *
 *     s <- sum |x| 1{|x| > s}  /  (4^-B / 3 * sum 1{0 < |x| <= s}  +  sum 1{|x| > s})
 *
 * from s = mean |x|. The error is convex in s under the paper's noise model (uniform rounding noise
 * below the clip, the whole excess above it), so about ten steps are enough.
 */
#ifndef QUANT_OCTAV_H
#define QUANT_OCTAV_H

#include <stdint.h>

/* The clip of x[count], finite, for `bits` bits (2..8). 0 for zeros alone; never more than max |x|.
 */
float octav_clip(const float *x, int64_t count, int bits);

#endif
