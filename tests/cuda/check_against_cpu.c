/* check_against_cpu: the CUDA kernels on the emulator against kernels/cpu, for every instruction
 * set that this machine has. One matrix and one row are the same numbers for both backends:
 *   - int8, scales and outliers of a row, bit for bit;
 *   - int32 sums: products of integers that stay exact in f32, seen through linear_add;
 *   - logits of norm_head, bit for bit. Not with the portable functions: they have no fused
 *     multiply-add, so the mean of squares and the outliers' products round differently there.
 * The last line counts. */
#include "kernels/cpu/cpu.h"
#include "kernels/cuda/cuda.h"
#include "tests/cuda/kernel_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what both backends multiply */

struct problem {
    int32_t rows, outputs, cols;
    bool integers;
    float *x, *norm; /* [rows][stride], [cols]; x of integers up to 127 when `integers` */
    int64_t stride;  /* cols up to the next multiple of 16, zeros there */
    struct vsq4z_matrix w;
};

static struct vsq4z_matrix random_weights(struct rng *rng, int64_t rows, int64_t cols, bool unit)
{
    size_t n = (size_t)rows, vectors = (size_t)vsq4z_vectors(cols);
    struct vsq4z_arrays a = {.codes = must_alloc(n * (size_t)vsq4z_code_bytes(cols)),
                             .scales = must_alloc(n * (size_t)vsq4z_scale_bytes(cols)),
                             .zeros = must_alloc(n * (size_t)vsq4z_zero_bytes(cols)),
                             .row_scale = must_alloc(n * sizeof(float))};
    struct vsq4z_row row = {.cols = cols,
                            .codes = must_alloc(vectors * VSQ4Z_VECTOR),
                            .scales = must_alloc(vectors),
                            .zeros = must_alloc(vectors)};
    for (int64_t r = 0; r < rows; r++) {
        row.row_scale = unit ? 1 : (float)rng_unit(rng) * 0.01f;
        for (size_t v = 0; v < vectors; v++) {
            row.scales[v] = (uint8_t)rng_below(rng, VSQ4Z_MAX_SCALE + 1);
            row.zeros[v] = (uint8_t)(7 + rng_below(rng, 2));
        }
        for (size_t k = 0; k < vectors * VSQ4Z_VECTOR; k++)
            row.codes[k] = (int64_t)k < cols ? (uint8_t)rng_below(rng, VSQ4Z_MAX_CODE + 1)
                                             : row.zeros[k / VSQ4Z_VECTOR];
        vsq4z_store_row(&row, r, &a);
    }
    free(row.codes);
    free(row.scales);
    free(row.zeros);
    return (struct vsq4z_matrix){rows, cols, a.codes, a.scales, a.zeros, a.row_scale};
}

static float random_value(struct rng *rng, bool integer)
{
    if (!integer) return (float)rng_normal(rng) * (rng_below(rng, 50) ? 1 : 20);
    return (float)((int32_t)rng_below(rng, 255) - 127);
}

static struct problem problem_create(int32_t rows, int32_t outputs, int32_t cols, bool integers)
{
    struct rng rng = {(uint64_t)(rows * 31 + outputs * 7 + cols)};
    struct problem p = {rows, outputs, cols, integers, NULL, NULL, round_up(cols, 16), {0}};
    p.x = must_alloc_aligned(64, (size_t)(rows * p.stride) * sizeof(float));
    p.norm = must_alloc_aligned(64, (size_t)p.stride * sizeof(float));
    memset(p.x, 0, (size_t)(rows * p.stride) * sizeof(float));
    memset(p.norm, 0, (size_t)p.stride * sizeof(float));
    for (int32_t row = 0; row < rows; row++)
        for (int32_t k = 0; k < cols; k++)
            /* six of 127: four are taken out, and the scale of the rest is exactly 1 */
            p.x[row * p.stride + k] = integers && k < 6 ? 127 : random_value(&rng, integers);
    for (int32_t k = 0; k < cols; k++)
        p.norm[k] = 0.5f + (float)rng_unit(&rng);
    p.w = random_weights(&rng, outputs, cols, integers);
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->x);
    free(p->norm);
    free((void *)p->w.codes);
    free((void *)p->w.scales);
    free((void *)p->w.zeros);
    free((void *)p->w.row_scale);
}

/* --- through kernels/cuda */

struct cuda_result {
    int8_t *q8; /* [rows][stride] */
    float *scale;
    struct cuda_outliers *outliers;
    float *out; /* [rows][outputs] */
};

