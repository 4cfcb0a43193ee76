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

/* What one thread needs to code rows of `cols` inputs. */
struct row_scratch {
    struct vsq4z_row row;
    float *search, *work, *values; /* search_scratch(cols); [cols] each, to a whole vector */
};
struct row_scratch row_scratch_make(int64_t cols);
void row_scratch_free(struct row_scratch *scratch);

#endif
