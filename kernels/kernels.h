/* kernels/: tensor operators behind one table of functions, and nothing about models or requests.
 *
 * A backend is a device with its operators (kernels/cpu today, kernels/cuda later). model/ sees
 * opaque tensors, weights and KV pools, and calls operators at fused granularity: each reads its
 * inputs once and leaves no intermediate that a faster device would not want to write.
 *
 * One numeric definition. Every operator's result for a token depends on that token's inputs and
 * context alone, bit for bit: not on the other rows of the step, the number of threads, how a
 * prompt was cut into chunks, or which blocks hold the context. Concretely
 *   - a product's sum runs over k in one fixed order (int32 for W8, one f32 accumulator per output
 *     for native weights, k ascending);
 *   - attention reduces the context in chunks of ATTENTION_CHUNK context slots counted from the
 *     view's start; within a chunk the order is fixed by the slot; chunks are merged in order;
 *   - norms and activation scales are computed per token.
 * Two instruction sets may differ in the last bits (FMA, exp), except int32 sums, which are equal.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "base/base.h"
#include "base/thread_pool.h"
#include "kernels/step_clock.h"
#include "quant/vsq4z.h"
#include "quant/w8.h"

#include <stdbool.h>
#include <stdint.h>

#define ATTENTION_CHUNK 256 /* context slots reduced together; 16 blocks */
#define BLOCK_SLOTS     16  /* token slots of a KV block */
#define MAX_HEAD_DIM    512 /* head_dim is even and at most this */

/* Types of activations, KV and native weights. */
enum dtype { DT_F32, DT_F16, DT_BF16 };
const char *dtype_name(enum dtype type); /* "f32", "f16", "bf16" */

/* How a matrix is kept for products. */
enum weight_format {
    WEIGHT_NATIVE, /* the file's own values, exact, as f32, f16 or bf16; products and sums in f32 */
    WEIGHT_W8,     /* int8, a scale for 64 inputs (quant/w8.h); activations int8 per token; sums
                      int32 over 64 inputs */
    WEIGHT_VSQ4Z, /* 4 bits (quant/vsq4z.h); activations as for W8; one int32 sum over all inputs */
};

struct backend; /* a device and its operators */
struct tensor;  /* activations on a device: [rows, cols] f32, rows are tokens of a step */
struct weight;  /* a matrix [outputs, inputs] packed for the device */
struct kv_pool; /* K and V of every layer in blocks of BLOCK_SLOTS slots */

/* Where a matrix's values come from. `read`: rows [first, first + count) as f32 into
 * out[count][cols], called from several threads at once. A matrix that was quantized before comes
 * as its codes, which a backend packs as they are: always for WEIGHT_VSQ4Z, for WEIGHT_W8 where
 * `w8` is given (else the backend quantizes what `read` gives). Views, needed while weight_create
 * runs. */
struct weight_source {
    void (*read)(const void *context, int64_t first, int64_t count, float *out);
    const void *context;
    int64_t rows;
    const struct w8_matrix *w8;
    const struct vsq4z_matrix *vsq4z;
};

/* A packed matrix of 1..3 sources with `cols` inputs each. */
struct weight_spec {
    enum weight_format format;
    enum dtype native; /* WEIGHT_NATIVE: the type that holds the values exactly */
    const struct weight_source *parts;
    int part_count;
    bool paired;  /* two parts of equal size used by gate_up: the backend interleaves them */
    int64_t cols; /* inputs */
};

/* One sequence's rows in a step: rows [first_row, first_row + rows) are consecutive tokens; the
 * i-th sees the first `context + i` slots of the spans (so `context` counts the first row's own
 * slot). */
struct attention_span {
    const int32_t *blocks; /* block numbers, the first slot used is first_slot of blocks[0] */
    int32_t first_slot, length;
};
struct attention_sequence {
    int32_t first_row, rows;
    int32_t context;
    const struct attention_span *spans;
    int32_t span_count;
};

/* A step's host-side plan: what every operator of the step needs to know, given once by step_begin.
 */
struct step_input {
    int32_t rows;             /* tokens */
    const int32_t *tokens;    /* [rows] */
    const int32_t *positions; /* [rows] for RoPE */
    const int64_t *slots; /* [rows] block * BLOCK_SLOTS + slot that receives the row's K and V */
    const struct attention_sequence *sequences; /* cover the rows in order, without gaps */
    int32_t sequence_count;
    const int32_t *logit_rows; /* [logit_count] rows whose logits are wanted, ascending */
    int32_t logit_count;
};

/* Shapes of the attention part of a layer, and its norms and biases (device-resident vectors). */
struct attention_shape {
    int32_t heads, kv_heads, head_dim; /* query head h reads kv head h / (heads / kv_heads) */
    const float *inv_freq; /* [head_dim / 2] RoPE frequencies (host), pairs (i, i + head_dim / 2) */
    float rope_scale;      /* cos and sin are multiplied by it (1, or YaRN's attention factor) */
    float eps;             /* of the QK norms */
};

