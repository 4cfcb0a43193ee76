/* kernels/cpu/: the operators of kernels.h on a CPU, the room's own header.
 *
 * Three layers.
 *   1. Operators (linear.c, heads.c, attention.c): plain C. They split an operator into units, hand
 * the units to the pool's members and call the tile functions. Each operator is one run of the
 * pool, five runs a layer: QKV, attention, output projection, gate/up, down.
 *   2. The table of tile functions, struct cpu_kernels: one for each instruction set, chosen once
 * at start. kernels_avx512.c, kernels_avx2.c and kernels_portable.c include the same sources
 *      (vector.h and the *_tile.h) with their own vector width; only the int8 products are
 *      written by hand for each.
 *   3. Memory (backend.c, weight.c): tensors, packed weights, KV pools, scratch.
 *
 * What keeps the bits the same. A number is produced by one sequence of operations that depends on
 * the token alone. Products: an output of a row has one accumulator, k ascending; how many rows and
 * panels share a register tile changes which accumulators are neighbours, never what is added to
 * which. Attention: attention_plan.h. Sums over a vector (mean of squares, a chunk's exponentials):
 * 16 lane sums, element i goes to lane i mod 16 in ascending order, then one tree. Every lane count
 * (16, 8, 4 floats a register) keeps these 16 sums; only FMA or its absence makes instruction sets
 * differ.
 *
 * Bytes. A weight is cut into panels of 16 outputs, because 16 is one AVX-512 register of sums:
 *
 *     W8      [panel][ceil(k / 4)][16 outputs][4 k]  u8 = w + 128   (vpdpbusd multiplies u8 by s8)
 *             [panel][ceil(k / 64)][16 outputs]      bf16 scales, behind all panels
 *     VSQ4z   [panel] of codes, scales, zero points and row scales: vsq4z_panel.h
 *     native  [panel][k][16 outputs]                 f32, f16 or bf16 as the file has it
 *
 * Outputs beyond the matrix's end hold zero
 * weights, so that rows of activations, padded to 16 columns, have zeros in their padding after
 * every operator. A `paired` weight alternates a panel of gate with the same panel of up: SwiGLU
 * happens in registers.
 *
 * A row of activations starts every odd number of cache lines (row_stride): with a power of two,
 * the 12 rows of a register tile would fall into one set of the 8-way L1.
 *
 * KV: [layer][block][kv head], each K [head_dim][16 slots] (a register holds one dimension of 16
 * slots: scores need no shuffles) then V [16 slots][head_dim padded to 16]. f32 or bf16.
 *
 * Floors for SmolLM2-135M on 2 cores, 60-65 GB/s for both; int8 GOP/s a core: Zen 4 465, Zen 5 1040
 * (`espalier bench --roof` measures both):
 *
 *     decode, w8, 1 row         139 MB / 60 GB/s             2.3 ms a step
 *     decode, w8, 8 rows        the same bytes; 2.15 GOP     2.3 ms
 *     decode, vsq4z, 1 row      58 + 29 MB (a w8 head)       1.5 ms
 *     decode, vsq4z, 8 rows     the same bytes; 2.15 GOP     2.3 ms, Zen 5: 1.5
 *     prefill of 512            109 GOP                      117 ms, Zen 5: 52
 *     attention, context c      c * 46 KB a row (f32 KV)     0.39 ms at 512
 */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/kernels.h"

#include <stdatomic.h>

#define PANEL      16 /* outputs of a weight panel */
#define CACHE_LINE 64