static void *read_back(void *device, size_t bytes)
{
    void *copy = host_blank(bytes);
    device_read(copy, device, bytes);
    device_free(device);
    return copy;
}

static struct cuda_result cuda_run(const struct problem *p, bool norm, struct tally *tally)
{
    size_t n = (size_t)p->rows, out_bytes = n * (size_t)p->outputs * sizeof(float);
    size_t tile_bytes = cuda_vsq4z_tile_bytes(p->outputs, p->cols);
    uint8_t *tiles = host_blank(tile_bytes);
    cuda_vsq4z_pack(&p->w, tiles);
    void *x = device_copy(p->x, n * (size_t)p->stride * sizeof(float));
    void *weights = device_copy(p->norm, (size_t)p->stride * sizeof(float));
    struct cuda_activations a = {p->rows,
                                 p->cols,
                                 p->stride,
                                 device_blank(n * (size_t)p->stride),
                                 device_blank(n * sizeof(float)),
                                 device_blank(n * sizeof(int32_t)),
                                 device_blank(n * sizeof(struct cuda_outliers))};
    struct cuda_norm_args rows = {x, p->stride, norm ? weights : NULL, 1e-5f, a};
    expect(tally, cuda_rmsnorm_quantize(&rows, NULL) == ST_OK, "norm: launch");
    struct cuda_gemm_args gemm = {{p->outputs, p->cols, device_copy(tiles, tile_bytes),
                                   device_copy(p->w.row_scale, (size_t)p->outputs * sizeof(float))},
                                  a,
                                  device_blank(out_bytes),
                                  p->outputs,
                                  NULL};
    expect(tally, cuda_vsq4z_gemm(&gemm, NULL) == ST_OK, "GEMM: launch");
    struct cuda_result result = {
        read_back(a.q8, n * (size_t)p->stride), read_back(a.scale, n * sizeof(float)),
        read_back(a.outliers, n * sizeof(struct cuda_outliers)), read_back(gemm.out, out_bytes)};
    device_free(a.sum);
    device_free((void *)gemm.w.tiles);
    device_free((void *)gemm.w.row_scale);
    device_free(x);
    device_free(weights);
    free(tiles);
    return result;
}

static void cuda_result_free(struct cuda_result *result)
{
    free(result->q8);
    free(result->scale);
    free(result->outliers);
    free(result->out);
}

/* --- through kernels/cpu */

static void step_begin(struct backend *backend, int32_t rows)
{
    static int32_t numbers[CUDA_GEMM_ROWS], block;
    static int64_t slots[CUDA_GEMM_ROWS];
    static struct attention_span span;
    static struct attention_sequence sequence;
    static struct step_input input; /* stays valid until the next step */
    int32_t seen = min_i32(rows, BLOCK_SLOTS);
    for (int32_t i = 0; i < rows; i++)
        numbers[i] = i, slots[i] = i % BLOCK_SLOTS;
    span = (struct attention_span){&block, 0, seen};
    sequence =
        (struct attention_sequence){.rows = seen, .context = 1, .spans = &span, .span_count = 1};
    input = (struct step_input){rows, numbers, numbers, slots, &sequence, 1, numbers, rows};
    backend->ops->step_begin(backend, &input);
}

static struct tensor *tensor_of(struct backend *backend, int64_t rows, int64_t cols,
                                const float *values, int64_t stride)
{
    struct tensor *tensor = backend->ops->tensor_create(backend, rows, cols);
    invariant(tensor, "out of memory");
    for (int64_t row = 0; values && row < rows; row++)
        backend->ops->tensor_write(backend, tensor, row, values + row * stride);
    return tensor;
}

/* [rows][outputs]: norm_head with `norm`, linear_add onto zeros without. Caller frees. */
static float *cpu_run(struct backend *backend, const struct problem *p, bool norm)
{
    const struct backend_ops *ops = backend->ops;
    struct weight_source source = {.rows = p->outputs, .vsq4z = &p->w};
    struct weight_spec spec = {
        .format = WEIGHT_VSQ4Z, .parts = &source, .part_count = 1, .cols = p->cols};
    struct weight *weight = NULL;
    struct error err = {0};
    invariant(ops->weight_create(backend, &spec, &weight, &err) == ST_OK, "%s", err.text);
    struct tensor *x = tensor_of(backend, p->rows, p->cols, p->x, p->stride);
    struct tensor *weights = tensor_of(backend, 1, p->cols, p->norm, p->stride);
    struct tensor *out = tensor_of(backend, p->rows, p->outputs, NULL, 0);
    float *values = must_alloc((size_t)p->rows * (size_t)p->outputs * sizeof(float));
    for (int32_t row = 0; row < p->rows; row++)
        ops->tensor_write(backend, out, row, values); /* zeros */
    step_begin(backend, p->rows);
    if (norm)
        ops->norm_head(backend, x, weights, 1e-5f, weight, out);
    else
        ops->linear_add(backend, weight, x, out);
    for (int32_t row = 0; row < p->rows; row++)
        ops->tensor_read(backend, out, row, values + (size_t)row * (size_t)p->outputs);
    ops->tensor_free(backend, x);
    ops->tensor_free(backend, weights);
    ops->tensor_free(backend, out);
    ops->weight_free(backend, weight);
    return values;
}

