/* One matrix to codes, all rows in parallel; the bits do not depend on the threads. */
#ifndef QUANT_CHECKPOINT_CODE_MATRIX_H
#define QUANT_CHECKPOINT_CODE_MATRIX_H

#include "quant/checkpoint/layer.h"
#include "quant/gptq.h"
#include "quant/search.h"

struct coding {
    enum file_type type; /* FILE_VSQ4Z, or FILE_W8, which needs nothing else of this */
    enum clip clip;
    const float *importance;          /* [cols] or NULL */
    const struct gptq_factor *factor; /* NULL: each weight to its nearest level */
};

/* The matrix's values become those of its codes. ST_NO_MEMORY. */
enum status code_matrix(struct float_matrix *matrix, const struct coding *coding,
                        struct thread_pool *pool, struct coded_matrix *out, struct error *err);

/* AWQ (arXiv 2306.00978, section 3.2) for matrices that read the same `cols` inputs, of `energies`:
 * scales[k] = energies[k]^(a / 2), their geometric mean 1, with the `a` of 0, 0.1, ... 1 that
 * leaves the least weighted error on a part of the rows. False when that is a = 0: scales are
 * all 1. */
bool awq_choose(const struct float_matrix *const *matrices, int count, const float *energies,
                struct thread_pool *pool, float *scales);

#endif
