#include "tests/cuda/kernel_cases.h"

#include "base/rng.h"
#include "kernels/cuda/cuda.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- memory */

static void *must(void *memory)
{
    if (memory) return memory;
    fprintf(stderr, "out of memory\n");
    exit(2);
}

void *host_blank(size_t count)
{
    return memset(must(aligned_alloc(64, (count + 64) / 64 * 64)), 0xff, count);
}

void *device_blank(size_t count)
{
    void *memory = NULL;
    if (cudaMalloc(&memory, count) || cudaMemset(memory, 0xff, count)) memory = NULL;
    return must(memory);
}

void *device_copy(const void *bytes, size_t count)
{
    void *memory = device_blank(count);
    if (cudaMemcpy(memory, bytes, count, cudaMemcpyHostToDevice)) memory = NULL;
    return must(memory);
}

void device_read(void *to, const void *from, size_t count)
{
    if (cudaMemcpy(to, from, count, cudaMemcpyDeviceToHost)) must(NULL);
}

void device_free(void *memory)
{
    if (cudaFree(memory)) must(NULL);
}

void expect(struct tally *tally, int good, const char *format, ...)
{
    if (good) {
        tally->passed++;
        return;
    }
    tally->failed++;
    va_list arguments;
    va_start(arguments, format);
    printf("failed: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    if (tally->stop) exit(1);
}

/* Whether `count` bytes on the device are those on the host; frees the device's. */
static bool same_bytes(void *device, const void *host, size_t count)
{
    void *copy = host_blank(count);
    device_read(copy, device, count);
    bool same = memcmp(copy, host, count) == 0;
    free(copy);
    device_free(device);
    return same;
}

/* --- activations of both sides */

struct sides {
    struct cuda_activations host, device;
};

static size_t q8_bytes(const struct cuda_activations *a)
{
    return (size_t)(a->rows * a->q8_stride);
}

static struct cuda_activations blank(int64_t rows, int64_t cols, int64_t q8_stride,
                                     void *(*allocate)(size_t))
{
    size_t n = (size_t)rows;
    return (struct cuda_activations){rows,
                                     cols,
                                     q8_stride,
                                     allocate(n * (size_t)q8_stride),
                                     allocate(n * sizeof(float)),
                                     allocate(n * sizeof(int32_t)),
                                     allocate(n * sizeof(struct cuda_outliers))};
}

static void host_activations_free(struct cuda_activations *a)
{
    free(a->q8);
    free(a->scale);
    free(a->sum);
    free(a->outliers);
}

/* Compares, and frees both. */
static void expect_same_activations(struct tally *tally, struct sides *s, const char *name)
{
    size_t n = (size_t)s->host.rows;
    expect(tally, same_bytes(s->device.q8, s->host.q8, q8_bytes(&s->host)), "%s: int8", name);
    expect(tally, same_bytes(s->device.scale, s->host.scale, n * sizeof(float)), "%s: scales",
           name);
    expect(tally, same_bytes(s->device.sum, s->host.sum, n * sizeof(int32_t)), "%s: sums", name);
    expect(tally,
           same_bytes(s->device.outliers, s->host.outliers, n * sizeof(struct cuda_outliers)),
           "%s: outliers", name);
    host_activations_free(&s->host);
}

/* --- the norm */

static float plain_value(struct rng *rng)
{
    return (float)(rng_unit(rng) * 4 - 2);
}

static float few_outliers(struct rng *rng)
{
    return plain_value(rng) * (rng_below(rng, 40) ? 1.0f : 60.0f);
}

static float equal_magnitudes(struct rng *rng)
{
    return rng_below(rng, 2) ? 1.5f : -1.5f;
}

static float nearly_all_zero(struct rng *rng)
{
    return rng_below(rng, 30) ? 0.0f : plain_value(rng);
}

static float all_zero(struct rng *rng)
{
    return rng_below(rng, 2) ? 0.0f : -0.0f;
}

static float tiny(struct rng *rng)
{
    return plain_value(rng) * 1e-39f;
}

static float halves(struct rng *rng) /* scale 1 where 127 is the fifth largest: ties to even */
{
    return rng_below(rng, 6) ? (float)rng_below(rng, 250) * 0.5f : 127.0f;
}

static float wide(struct rng *rng)
{
    return ldexpf(plain_value(rng), (int)rng_below(rng, 250) - 125);
}

static float with_infinities(struct rng *rng)
{
    return rng_below(rng, 20) ? plain_value(rng) : INFINITY;
}

static float with_nan(struct rng *rng)
{
    return rng_below(rng, 20) ? plain_value(rng) : NAN;
}

static const struct {
    const char *name;
    float (*value)(struct rng *);
} PATTERNS[] = {{"plain", plain_value},
                {"outliers", few_outliers},
                {"equal", equal_magnitudes},
                {"nearly zero", nearly_all_zero},
                {"zero", all_zero},
                {"tiny", tiny},
                {"halves", halves},
                {"wide", wide},
                {"infinities", with_infinities},
                {"NaN", with_nan}};
enum { PATTERN_COUNT = sizeof PATTERNS / sizeof PATTERNS[0] };

static float *random_values(size_t count, float (*value)(struct rng *), struct rng *rng)
{
    float *x = host_blank(count * sizeof(float));
    for (size_t i = 0; i < count; i++)
        x[i] = value(rng);
    return x;
}

static void norm_case(struct tally *tally, int64_t rows, int64_t cols, bool norm, int pattern)
{
    struct rng rng = {(uint64_t)(rows * 1000003 + cols * 101 + pattern)};
    int64_t x_stride = (cols + 3) / 4 * 4 + 4, q8_stride = (cols + 15) / 16 * 16 + 16;
    size_t x_bytes = (size_t)(rows * x_stride) * sizeof(float), norm_bytes = (size_t)cols * 4;
    float *x = random_values((size_t)(rows * x_stride), PATTERNS[pattern].value, &rng);
    float *weights = random_values((size_t)cols, plain_value, &rng);
    for (int64_t row = 0; row < rows; row++) /* behind a row is what must not be read */
        for (int64_t k = cols; k < x_stride; k++)
            x[row * x_stride + k] = 1e30f;
    struct sides s = {blank(rows, cols, q8_stride, host_blank),
                      blank(rows, cols, q8_stride, device_blank)};
    struct cuda_norm_args host = {x, x_stride, norm ? weights : NULL, 1e-5f, s.host};
    cuda_rmsnorm_quantize_reference(&host);
    float *device_x = device_copy(x, x_bytes), *device_weights = device_copy(weights, norm_bytes);
    struct cuda_norm_args device = {device_x, x_stride, norm ? device_weights : NULL, 1e-5f,
                                    s.device};
    char name[100];
    snprintf(name, sizeof name, "norm of %lld x %lld, %s%s", (long long)rows, (long long)cols,
             PATTERNS[pattern].name, norm ? "" : ", without norm");
    expect(tally, cuda_rmsnorm_quantize(&device, NULL) == ST_OK, "%s: launch", name);
    expect_same_activations(tally, &s, name);
    device_free(device_x);
    device_free(device_weights);
    free(x);
    free(weights);
}

void norm_cases(struct tally *tally)
{
    static const int64_t cols[] = {1, 3, 4, 15, 16, 17, 33, 100, 576};
    for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++)
        norm_case(tally, 1 + (int64_t)c % 3, cols[c], c % 2, 0);
    for (int pattern = 0; pattern < PATTERN_COUNT; pattern++) {
        norm_case(tally, 2, 203, true, pattern);
        norm_case(tally, 2, 1100, false, pattern);
    }
    norm_case(tally, 64, 40, true, 1);
    /* as many as a chunk of the sum has, one more, and several chunks */
    norm_case(tally, 1, 2048, true, 1);
    norm_case(tally, 2, 2049, true, 1);
    norm_case(tally, 1, 6151, true, 0);
}

