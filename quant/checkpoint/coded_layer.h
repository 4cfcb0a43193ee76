/* What a layer becomes: matrices in codes, norms and biases in f32. */
#ifndef QUANT_CHECKPOINT_CODED_LAYER_H
#define QUANT_CHECKPOINT_CODED_LAYER_H

#include "quant/checkpoint/format_plan.h"
#include "quant/checkpoint/layer.h"
#include "quant/search.h"

/* Rounds every matrix of the layer by itself, in the format that the plan has for it. */
enum status round_layer(const struct float_layer *in, const struct format_plan *plan, int32_t layer,
                        enum clip clip, struct thread_pool *pool,
                        struct coded_matrix out[TENSOR_ROLES], struct error *err);

#endif
