/* What each product of a model sees on a text: the forward pass, a layer at a time, with weights
 * that are given for each part of it.
 *
 * The residual stream of every token of the text stays in memory ([tokens][hidden] f32) with one
 * intermediate ([tokens][inner]); a layer's four products are run in order, so that each may be
 * quantized on what the quantized ones before it give:
 *
 *     create -> for each layer: norm_gram attend  gap_grams or wide_diagonal  add(o)
 *                               norm_gram gate_up gap_grams or wide_diagonal  add(down)
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

/* tokens[windows * CALIBRATION_WINDOW], read now. `exact`: with an exact stream. ST_NO_MEMORY says
 * what is needed. */
enum status calibration_create(const struct checkpoint *source, const int32_t *tokens,
                               int32_t windows, bool exact, struct thread_pool *pool,
                               struct calibration **out, struct error *err);
void calibration_free(struct calibration *calibration);

int64_t calibration_tokens(const struct calibration *calibration);

/* Over all tokens, gram[hidden][hidden] = X^T X, X the normalized stream (norm[hidden]). Without an
 * exact stream its diagonal alone, zeros beside it; with one cross[hidden][hidden] = (E - X)^T X
 * too, E the exact stream, normalized. */
void calibration_norm_gram(struct calibration *calibration, const float *norm, double *gram,
                           double *cross);

/* The diagonal, X the intermediate that attend or gate_up left behind. */
void calibration_wide_diagonal(struct calibration *calibration, int64_t cols, double *gram);

/* The parts of a layer, with its weights as they are in `layer`. */
enum status calibration_attend(struct calibration *calibration, const struct float_layer *layer,
                               struct error *err);
enum status calibration_gate_up(struct calibration *calibration, const struct float_layer *layer,
                                struct error *err);
/* stream += (TENSOR_O or TENSOR_DOWN) * intermediate */
enum status calibration_add(struct calibration *calibration, const struct float_layer *layer,
                            enum tensor_role role, struct error *err);

/* --- the exact stream: what the weights as they were would have given until here. It is a part of
 * a layer ahead: calibration_exact_attention comes before calibration_gap_grams of TENSOR_O,
 * calibration_exact_ffn before that of TENSOR_DOWN. */

enum status calibration_exact_attention(struct calibration *calibration,
                                        const struct float_layer *layer, struct error *err);
enum status calibration_exact_ffn(struct calibration *calibration, const struct float_layer *layer,
                                  struct error *err);

/* gram = X^T X of the intermediate, cross[hidden][cols] = G^T X, where G is what the stream will
 * lack of the exact one when the product of `layer` (`role`) has been added. Each token counts by
 * its size in the exact stream, inversely: the norms behind it see errors relative to that. */
enum status calibration_gap_grams(struct calibration *calibration, const struct float_layer *layer,
                                  enum tensor_role role, double *gram, double *cross,
                                  struct error *err);

#endif