/* --- the GEMM */

/* Weights and activations of extreme values, or of any. */
enum extremes { ANY, LARGEST, SMALLEST, ALTERNATING, EXTREMES };

static struct vsq4z_matrix random_matrix(int64_t rows, int64_t cols, enum extremes kind,
                                         struct rng *rng)
{
    size_t n = (size_t)rows, codes = n * (size_t)vsq4z_code_bytes(cols);
    size_t scales = n * (size_t)vsq4z_scale_bytes(cols), zeros = n * (size_t)vsq4z_zero_bytes(cols);
    uint8_t *c = host_blank(codes), *s = host_blank(scales), *z = host_blank(zeros);
    float *row_scale = host_blank(n * sizeof(float));
    static const uint8_t code[EXTREMES] = {0, 0xff, 0x00, 0x0f};
    for (size_t i = 0; i < codes; i++)
        c[i] = kind == ANY ? (uint8_t)rng_below(rng, 256) : code[kind];
    for (size_t i = 0; i < scales; i++)
        s[i] = kind == ANY ? (uint8_t)rng_below(rng, 256) : 0xff;
    for (size_t i = 0; i < zeros; i++) /* 15 - 7 and 0 - 8 are the largest levels */
        z[i] = kind == ANY ? (uint8_t)rng_below(rng, 256) : kind == LARGEST ? 0 : 0xff;
    for (size_t i = 0; i < n; i++)
        row_scale[i] = (float)rng_unit(rng) * 0.01f;
    return (struct vsq4z_matrix){rows, cols, c, s, z, row_scale};
}

