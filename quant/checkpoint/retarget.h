/* Weights that make up for what the products before them have lost.
 *
 * A product is to give, on the inputs X that quantized products give it, what the exact weights
 * would give on exact inputs (GPTAQ, arXiv 2504.02692, calls it asymmetric calibration; here the
 * weights are moved before anything is rounded, and o and down aim at the whole residual stream):
 *
 *     q, k, v, gate, up   min |X W'^T - E W^T|^2             W' = W + W (E - X)^T X H^-1
 *     o, down             min |stream + X W'^T - exact|^2     W' = W + G^T X H^-1
 *
 * Tokens are rows; G is what the stream lacks when W has been added to it; H is X^T X with a tenth
 * of the mean of its diagonal added to it, which keeps W' near W where the text says little. The
 * sums come from calibrate.h.
 */
#ifndef QUANT_CHECKPOINT_RETARGET_H
#define QUANT_CHECKPOINT_RETARGET_H

#include "quant/checkpoint/layer.h"

/* cross[cols][cols] = (E - X)^T X as calibration_norm_gram has it; it is overwritten. False when H
 * has no inverse. */
bool retarget_by_inputs(struct float_matrix *const *matrices, int count, const double *gram,
                        double *cross, struct thread_pool *pool);

/* cross[rows][cols] = G^T X; it is overwritten. */
bool retarget_by_outputs(struct float_matrix *matrix, const double *gram, double *cross,
                         struct thread_pool *pool);

#endif