static inline int64_t round_up(int64_t n, int64_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* Bytes from one row to the next: an odd number of cache lines that holds `bytes`. */
static inline int64_t row_stride(int64_t bytes)
{
    return ((bytes + CACHE_LINE - 1) / CACHE_LINE | 1) * CACHE_LINE;
}

struct tensor {
    int64_t rows, cols;
    int64_t stride; /* floats from row to row; columns from `cols` up to the next multiple of 16 are
                       0 */
    float *data;
    size_t bytes;
};

/* Weights share large pieces of memory: a layer's matrices are 0.3 to 1.8 MB in SmolLM2-135M, and
 * memory of its own for each would never get a 2 MB page. Decode then stalls on the TLB. */
struct weight_chunk {
    char *memory;
    size_t bytes, used;
    int64_t live; /* weights in it; the last one to go frees it */
};

struct weight {
    struct weight_chunk *chunk;
    enum weight_format format;
    enum dtype native;
    bool paired;
    int64_t outputs, cols; /* outputs: of the product, or of gate alone when paired */
    int64_t panels;        /* when paired: panel 2i is gate's, 2i + 1 is up's */
    size_t panel_bytes, bytes;
    unsigned char *data;
    const uint16_t *scales; /* W8: [panels][w8_groups(cols)][PANEL] bf16, in `data`'s memory */
};

static inline const unsigned char *weight_panel(const struct weight *w, int64_t panel)
{
    return w->data + (size_t)panel * w->panel_bytes;
}

struct kv_pool {
    enum dtype type; /* DT_F32 or DT_BF16 */
    int32_t layers, kv_heads, head_dim, blocks;
    int32_t v_stride;  /* elements from slot to slot of V: head_dim padded to 16 */
    size_t v_offset;   /* bytes from K to V */
    size_t head_bytes; /* K and V of one block and head */
    size_t bytes;
    char *data;
};

static inline char *kv_head(const struct kv_pool *pool, int32_t layer, int32_t block, int32_t head)
{
    size_t index = ((size_t)layer * (size_t)pool->blocks + (size_t)block) * (size_t)pool->kv_heads;
    return pool->data + (index + (size_t)head) * pool->head_bytes;
}

/* --- what the tile functions read */

/* The columns of a token that int8 would spoil, taken out and multiplied in f32.
 *
 * After a norm a few channels are ten and more times larger than the rest, and one scale for the
 * token leaves the others a handful of levels. With W8 weights and 24 windows of wikitext-2
 * SmolLM2-135M's perplexity rises by 3.3 % with one plain scale a token; see docs/benchmarks.md for
 * what each column taken out gives. The idea is LLM.int8()'s (arXiv 2208.07339), with a fixed
 * number of columns chosen for each token by itself, so that the result depends on nothing but the
 * token. */
#define OUTLIERS 4

struct outliers {
    int32_t column[OUTLIERS]; /* in the order of the split: larger first, the lower column among
                                 equals */
    float value[OUTLIERS];    /* 0 where a row has fewer */
};

/* Activations of a product, ready to multiply. W8 and VSQ4z read q8, scale, start and outliers;
 * native f32. */
struct activations {
    const int8_t *q8; /* [rows][q8_stride], zero from cols to the next multiple of 64 */
    int64_t q8_stride;
    const float *scale; /* [rows] value = q8 * scale */
    /* -128 * the sum of q8: what the int32 sums over u8 = weight + 128 begin with. W8 [groups of
     * 64][start_stride] of rows, VSQ4z [1][start_stride]. */
    const int32_t *start;
    int64_t start_stride;
    const int16_t *vector_sum; /* VSQ4z, where the kernels have vector_sums:
                                  [rows][vector_stride] */
    int64_t vector_stride;
    const struct outliers *outliers; /* [rows] */
    const float *f32;                /* [rows][f32_stride] */
    int64_t f32_stride;
};

enum epilogue {
    EPILOGUE_STORE,  /* out = y */
    EPILOGUE_ADD,    /* out += y */
    EPILOGUE_SWIGLU, /* out = silu(gate) * up, two panels make one of out */
};

struct product {
    const struct weight *w;
    struct activations in;
    enum epilogue epilogue;
    float *out; /* [rows][out_stride], outputs padded to 16 */
    int64_t out_stride;
    /* VSQ4z: where the panels that the next tiles read lie expanded; NULL: straight from 4 bits. */
    const unsigned char *expanded[2];
};

/* A run of context slots inside one block and one chunk. */
struct plan_item {
    int32_t block;
    int32_t first; /* slot in the block */
    int32_t count;
    int32_t offset; /* of its first slot within the chunk */
};

/* One chunk of context against a few queries of one kv head. */
struct attend_args {
    const char *kv; /* block 0 of this layer and head */
    size_t block_bytes;
    enum dtype type;
    int32_t head_dim, v_stride;
    size_t v_offset;
    const struct plan_item *items;
    int32_t item_count;
    int32_t items_behind; /* of the following chunks, behind these: soon to be read */
    const char
        *next_kv; /* and behind those, where it is known: block 0 and items of the next unit */
    const struct plan_item *next_items;
    int32_t next_count;
    int32_t queries;
    const float *q; /* [queries][QUERY_STRIDE], times 1 / sqrt(head_dim) */
    const int32_t
        *limit;    /* [queries] slots of the chunk that the query sees, 1 .. 256, ascending */
    float *scores; /* scratch [queries][SCORE_STRIDE] */
    float *m, *l;  /* out [queries]: largest score, sum of exp(score - m) */
    float *o;      /* out [queries][v_stride]: sum of exp(score - m) * v */
};
#define SCORE_STRIDE (ATTENTION_CHUNK + BLOCK_SLOTS)
/* A constant, so that all queries of a register tile have one pointer; an odd number of lines. */
#define QUERY_STRIDE (MAX_HEAD_DIM + CACHE_LINE / 4)

/* One instruction set. */
struct cpu_kernels {
    const char *backend_name;
    int32_t w8_rows, native_rows; /* rows of the largest register tile */
    int32_t vsq4z_rows;           /* the same for VSQ4z straight from 4 bits; 0: none such */
    int32_t expanded_rows;        /* and for expanded panels; 0: none such */

    /* out[i] = x[i] * (1 / sqrt(mean of squares + eps)) * norm[i]; all padded to 16, zeros
     * included. */
    void (*rmsnorm)(const float *x, const float *norm, int64_t count, float eps, float *out);

    /* RoPE: the pairs (x[i], x[i + half]) by the angles whose cosines and sines are given. */
    void (*rotate)(float *x, const float *cosine, const float *sine, int32_t half);
    /* out[i] = float_to_bf16(x[i]); count a multiple of 16. */
    void (*to_bf16)(const float *x, int64_t count, uint16_t *out);

    /* Moves the OUTLIERS values of largest magnitude from x (which gets zeros there) to *outliers.
     */
    void (*split_outliers)(float *x, int64_t count, struct outliers *outliers);

    /* max|x|; x padded to 16. */
    float (*largest)(const float *x, int64_t count);
    /* out = round(x * inverse), to nearest even; returns the sum of out. x and out padded to 16. */
    int32_t (*quantize)(const float *x, int64_t count, float inverse, int8_t *out);
    /* Sums of 16 int8 each; NULL where the VSQ4z products do without. */
    void (*vector_sums)(const int8_t *q8, int64_t vectors, int16_t *sums);

    /* Rows [row, row + rows) (rows <= w8_rows or native_rows) by panels [panel, panel + panels), 1
     * or 2 panels; SwiGLU needs 2. */
    void (*product_w8)(const struct product *p, int64_t panel, int panels, int64_t row, int rows);
    void (*product_native)(const struct product *p, int64_t panel, int panels, int64_t row,
                           int rows);

    void (*product_vsq4z)(const struct product *p, int64_t panel, int panels, int64_t row,
                          int rows);

    /* VSQ4z panel `panel` as u8 = level + 128 (vsq4z_panel.h). */
    void (*expand_vsq4z)(const struct weight *w, int64_t panel, unsigned char *out);

    /* int32 sums of one row and panel, with the bias taken out, as product_* has them (for tests);
     * W8: of one group. */
    void (*sums_w8)(const struct product *p, int64_t panel, int64_t row, int64_t group,
                    int32_t *sums);
    void (*sums_vsq4z)(const struct product *p, int64_t panel, int64_t row, int32_t *sums);

    void (*attend)(const struct attend_args *args);

    /* Takes chunk (mc, lc, oc) into the running (m, l, o) of one query; count is padded to 16. */
    void (*attend_merge)(float *m, float *l, float *o, float mc, float lc, const float *oc,
                         int32_t count);

    void (*exp)(const float *x, int64_t count, float *out); /* count a multiple of 16 (for tests) */
};

extern const struct cpu_kernels cpu_kernels_portable;
#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avx2, cpu_kernels_avx512;
#endif

/* --- the backend */

/* Memory of one member of the pool, grown before a run, never inside one. */
struct member_scratch {
    float *norm_row; /* one normalised row on its way to int8 */
    size_t norm_row_bytes;
    char *activations; /* private copy of a few prepared rows */
    size_t activations_bytes;
    char *expanded; /* two panels of VSQ4z as int8 */
    size_t expanded_bytes;
    char *attention;
    size_t attention_bytes;
};

/* How far a member's share of an operator's units is taken (shares.h). */
struct unit_share {
    _Alignas(CACHE_LINE) _Atomic uint64_t taken;
};

struct attention_plan;

struct cpu_backend {
    struct backend base;    /* first: a struct backend * is a struct cpu_backend * */
    struct backend_ops ops; /* base.ops points here: the name is the instruction set's */
    struct thread_pool *pool;
    int members;
    const struct cpu_kernels *kernels;
    bool hugepages;
    const struct step_input *input; /* borrowed from step_begin to the next */
    struct step_clock *clock;       /* borrowed; NULL: nobody asks */
    enum step_stage projection;     /* what the next linear_add is */

    struct member_scratch *scratch; /* [members] */
    struct unit_share *shares;      /* [members] */
    uint32_t run;                   /* number of the run that the shares belong to */
    struct weight_chunk *chunk;     /* where the next weight goes; NULL: nowhere yet */

    char *shared; /* prepared rows that all members read */
    size_t shared_bytes;
    float *qkv; /* [rows][qkv_stride] of the layer in work */
    size_t qkv_bytes;

    /* cos and sin of the step's rows, [rows][head_dim / 2] each; made by the step's first norm_qkv.
     */
    float *rope_cos, *rope_sin; /* one allocation, at rope_cos */
    size_t rope_bytes;
    const float *rope_freq; /* NULL: not made for this step */
    struct attention_plan *plan;
};

static inline struct cpu_backend *cpu_of(struct backend *backend)
{
    return (struct cpu_backend *)backend;
}

/* What `member` did since the last mark was `stage`. Member 0 is the caller: it alone marks. */
static inline void stage_end(const struct cpu_backend *backend, int member, enum step_stage stage)
{
    if (backend->clock && member == 0) step_clock_mark(backend->clock, stage);
}

/* isa.c: whether this machine can run the tile functions of `isa`. */
bool cpu_isa_supported(enum cpu_isa isa);

/* Returns `old` when it has `bytes` already, else new cache-line aligned memory in its place (old
 * contents are lost). Free with free(). */
void *scratch_reserve(void *old, size_t *have, size_t bytes);

/* weight.c */
enum status cpu_weight_create(struct backend *backend, const struct weight_spec *spec,
                              struct weight **out, struct error *err);
void cpu_weight_free(struct backend *backend, struct weight *weight);
size_t cpu_weight_bytes(const struct weight *weight);
/* Row `output` of the matrix as f32, exactly what products use. */
void weight_row(const struct weight *w, int64_t output, float *out);
float half_to_float(uint16_t half);
uint16_t
float_to_half(float value); /* of a value that a half holds exactly, else rounded to even */

static inline float bf16_to_float(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    __builtin_memcpy(&value, &wide, sizeof value);
    return value;
}

/* Round to nearest even; a NaN stays a NaN. */
static inline uint16_t float_to_bf16(float value)
{
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* linear.c */
void cpu_embed(struct backend *backend, const struct weight *table, struct tensor *x);
void cpu_norm_qkv(struct backend *backend, const struct attention_shape *shape,
                  const struct tensor *x, const struct tensor *norm, float eps,
                  const struct weight *wqkv, const struct tensor *bias, const struct tensor *q_norm,
                  const struct tensor *k_norm, struct kv_pool *pool, int32_t layer,
                  struct tensor *q);
void cpu_linear_add(struct backend *backend, const struct weight *w, const struct tensor *in,
                    struct tensor *x);
void cpu_norm_gate_up(struct backend *backend, const struct tensor *x, const struct tensor *norm,
                      float eps, const struct weight *w_gate_up, struct tensor *out);
void cpu_norm_head(struct backend *backend, const struct tensor *x, const struct tensor *norm,
                   float eps, const struct weight *head, struct tensor *logits);

/* heads.c: from a row of the QKV product to q and the KV pool. */
struct head_job {
    const struct attention_shape *shape;
    const float *bias, *q_norm, *k_norm; /* NULL where the model has none */
    struct kv_pool *pool;
    int32_t layer;
    struct tensor *q;
};
void rope_prepare(struct cpu_backend *backend, const struct attention_shape *shape);
/* Asks for the memory that a K or V head of a row will be written to; nothing for a query head. */
void heads_fetch(const struct cpu_backend *backend, const struct head_job *job, int32_t row,
                 int32_t head);
/* Heads [first, last) of heads + 2 kv_heads (q, k, v) of one row. */
void heads_finish(struct cpu_backend *backend, const struct head_job *job, int32_t row,
                  const float *qkv, int32_t first, int32_t last);

/* attention.c */
void cpu_attention(struct backend *backend, const struct attention_shape *shape,
                   const struct tensor *q, const struct kv_pool *pool, int32_t layer,
                   struct tensor *out);

#endif