static void matrix_free(struct vsq4z_matrix *m)
{
    free((void *)m->codes);
    free((void *)m->scales);
    free((void *)m->zeros);
    free((void *)m->row_scale);
}

/* Columns where tiles and slabs end, and any. */
static int32_t outlier_column(int64_t cols, int o, struct rng *rng)
{
    static const int32_t edges[] = {0, 15, 16, 127, 128, 255, 256, 511, 512, 1023};
    int32_t edge = edges[rng_below(rng, sizeof edges / sizeof edges[0])];
    if (o == 0) return (int32_t)cols - 1;
    return edge < cols && o % 2 ? edge : (int32_t)rng_below(rng, (uint32_t)cols);
}

static struct cuda_activations random_activations(int64_t rows, int64_t cols, enum extremes kind,
                                                  struct rng *rng)
{
    struct cuda_activations a = blank(rows, cols, (cols + 15) / 16 * 16 + 16, host_blank);
    for (int64_t row = 0; row < rows; row++) {
        int8_t *q8 = a.q8 + row * a.q8_stride;
        memset(q8, 0, (size_t)((cols + 15) / 16 * 16));
        a.scale[row] = (float)rng_unit(rng) * 0.1f;
        for (int o = 0; o < CUDA_OUTLIERS; o++) {
            a.outliers[row].column[o] = outlier_column(cols, o, rng);
            a.outliers[row].value[o] = plain_value(rng) * 50;
        }
        a.sum[row] = 0;
        for (int64_t k = 0; k < cols; k++) {
            int q = kind == ANY || kind == ALTERNATING ? (int)rng_below(rng, 255) - 127 : 127;
            if (kind == ALTERNATING) q = k % 2 ? 127 : -127;
            q8[k] = (int8_t)q;
            a.sum[row] += q;
        }
    }
    return a;
}

static struct cuda_activations on_device(const struct cuda_activations *a)
{
    size_t n = (size_t)a->rows;
    return (struct cuda_activations){a->rows,
                                     a->cols,
                                     a->q8_stride,
                                     device_copy(a->q8, q8_bytes(a)),
                                     device_copy(a->scale, n * sizeof(float)),
                                     device_copy(a->sum, n * sizeof(int32_t)),
                                     device_copy(a->outliers, n * sizeof(struct cuda_outliers))};
}

