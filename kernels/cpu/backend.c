/* The CPU backend's life and memory: tensors, KV pools, scratch, the start of a step. */
#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

void *scratch_reserve(void *old, size_t *have, size_t bytes)
{
    if (bytes <= *have) return old;
    free(old);
    size_t size = (size_t)round_up((int64_t)bytes, CACHE_LINE);
    *have = size;
    return must_alloc_aligned(CACHE_LINE, size);
}

/* --- tensors */

static struct tensor *tensor_create(struct backend *backend, int64_t rows, int64_t cols)
{
    uint64_t bytes;
    if (rows <= 0 || cols <= 0 || cols > INT32_MAX ||
        !checked_mul((uint64_t)rows, (uint64_t)row_stride(cols * 4), &bytes))
        return NULL;
    struct tensor *tensor = must_alloc(sizeof *tensor);
    tensor->rows = rows;
    tensor->cols = cols;
    tensor->stride = row_stride(cols * 4) / 4;
    tensor->bytes = bytes;
    tensor->data = pages_alloc(bytes, cpu_of(backend)->hugepages && bytes >= (2u << 20));
    if (tensor->data) return tensor;
    free(tensor);
    return NULL;
}

static void tensor_free(struct backend *backend, struct tensor *tensor)
{
    (void)backend;
    if (!tensor) return;
    pages_free(tensor->data, tensor->bytes);
    free(tensor);
}

static float *tensor_row(const struct tensor *tensor, int64_t row)
{
    invariant(row >= 0 && row < tensor->rows, "row %lld of %lld", (long long)row,
              (long long)tensor->rows);
    return tensor->data + row * tensor->stride;
}

static void tensor_read(struct backend *backend, const struct tensor *tensor, int64_t row,
                        float *out)
{
    (void)backend;
    memcpy(out, tensor_row(tensor, row), (size_t)tensor->cols * sizeof(float));
}

static void tensor_write(struct backend *backend, struct tensor *tensor, int64_t row,
                         const float *in)
{
    (void)backend;
    memcpy(tensor_row(tensor, row), in, (size_t)tensor->cols * sizeof(float));
}

/* --- KV */

static struct kv_pool *kv_create(struct backend *backend, enum dtype type, int32_t layers,
                                 int32_t kv_heads, int32_t head_dim, int32_t blocks)
{
    invariant(type == DT_F32 || type == DT_BF16, "KV in %s", dtype_name(type));
    invariant(layers > 0 && kv_heads > 0 && blocks > 0,
              "a KV pool of %d layers, %d heads, %d blocks", layers, kv_heads, blocks);
    invariant(head_dim > 0 && head_dim % 2 == 0 && head_dim <= MAX_HEAD_DIM, "head_dim %d",
              head_dim);
    struct kv_pool *pool = must_alloc(sizeof *pool);
    size_t element = type == DT_F32 ? 4 : 2;
    *pool = (struct kv_pool){.type = type,
                             .layers = layers,
                             .kv_heads = kv_heads,
                             .head_dim = head_dim,
                             .blocks = blocks};
    pool->v_stride = (int32_t)round_up(head_dim, 16);
    pool->v_offset = (size_t)head_dim * BLOCK_SLOTS * element;
    pool->head_bytes = pool->v_offset + (size_t)pool->v_stride * BLOCK_SLOTS * element;
    uint64_t bytes;
    if (checked_mul((uint64_t)layers * (uint64_t)kv_heads, (uint64_t)blocks, &bytes) &&
        checked_mul(bytes, pool->head_bytes, &bytes)) {
        pool->bytes = bytes;
        pool->data = pages_alloc(bytes, cpu_of(backend)->hugepages);
    }
    if (pool->data) return pool;
    free(pool);
    return NULL;
}

static void kv_free(struct backend *backend, struct kv_pool *pool)
{
    (void)backend;
    if (!pool) return;
    pages_free(pool->data, pool->bytes);
    free(pool);
}

