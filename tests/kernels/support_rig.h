/* A backend, random matrices that the reference can see, and plain double-precision references. */
#ifndef TESTS_KERNELS_SUPPORT_RIG_H
#define TESTS_KERNELS_SUPPORT_RIG_H

#include "kernels/cpu/cpu.h"

struct matrix {
    int64_t rows, cols;
    float *values; /* [rows][cols], exact in `exact` */
};

struct rig {
    struct thread_pool *pool;
    struct backend *backend;
};

struct rig rig_open(enum cpu_isa isa, int threads);
void rig_close(struct rig *rig);

/* Normal numbers of that deviation, rounded so that `exact` holds them; one column in 50 is ten
 * times larger, as activations and weights of real models have it. Caller frees values. */
struct matrix matrix_random(struct rng *rng, int64_t rows, int64_t cols, float deviation,
                            enum dtype exact);
struct weight *rig_weight(struct rig *rig, const struct matrix *parts, int count, bool paired,
                          enum weight_format format, enum dtype native);
struct tensor *rig_tensor(struct rig *rig, const struct matrix *values);
void rig_read(struct rig *rig, const struct tensor *tensor, int64_t rows, int64_t cols, float *out);

/* A step of `rows` tokens without attention. */
void rig_step(struct rig *rig, int32_t rows, const int32_t *tokens, struct step_input *input);

/* out[k] = x[k] / sqrt(mean(x^2) + eps) * norm[k] */
void reference_rmsnorm(const float *x, const float *norm, int64_t count, double eps, double *out);

/* The value of row `output` of w times x, and in *bound how far an operator may be from it:
 * rounding of every f32 step for native weights, half a quantisation step of every weight and
 * activation for W8. */
double reference_product(const struct matrix *w, int64_t output, const double *x,
                         enum weight_format format, double *bound);

#endif
