/* A layer as f32, and as the codes it becomes. */
#ifndef QUANT_CHECKPOINT_LAYER_H
#define QUANT_CHECKPOINT_LAYER_H

#include "base/thread_pool.h"
#include "model/checkpoint.h"

struct float_matrix {
    int64_t rows, cols;
    float *values; /* [rows][cols] */
};

/* Matrices and vectors (of one row) by role; values NULL where the model has none. Owned. */
struct float_layer {
    struct float_matrix tensors[TENSOR_ROLES];
};

/* Every tensor of `layer`. ST_BAD_FILE for a value that quant/check.h refuses, by name and place.
 */
enum status float_layer_load(const struct checkpoint *source, int32_t layer,
                             struct thread_pool *pool, struct float_layer *out, struct error *err);
/* One tensor of a role that comes once (the embedding, the head, the last norm). */
enum status float_tensor_load(const struct checkpoint *source, enum tensor_role role, int32_t layer,
                              struct thread_pool *pool, struct float_layer *out, struct error *err);
void float_layer_release(struct float_layer *layer);

/* A matrix in codes; arrays are owned, those of the other format NULL. */
struct coded_matrix {
    enum file_type type; /* FILE_VSQ4Z or FILE_W8 */
    struct vsq4z_arrays vsq4z;
    int8_t *values; /* W8 */
    uint16_t *scales;
    double error;   /* squared error over squared weights: of the weights themselves */
    double clipped; /* share of weights beyond their vector's range */
    int64_t rows, cols;
};
void coded_matrix_release(struct coded_matrix *matrix);

struct vsq4z_matrix coded_vsq4z(const struct coded_matrix *matrix);
struct w8_matrix coded_w8(const struct coded_matrix *matrix);

#endif