static void kv_copy(struct backend *backend, struct kv_pool *pool, int32_t from_block,
                    int32_t to_block, int32_t slots)
{
    (void)backend;
    invariant(from_block >= 0 && from_block < pool->blocks && to_block >= 0 &&
                  to_block < pool->blocks && from_block != to_block,
              "a copy of block %d to block %d of %d", from_block, to_block, pool->blocks);
    invariant(slots > 0 && slots < BLOCK_SLOTS, "a copy of %d slots", slots);
    size_t element = pool->type == DT_F32 ? 4 : 2;
    size_t k_row = BLOCK_SLOTS * element, k_used = (size_t)slots * element;
    size_t v_used = (size_t)slots * (size_t)pool->v_stride * element;
    for (int32_t layer = 0; layer < pool->layers; layer++)
        for (int32_t head = 0; head < pool->kv_heads; head++) {
            const char *from = kv_head(pool, layer, from_block, head);
            char *to = kv_head(pool, layer, to_block, head);
            for (int32_t d = 0; d < pool->head_dim; d++)
                memcpy(to + (size_t)d * k_row, from + (size_t)d * k_row, k_used);
            memcpy(to + pool->v_offset, from + pool->v_offset, v_used);
        }
}

/* --- a step */

static void step_begin(struct backend *backend, const struct step_input *input)
{
    struct cpu_backend *cpu = cpu_of(backend);
    cpu->input = input;
    cpu->rope_freq = NULL;
    attention_plan_begin(cpu->plan, input);
    stage_end(cpu, 0, STEP_REST);
}

static void step_clock(struct backend *backend, struct step_clock *clock)
{
    cpu_of(backend)->clock = clock;
}

static void backend_free(struct backend *backend)
{
    if (!backend) return;
    struct cpu_backend *cpu = cpu_of(backend);
    for (int i = 0; i < cpu->members; i++) {
        free(cpu->scratch[i].norm_row);
        free(cpu->scratch[i].activations);
        free(cpu->scratch[i].expanded);
        free(cpu->scratch[i].attention);
    }
    free(cpu->scratch);
    free(cpu->shares);
    free(cpu->shared);
    free(cpu->qkv);
    free(cpu->rope_cos);
    attention_plan_free(cpu->plan);
    free(cpu);
}

static const struct backend_ops cpu_ops = {
    .free = backend_free,
    .tensor_create = tensor_create,
    .tensor_free = tensor_free,
    .tensor_read = tensor_read,
    .tensor_write = tensor_write,
    .weight_create = cpu_weight_create,
    .weight_free = cpu_weight_free,
    .weight_bytes = cpu_weight_bytes,
    .kv_create = kv_create,
    .kv_free = kv_free,
    .kv_copy = kv_copy,
    .step_begin = step_begin,
    .embed = cpu_embed,
    .norm_qkv = cpu_norm_qkv,
    .attention = cpu_attention,
    .linear_add = cpu_linear_add,
    .norm_gate_up = cpu_norm_gate_up,
    .norm_head = cpu_norm_head,
    .step_clock = step_clock,
};

static const struct cpu_kernels *kernels_of(enum cpu_isa isa)
{
#if defined(__x86_64__)
    if (isa == CPU_AVX512) return &cpu_kernels_avx512;
    if (isa == CPU_AVX2) return &cpu_kernels_avx2;
#endif
    invariant(isa == CPU_PORTABLE, "no tile functions for %s", cpu_isa_name(isa));
    return &cpu_kernels_portable;
}

enum status backend_cpu_create(struct thread_pool *pool, enum cpu_isa isa, bool hugepages,
                               struct backend **out, struct error *err)
{
    if (isa == CPU_AUTO) {
        enum status status = cpu_isa_select(&isa, err);
        if (status) return status;
    } else if (!cpu_isa_supported(isa)) {
        return fail(err, ST_NO_DEVICE, "instruction set %s: this machine lacks it",
                    cpu_isa_name(isa));
    }
    struct cpu_backend *cpu = must_alloc(sizeof *cpu);
    cpu->kernels = kernels_of(isa);
    cpu->ops = cpu_ops;
    cpu->ops.name = cpu->kernels->backend_name;
    cpu->base.ops = &cpu->ops;
    cpu->pool = pool;
    cpu->members = thread_pool_size(pool);
    cpu->hugepages = hugepages;
    cpu->scratch = must_alloc((size_t)cpu->members * sizeof *cpu->scratch);
    cpu->shares = must_alloc_aligned(CACHE_LINE, (size_t)cpu->members * sizeof *cpu->shares);
    cpu->plan = attention_plan_create();
    *out = &cpu->base;
    return ST_OK;
}
