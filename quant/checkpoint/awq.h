/* AWQ (arXiv 2306.00978, section 3.2): inputs of large energy are made small and their columns
 * large, so that the columns that matter are rounded relatively finer. Nothing at run time knows of
 * it: the divisor of an input goes into what makes the input,
 *
 *     q, k, v and gate, up    the norm before them
 *     o                       the rows of v: every query head reads its group's
 *     down                    the rows of up (the gate passes through the SiLU, up does not)
 *
 * A row of VSQ4z has its own f32 scale, so dividing rows that are coded already changes no code.
 */
#ifndef QUANT_CHECKPOINT_AWQ_H
#define QUANT_CHECKPOINT_AWQ_H

#include "quant/checkpoint/layer.h"

/* For matrices that read the same `cols` inputs, of `energies`: scales[k] = energies[k]^(a / 2),
 * their geometric mean 1, with the `a` of 0, 0.1, ... 1 that leaves the least weighted error on a
 * part of the rows. `owners`: input k comes from row owners[k] of what makes it, and inputs of one
 * row get one scale; NULL: each has its own. False when that is a = 0: scales are all 1. */
bool awq_choose(const struct float_matrix *const *matrices, int count, const float *energies,
                const int32_t *owners, struct thread_pool *pool, float *scales);

/* Column k of every matrix times scales[k]; the inputs must be divided by it. */
void awq_scale_columns(struct float_matrix *matrix, const float *scales);

/* Input k comes from row owners[k]: rows, and the bias where there is one, are divided. `coded` is
 * VSQ4z and holds the same rows, or NULL. */
void awq_divide_rows(struct float_matrix *matrix, struct coded_matrix *coded,
                     struct float_matrix *bias, const int32_t *owners, int64_t inputs,
                     const float *scales);

/* Which row of v makes input k of o, and of up that of down: owners[inputs]. */
void awq_owners_of_o(int32_t heads, int32_t kv_heads, int32_t head_dim, int32_t *owners);
void awq_owners_of_down(int32_t intermediate, int32_t *owners);

#endif
