/* Times the CUDA kernels on the first GPU, beside what its memory and tensor cores could do at
 * best.
 *
 * Correctness comes first: the cases of tests/cuda, compared byte for byte with the plain C
 * references. A kernel that is wrong is not timed. Then each shape runs for a fifth of a second,
 * launches back to back, on weights that lie in as many copies as L2 cannot hold: a decode step
 * reads them from memory. Without a GPU nothing is measured, and the output says so.
 */
#include "base/clock.h"
#include "bench/cuda/device.h"
#include "kernels/cuda/cuda.h"
#include "tests/cuda/kernel_cases.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEASURE_SECONDS 0.2

static int gpu_is_wrong(void)
{
    struct tally tally = {.stop = 0};
    norm_cases(&tally);
    gemm_cases(&tally);
    chain_cases(&tally);
    printf("correctness against the C references: %d passed, %d failed\n", tally.passed,
           tally.failed);
    return tally.failed || !tally.passed;
}

/* What is timed: launches number `i` of a shape. */
struct load {
    enum status (*launch)(const struct load *load, int i);
    struct cuda_norm_args norm;
    struct cuda_gemm_args gemm;
    int copies; /* of the weights, tile_bytes apart */
    size_t tile_bytes;
};

static void stop(const char *what)
{
    printf("%s: %s\n", what, cudaGetErrorString(cudaGetLastError()));
    exit(1);
}

static void launch_many(const struct load *load, int count)
{
    for (int i = 0; i < count; i++)
        if (load->launch(load, i) != ST_OK) stop("a launch failed");
    if (cudaDeviceSynchronize() != cudaSuccess) stop("a kernel failed");
}

/* Seconds of one launch. */
static double measure(const struct load *load)
{
    struct clock clock = clock_monotonic();
    int count = 16;
    launch_many(load, count);
    for (;;) {
        int64_t start = clock_now(&clock);
        launch_many(load, count);
        double seconds = (double)(clock_now(&clock) - start) / 1e6;
        if (seconds >= MEASURE_SECONDS) return seconds / count;
        count *= 2;
    }
}

static struct cuda_activations activations(int64_t rows, int64_t cols)
{
    return (struct cuda_activations){
        .rows = rows,
        .cols = cols,
        .q8_stride = (cols + 15) / 16 * 16,
        .q8 = device_blank((size_t)(rows * ((cols + 15) / 16 * 16))),
        .scale = device_blank((size_t)rows * sizeof(float)),
        .sum = device_blank((size_t)rows * sizeof(int32_t)),
        .outliers = device_blank((size_t)rows * sizeof(struct cuda_outliers)),
    };
}

static void free_activations(struct cuda_activations *a)
{
    device_free(a->q8);
    device_free(a->scale);
    device_free(a->sum);
    device_free(a->outliers);
}

/* Device memory with numbers in it: no denormals, no NaN, nothing a clock would run faster on. */
static float *device_floats(int64_t count)
{
    float *values = host_blank((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)((i * 2654435761u >> 7) % 2001) / 1000 - 1;
    float *device = device_copy(values, (size_t)count * sizeof(float));
    free(values);
    return device;
}

static uint8_t *device_bytes(size_t count)
{
    uint8_t *bytes = host_blank(count);
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    uint8_t *device = device_copy(bytes, count);
    free(bytes);
    return device;
}

static void print_row(const char *name, double seconds, double bytes, double operations,
                      const struct device *device)
{
    printf("%-36s %9.2f us %8.1f GB/s", name, seconds * 1e6, bytes / seconds / 1e9);
    if (device->bytes_second > 0) printf(" %5.1f %%", 100 * bytes / seconds / device->bytes_second);
    if (operations > 0) printf(" %8.2f TOP/s", operations / seconds / 1e12);
    if (operations > 0 && device->products_second > 0)
        printf(" %5.1f %%", 100 * operations / seconds / device->products_second);
    printf("\n");
}

/* --- the norm */

static enum status launch_norm(const struct load *load, int i)
{
    (void)i;
    return cuda_rmsnorm_quantize(&load->norm, NULL);
}

static void time_norm(int64_t rows, int64_t cols, const struct device *device)
{
    struct load load = {.launch = launch_norm};
    load.norm = (struct cuda_norm_args){device_floats(rows * cols), cols, device_floats(cols),
                                        1e-5f, activations(rows, cols)};
    char name[64];
    snprintf(name, sizeof name, "norm  %4lld x %lld", (long long)rows, (long long)cols);
    double bytes = (double)(rows * cols) * 5 + (double)cols * 4; /* f32 in, int8 out, norm once */
    print_row(name, measure(&load), bytes, 0, device);
    device_free((void *)load.norm.x);
    device_free((void *)load.norm.norm);
    free_activations(&load.norm.out);
}

/* --- the product */

static enum status launch_gemm(const struct load *load, int i)
{
    struct cuda_gemm_args args = load->gemm;
    args.w.tiles += (size_t)(i % load->copies) * load->tile_bytes;
    return cuda_vsq4z_gemm(&args, NULL);
}

static void time_gemm(int64_t rows, int64_t outputs, int64_t cols, const struct device *device)
{
    struct load load = {.launch = launch_gemm, .tile_bytes = cuda_vsq4z_tile_bytes(outputs, cols)};
    load.copies = (int)(2 * device->cache / load.tile_bytes) + 1;
    struct cuda_norm_args norm = {device_floats(rows * cols), cols, NULL, 0,
                                  activations(rows, cols)};
    if (cuda_rmsnorm_quantize(&norm, NULL) != ST_OK) stop("a launch failed");
    load.gemm =
        (struct cuda_gemm_args){{outputs, cols, device_bytes((size_t)load.copies * load.tile_bytes),
                                 device_floats(outputs)},
                                norm.out,
                                device_blank((size_t)(rows * outputs) * sizeof(float)),
                                outputs,
                                NULL};
    char name[64];
    snprintf(name, sizeof name, "gemm  %4lld x %lld x %lld", (long long)rows, (long long)outputs,
             (long long)cols);
    double bytes = (double)load.tile_bytes + (double)(rows * cols) + (double)(rows * outputs) * 4;
    print_row(name, measure(&load), bytes, 2.0 * (double)rows * (double)outputs * (double)cols,
              device);
    device_free((void *)load.gemm.w.tiles);
    device_free((void *)load.gemm.w.row_scale);
    device_free(load.gemm.out);
    device_free((void *)norm.x);
    free_activations(&norm.out);
}

int main(void)
{
    /* Outputs and inputs of the default model's gate and up, and of an 8 B model's down and gate.
     */
    static const int64_t shapes[][2] = {{3072, 576}, {4096, 14336}, {28672, 4096}};
    static const int64_t rows[] = {1, 4, 8, 16, 32, 64};
    struct device device;
    char why[200];
    if (!device_open(&device, why, sizeof why)) {
        printf("no GPU here (%s): nothing was measured\n", why);
        return 0;
    }
    printf("%s, compute capability %d.%d, %d SMs; peak %.0f GB/s, %.0f int8 TOP/s (0: not known)\n",
           device.name, device.major, device.minor, device.processors, device.bytes_second / 1e9,
           device.products_second / 1e12);
    if (gpu_is_wrong()) {
        printf("wrong results: nothing was measured\n");
        return 1;
    }
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        time_norm(rows[r], 4096, &device);
    time_norm(4096, 4096, &device);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
            time_gemm(rows[r], shapes[s][0], shapes[s][1], &device);
    return 0;
}
