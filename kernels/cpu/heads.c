/* From a row of the QKV product to the query and the KV pool: bias, QK norm, RoPE, append.
 *
 * RoPE rotates the pairs (i, i + head_dim / 2) by position * inv_freq[i], an angle rounded to f32
 * as the reference implementations have it; cos and sin are taken in double once a step and shared
 * by all layers. K goes to [head_dim][16 slots]: one float into every 16th place. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

struct rope_job {
    struct cpu_backend *backend;
    const struct attention_shape *shape;
};

static void rope_rows(void *argument, int64_t begin, int64_t end, int member)
{
    (void)member;
    const struct rope_job *job = argument;
    const struct attention_shape *shape = job->shape;
    int32_t half = shape->head_dim / 2;
    for (int64_t row = begin; row < end; row++) {
        float position = (float)job->backend->input->positions[row];
        for (int32_t i = 0; i < half; i++) {
            double angle = (double)(position * shape->inv_freq[i]);
            job->backend->rope_cos[row * half + i] = (float)cos(angle) * shape->rope_scale;
            job->backend->rope_sin[row * half + i] = (float)sin(angle) * shape->rope_scale;
        }
    }
}

void rope_prepare(struct cpu_backend *backend, const struct attention_shape *shape)
{
    if (backend->rope_freq == shape->inv_freq) return;
    int64_t rows = backend->input->rows;
    size_t count = (size_t)rows * (size_t)shape->head_dim / 2;
    backend->rope_cos =
        scratch_reserve(backend->rope_cos, &backend->rope_bytes, 2 * count * sizeof(float));
    backend->rope_sin = backend->rope_cos + count;
    struct rope_job job = {backend, shape};
    thread_pool_for(backend->pool, rows, 16, rope_rows, &job);
    stage_end(backend, 0, STEP_HEADS);
    backend->rope_freq = shape->inv_freq;
}

/* K and V in the pool's type: f32, or bf16 in `halves`. */
static const void *in_pool_type(const struct cpu_backend *backend, const struct kv_pool *pool,
                                const float *x, uint16_t *halves)
{
    if (pool->type == DT_F32) return x;
    backend->kernels->to_bf16(x, pool->v_stride, halves);
    return halves;
}

static void append_k(const struct kv_pool *pool, char *block, int32_t slot, const void *k)
{
    for (int32_t d = 0; d < pool->head_dim; d++) {
        int32_t at = d * BLOCK_SLOTS + slot;
        if (pool->type == DT_F32)
            ((float *)block)[at] = ((const float *)k)[d];
        else
            ((uint16_t *)block)[at] = ((const uint16_t *)k)[d];
    }
}

static void append_v(const struct kv_pool *pool, char *block, int32_t slot, const void *v)
{
    size_t bytes = (size_t)pool->v_stride * (pool->type == DT_F32 ? 4 : 2);
    memcpy(block + pool->v_offset + (size_t)slot * bytes, v, bytes);
}

/* A row's K lies in a cache line for each two values, and since the last step none of them has been
 * near. */
void heads_fetch(const struct cpu_backend *backend, const struct head_job *job, int32_t row,
                 int32_t head)
{
    const struct kv_pool *pool = job->pool;
    int32_t kv = head - job->shape->heads;
    if (kv < 0) return;
    bool is_v = kv >= job->shape->kv_heads;
    int64_t place = backend->input->slots[row];
    size_t element = pool->type == DT_F32 ? 4 : 2, slot = (size_t)(place % BLOCK_SLOTS);
    const char *block = kv_head(pool, job->layer, (int32_t)(place / BLOCK_SLOTS),
                                is_v ? kv - job->shape->kv_heads : kv);
    size_t v_bytes = (size_t)pool->v_stride * element;
    const char *from = is_v ? block + pool->v_offset + slot * v_bytes : block + slot * element;
    const char *end = is_v ? from + v_bytes : block + pool->v_offset;
    for (; from < end; from += CACHE_LINE)
        __builtin_prefetch(from, 1);
}

void heads_finish(struct cpu_backend *backend, const struct head_job *job, int32_t row,
                  const float *qkv, int32_t first, int32_t last)
{
    const struct attention_shape *shape = job->shape;
    int32_t dim = shape->head_dim, half = dim / 2;
    const float *cosine = backend->rope_cos + (int64_t)row * half;
    const float *sine = backend->rope_sin + (int64_t)row * half;
    int64_t place = backend->input->slots[row];
    int32_t block = (int32_t)(place / BLOCK_SLOTS), slot = (int32_t)(place % BLOCK_SLOTS);
    float x[MAX_HEAD_DIM];
    uint16_t halves[MAX_HEAD_DIM];
    for (int32_t h = first; h < last; h++) {
        int32_t kv = h - shape->heads; /* below 0: a query head; K heads, then V heads */
        bool is_v = kv >= shape->kv_heads;
        memcpy(x, qkv + (int64_t)h * dim, (size_t)dim * sizeof(float));
        for (int32_t i = dim; i < round_up(dim, 16); i++)
            x[i] = 0;
        if (job->bias)
            for (int32_t i = 0; i < dim; i++)
                x[i] += job->bias[h * dim + i];
        const float *norm = kv < 0 ? job->q_norm : is_v ? NULL : job->k_norm;
        if (norm) backend->kernels->rmsnorm(x, norm, dim, shape->eps, x);
        if (!is_v) backend->kernels->rotate(x, cosine, sine, half);
        if (kv < 0) {
            memcpy(job->q->data + row * job->q->stride + (int64_t)h * dim, x,
                   (size_t)dim * sizeof(float));
            continue;
        }
        char *to = kv_head(job->pool, job->layer, block, is_v ? kv - shape->kv_heads : kv);
        (is_v ? append_v : append_k)(job->pool, to, slot,
                                     in_pool_type(backend, job->pool, x, halves));
    }
}