static void device_activations_free(struct cuda_activations *a)
{
    device_free(a->q8);
    device_free(a->scale);
    device_free(a->sum);
    device_free(a->outliers);
}

static struct cuda_vsq4z matrix_on_device(const struct vsq4z_matrix *m)
{
    size_t bytes = cuda_vsq4z_tile_bytes(m->rows, m->cols);
    uint8_t *tiles = host_blank(bytes);
    cuda_vsq4z_pack(m, tiles);
    struct cuda_vsq4z w = {m->rows, m->cols, device_copy(tiles, bytes),
                           device_copy(m->row_scale, (size_t)m->rows * sizeof(float))};
    free(tiles);
    return w;
}

/* The kernel on `device` against the reference on `host`: int32 sums and f32 values, to the bit. */
static void expect_same_product(struct tally *tally, const struct vsq4z_matrix *m,
                                const struct cuda_activations *host,
                                const struct cuda_activations *device, const char *name)
{
    int64_t stride = m->rows + 3; /* what is behind a row must stay as it is */
    size_t bytes = (size_t)(host->rows * stride) * sizeof(float);
    struct cuda_gemm_args right = {.in = *host, .out_stride = stride};
    right.out = host_blank(bytes);
    right.sums = host_blank(bytes);
    cuda_vsq4z_gemm_reference(&right, m);
    struct cuda_gemm_args found = {matrix_on_device(m), *device, device_blank(bytes), stride,
                                   device_blank(bytes)};
    expect(tally, cuda_vsq4z_gemm(&found, NULL) == ST_OK, "%s: launch", name);
    expect(tally, same_bytes(found.sums, right.sums, bytes), "%s: int32 sums", name);
    expect(tally, same_bytes(found.out, right.out, bytes), "%s: f32 values", name);
    device_free((void *)found.w.tiles);
    device_free((void *)found.w.row_scale);
    free(right.out);
    free(right.sums);
}

static void gemm_case(struct tally *tally, int64_t rows, int64_t outputs, int64_t cols,
                      enum extremes kind)
{
    struct rng rng = {(uint64_t)(rows * 7919 + outputs * 131 + cols + kind)};
    struct vsq4z_matrix m = random_matrix(outputs, cols, kind, &rng);
    struct cuda_activations host = random_activations(rows, cols, kind, &rng);
    struct cuda_activations device = on_device(&host);
    char name[100];
    snprintf(name, sizeof name, "%lld rows, %lld outputs, %lld inputs, kind %d", (long long)rows,
             (long long)outputs, (long long)cols, kind);
    expect_same_product(tally, &m, &host, &device, name);
    device_activations_free(&device);
    host_activations_free(&host);
    matrix_free(&m);
}

void gemm_cases(struct tally *tally)
{
    /* tails of tiles (16 by 128), blocks (32 or 64 outputs) and slabs (256 or 512 inputs) */
    static const int64_t outputs[] = {1, 7, 8, 16, 17, 32, 33, 64, 65};
    static const int64_t cols[] = {1, 16, 17, 100, 127, 128, 129, 257, 520};
    static const int64_t rows[] = {1, 16, 17, 32, 33, 64};
    for (int64_t row = 1; row <= CUDA_GEMM_ROWS; row++)
        gemm_case(tally, row, outputs[row % 9], cols[(row + row / 9) % 9], ANY);
    for (size_t r = 0; r < 6; r++) {
        gemm_case(tally, rows[r], 70, 300, ANY);
        gemm_case(tally, rows[r], 20, r % 2 ? 1300 : 2564, ANY); /* the pipeline goes round */
        for (enum extremes kind = LARGEST; kind < EXTREMES; kind++)
            gemm_case(tally, rows[r], 17, 144, kind);
    }
    /* The longest row that an int32 sum holds. */
    gemm_case(tally, 1, 1, VSQ4Z_MAX_COLS, LARGEST);
    gemm_case(tally, 1, 1, VSQ4Z_MAX_COLS, SMALLEST);
}

