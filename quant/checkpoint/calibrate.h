/* What each product of a model sees on a text: the forward pass, a layer at a time, with weights
 * that are given for each part of it.
 *
 * The residual stream of every token of the text stays in memory ([tokens][hidden] f32) with one
 * intermediate ([tokens][inner]); a layer's four products are run in order, so that each may be
 * quantized on what the quantized ones before it give:
 *
 *     begin -> for each layer: norm_input(attention) attend  wide_input add(o)
 *                              norm_input(ffn)       gate_up wide_input add(down)
 *
 * Products run in f32 on the CPU backend. The text is cut into windows of CALIBRATION_WINDOW tokens
 * that do not see each other.
 */
#ifndef QUANT_CHECKPOINT_CALIBRATE_H
#define QUANT_CHECKPOINT_CALIBRATE_H

#include "kernels/kernels.h"
#include "quant/checkpoint/layer.h"

#define CALIBRATION_WINDOW 512

struct calibration;

/* tokens[windows * CALIBRATION_WINDOW], read now. ST_NO_MEMORY says what is needed. */
enum status calibration_create(const struct checkpoint *source, const int32_t *tokens,
                               int32_t windows, struct thread_pool *pool, struct calibration **out,
                               struct error *err);
void calibration_free(struct calibration *calibration);

int64_t calibration_tokens(const struct calibration *calibration);

/* gram[cols][cols] = X^T X over all tokens, whole; X is the normalized stream (norm[hidden]), or
 * the intermediate that attend or gate_up left behind. */
void calibration_norm_gram(struct calibration *calibration, const float *norm, double *gram);
void calibration_wide_gram(struct calibration *calibration, int64_t cols, double *gram);

/* Input k of the intermediate divided by scales[k]: what makes it was. */
void calibration_divide_wide(struct calibration *calibration, int64_t cols, const float *scales);

/* The parts of a layer, with its weights as they are in `layer`. */
enum status calibration_attend(struct calibration *calibration, const struct float_layer *layer,
                               struct error *err);
enum status calibration_gate_up(struct calibration *calibration, const struct float_layer *layer,
                                struct error *err);
/* stream += (TENSOR_O or TENSOR_DOWN) * intermediate */
enum status calibration_add(struct calibration *calibration, const struct float_layer *layer,
                            enum tensor_role role, struct error *err);

#endif
