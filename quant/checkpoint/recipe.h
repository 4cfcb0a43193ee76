/* How a model's matrices become codes: rounding alone, AWQ, GPTQ, or both (docs/quantization.md
 * says what each buys).
 *
 * Layers come in order. Where a text is given, each layer's products are quantized one after
 * another on what they see on that text behind the products that were quantized before
 * (calibrate.h):
 *
 *     any method  the energies of a product's inputs weigh the errors of its columns
 *     awq         inputs of large energy are scaled down and their columns up (awq.h)
 *     gptq        weights make up for what was lost before them (retarget.h), and later columns for
 *                 the rounding of earlier ones (quant/gptq.h)
 */
#ifndef QUANT_CHECKPOINT_RECIPE_H
#define QUANT_CHECKPOINT_RECIPE_H

#include "quant/checkpoint/layer.h"
#include "quant/search.h"

enum method { METHOD_RTN, METHOD_AWQ, METHOD_GPTQ, METHOD_AWQ_GPTQ };
const char *method_name(enum method method); /* "rtn", "awq", "gptq", "awq+gptq" */

struct recipe_options {
    enum file_type format; /* what clip is for; matrices that are kept in another are not clipped */
    enum clip clip;
    enum method method;
    const int32_t *tokens; /* of the calibration text; NULL: none. windows * CALIBRATION_WINDOW */
    int32_t windows;
};

struct recipe;

/* ST_USAGE when the method needs a text and there is none. `source` and `pool` are borrowed. */
enum status recipe_create(const struct recipe_options *options, const struct checkpoint *source,
                          struct thread_pool *pool, struct recipe **out, struct error *err);
void recipe_free(struct recipe *recipe);

/* Layer `layer` (the next one): types[TENSOR_ROLES] says FILE_VSQ4Z or FILE_W8 for each matrix.
 * `vectors` gets the layer's norms and biases as they are to be written, `matrices[TENSOR_ROLES]`
 * the codes. Both are the caller's to release, also on failure. */
enum status recipe_layer(struct recipe *recipe, int32_t layer, const enum file_type *types,
                         struct float_layer *vectors, struct coded_matrix *matrices,
                         struct error *err);

#endif