/* --- both */

void chain_cases(struct tally *tally)
{
    enum { ROWS = 5, COLS = 576, OUTPUTS = 48 };
    struct rng rng = {3};
    float *x = random_values(ROWS * COLS, few_outliers, &rng);
    float *norm = random_values(COLS, plain_value, &rng);
    struct sides s = {blank(ROWS, COLS, COLS, host_blank), blank(ROWS, COLS, COLS, device_blank)};
    struct cuda_norm_args host = {x, COLS, norm, 1e-6f, s.host};
    cuda_rmsnorm_quantize_reference(&host);
    float *device_x = device_copy(x, sizeof(float) * ROWS * COLS);
    float *device_norm = device_copy(norm, sizeof(float) * COLS);
    struct cuda_norm_args device = {device_x, COLS, device_norm, 1e-6f, s.device};
    expect(tally, cuda_rmsnorm_quantize(&device, NULL) == ST_OK, "chain: launch");
    struct vsq4z_matrix m = random_matrix(OUTPUTS, COLS, ANY, &rng);
    expect_same_product(tally, &m, &s.host, &s.device, "chain");
    expect_same_activations(tally, &s, "chain");
    matrix_free(&m);
    device_free(device_x);
    device_free(device_norm);
    free(x);
    free(norm);
}

/* One argument after the other made wrong: refused, and nothing is launched (the pointers are
 * dangling). */
void argument_cases(struct tally *tally)
{
    char *at = (char *)4096;
    struct cuda_activations a = {2, 64, 64, (void *)at, (void *)at, (void *)at, (void *)at};
    struct cuda_norm_args norm = {(void *)at, 64, (void *)at, 1e-5f, a};
    struct cuda_gemm_args gemm = {{48, 64, (void *)at, (void *)at}, a, (void *)at, 48, NULL};
#define REFUSED(function, given, change)                                             \
    do {                                                                             \
        __typeof__(given) wrong = given;                                             \
        wrong.change;                                                                \
        expect(tally, function(&wrong, NULL) == ST_INVALID, #function ": " #change); \
    } while (0)
    REFUSED(cuda_rmsnorm_quantize, norm, out.rows = -1);
    REFUSED(cuda_rmsnorm_quantize, norm, out.cols = 0);
    REFUSED(cuda_rmsnorm_quantize, norm, out.cols = VSQ4Z_MAX_COLS + 16);
    REFUSED(cuda_rmsnorm_quantize, norm, x_stride = 60);
    REFUSED(cuda_rmsnorm_quantize, norm, x_stride = 66);
    REFUSED(cuda_rmsnorm_quantize, norm, x = (void *)(at + 4));
    REFUSED(cuda_rmsnorm_quantize, norm, norm = (void *)(at + 8));
    REFUSED(cuda_rmsnorm_quantize, norm, out.q8_stride = 72);
    REFUSED(cuda_rmsnorm_quantize, norm, out.q8_stride = 48);
    REFUSED(cuda_rmsnorm_quantize, norm, out.q8 = (void *)(at + 1));
    REFUSED(cuda_vsq4z_gemm, gemm, in.rows = 0);
    REFUSED(cuda_vsq4z_gemm, gemm, in.rows = CUDA_GEMM_ROWS + 1);
    REFUSED(cuda_vsq4z_gemm, gemm, in.cols = 63);
    REFUSED(cuda_vsq4z_gemm, gemm, in.q8_stride = 72);
    REFUSED(cuda_vsq4z_gemm, gemm, in.q8 = (void *)(at + 8));
    REFUSED(cuda_vsq4z_gemm, gemm, w.tiles = (void *)(at + 8));
    REFUSED(cuda_vsq4z_gemm, gemm, w.outputs = -1);
    REFUSED(cuda_vsq4z_gemm, gemm, out_stride = 47);
#undef REFUSED
}