struct backend_ops {
    const char *name; /* "cpu-avx512", "cpu-avx2", "cpu-portable" */
    void (*free)(struct backend *backend);

    /* --- memory. NULL / ST_NO_MEMORY when it cannot be had. Freed with the backend's free
     * functions. */
    struct tensor *(*tensor_create)(struct backend *backend, int64_t rows, int64_t cols);
    void (*tensor_free)(struct backend *backend, struct tensor *tensor);
    /* Row `row` to host memory out[cols]. */
    void (*tensor_read)(struct backend *backend, const struct tensor *tensor, int64_t row,
                        float *out);
    void (*tensor_write)(struct backend *backend, struct tensor *tensor, int64_t row,
                         const float *in);
    enum status (*weight_create)(struct backend *backend, const struct weight_spec *spec,
                                 struct weight **out, struct error *err);
    void (*weight_free)(struct backend *backend, struct weight *weight);
    size_t (*weight_bytes)(const struct weight *weight); /* device memory in use */
    struct kv_pool *(*kv_create)(struct backend *backend, enum dtype type, int32_t layers,
                                 int32_t kv_heads, int32_t head_dim, int32_t blocks);
    void (*kv_free)(struct backend *backend, struct kv_pool *pool);
    /* The first `slots` (1..BLOCK_SLOTS - 1) slots of from_block, K and V of every layer and head,
     * to the same slots of to_block, whose other slots keep what they hold: a fork's partial block.
     * Between steps only. */
    void (*kv_copy)(struct backend *backend, struct kv_pool *pool, int32_t from_block,
                    int32_t to_block, int32_t slots);

    /* --- a step. `input` and what it points at stay valid until the next step_begin; only its
     * logit_rows may change, between two norm_head. */
    void (*step_begin)(struct backend *backend, const struct step_input *input);

    /* x[rows, hidden] = rows of `table` [vocab, hidden] at the step's tokens. */
    void (*embed)(struct backend *backend, const struct weight *table, struct tensor *x);

    /* h = rmsnorm(x; norm, eps); (q, k, v) = wqkv h (+ bias); per-head RMS norms of q and k where
     * given; RoPE on q and k; K and V to the step's slots of `layer`; q[rows, heads * head_dim] is
     * the result. norm [hidden], bias [(heads + 2 kv_heads) * head_dim] or NULL, q_norm and k_norm
     * [head_dim] or NULL are tensors of one row. */
    void (*norm_qkv)(struct backend *backend, const struct attention_shape *shape,
                     const struct tensor *x, const struct tensor *norm, float eps,
                     const struct weight *wqkv, const struct tensor *bias,
                     const struct tensor *q_norm, const struct tensor *k_norm, struct kv_pool *pool,
                     int32_t layer, struct tensor *q);

    /* out[rows, heads * head_dim] = softmax(q k^T / sqrt(head_dim)) v over each row's context. */
    void (*attention)(struct backend *backend, const struct attention_shape *shape,
                      const struct tensor *q, const struct kv_pool *pool, int32_t layer,
                      struct tensor *out);

    /* x += w in: the output projection and the down projection. in[rows, inputs], x[rows, outputs].
     */
    void (*linear_add)(struct backend *backend, const struct weight *w, const struct tensor *in,
                       struct tensor *x);

    /* out[rows, inner] = silu(gate h) * (up h), h = rmsnorm(x; norm, eps); w_gate_up is paired. */
    void (*norm_gate_up)(struct backend *backend, const struct tensor *x, const struct tensor *norm,
                         float eps, const struct weight *w_gate_up, struct tensor *out);

    /* logits[logit_count, vocab] = head rmsnorm(x[logit_rows]; norm, eps). */
    void (*norm_head)(struct backend *backend, const struct tensor *x, const struct tensor *norm,
                      float eps, const struct weight *head, struct tensor *logits);

    /* From now on the backend marks its stages on `clock` (borrowed); NULL, as at first: on none.
     * linear_add behind attention is the output projection, behind norm_gate_up the down one. */
    void (*step_clock)(struct backend *backend, struct step_clock *clock);
};

/* Every backend starts with its table. */
struct backend {
    const struct backend_ops *ops;
};

/* --- the CPU backend (kernels/cpu) */

enum cpu_isa { CPU_AUTO, CPU_PORTABLE, CPU_AVX2, CPU_AVX512 };

/* The best this machine has, or what ESPALIER_CPU=avx512|avx2|portable forces. ST_INVALID for an
 * unknown word, ST_NO_DEVICE when the machine lacks it. */
enum status cpu_isa_select(enum cpu_isa *isa, struct error *err);
const char *cpu_isa_name(enum cpu_isa isa);

/* `pool` is borrowed. `hugepages`: ask for 2 MB pages for weights and KV. */
enum status backend_cpu_create(struct thread_pool *pool, enum cpu_isa isa, bool hugepages,
                               struct backend **out, struct error *err);

#endif