/* A row as linear.c prepares it, against what the CUDA kernel made of it. */
static void check_row(struct tally *tally, const struct cpu_kernels *kernels,
                      const struct problem *p, bool norm, int32_t row,
                      const struct cuda_result *found)
{
    float *h = must_alloc_aligned(64, (size_t)p->stride * sizeof(float));
    int8_t *q8 = must_alloc_aligned(64, (size_t)p->stride);
    const float *x = p->x + row * p->stride;
    struct outliers outliers;
    if (norm)
        kernels->rmsnorm(x, p->norm, p->cols, 1e-5f, h);
    else
        memcpy(h, x, (size_t)p->stride * sizeof(float));
    kernels->split_outliers(h, p->cols, &outliers);
    float largest = kernels->largest(h, p->cols), scale = largest / 127.0f;
    kernels->quantize(h, p->cols, 127.0f / largest, q8);
    const char *name = kernels->backend_name;
    expect(tally, memcmp(q8, found->q8 + row * p->stride, (size_t)p->stride) == 0,
           "%s: int8 of row %d", name, row);
    expect(tally, memcmp(&scale, &found->scale[row], sizeof scale) == 0, "%s: scale of row %d",
           name, row);
    _Static_assert(sizeof outliers == sizeof *found->outliers, "the same struct");
    expect(tally, memcmp(&outliers, &found->outliers[row], sizeof outliers) == 0,
           "%s: outliers of row %d", name, row);
    free(h);
    free(q8);
}

static void check_problem(struct tally *tally, struct backend *backend, const struct problem *p,
                          bool norm)
{
    struct cuda_result found = cuda_run(p, norm, tally);
    float *right = cpu_run(backend, p, norm);
    for (int32_t row = 0; row < p->rows; row++)
        check_row(tally, ((struct cpu_backend *)backend)->kernels, p, norm, row, &found);
    size_t count = (size_t)p->rows * (size_t)p->outputs, different = 0;
    for (size_t i = 0; i < count; i++)
        different += found.out[i] != right[i];
    expect(tally, different == 0, "%s, %d x %d x %d%s%s: %zu of %zu values differ",
           backend->ops->name, p->rows, p->outputs, p->cols, p->integers ? ", integers" : "",
           norm ? ", normalised" : "", different, count);
    free(right);
    cuda_result_free(&found);
}

static void check_isa(struct tally *tally, enum cpu_isa isa)
{
    struct thread_pool *pool = NULL;
    struct backend *backend = NULL;
    struct error err = {0};
    invariant(thread_pool_create(2, &pool, &err) == ST_OK, "%s", err.text);
    invariant(backend_cpu_create(pool, isa, false, &backend, &err) == ST_OK, "%s", err.text);
    static const int32_t shapes[][3] = {{1, 40, 576}, {5, 33, 100}, {24, 48, 208}, {64, 20, 144}};
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        struct problem p = problem_create(shapes[i][0], shapes[i][1], shapes[i][2], true);
        check_problem(tally, backend, &p, false);
        problem_free(&p);
        if (isa == CPU_PORTABLE) continue;
        p = problem_create(shapes[i][0], shapes[i][1], shapes[i][2], false);
        check_problem(tally, backend, &p, false);
        check_problem(tally, backend, &p, true);
        problem_free(&p);
    }
    backend->ops->free(backend);
    thread_pool_free(pool);
}

int main(void)
{
    struct tally tally = {0};
    const enum cpu_isa isas[] = {CPU_PORTABLE, CPU_AVX2, CPU_AVX512};
    for (size_t i = 0; i < COUNT_OF(isas); i++)
        if (cpu_isa_supported(isas[i]))
            check_isa(&tally, isas[i]);
        else
            printf("%s: not on this machine\n", cpu_isa_name(isas[i]));
    printf("%d passed, %d failed\n", tally.passed, tally.failed);
    return tally.failed != 0;
}
