/* What a GPU could do at best, from its properties: the yardstick of bench/cuda/gpu.c. */
#ifndef BENCH_CUDA_DEVICE_H
#define BENCH_CUDA_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

struct device {
    char name[256];
    int major, minor; /* compute capability */
    int processors;
    size_t cache;           /* bytes of L2 */
    double bytes_second;    /* of memory, 0 when the driver does not say */
    double products_second; /* int8 operations (a multiply-add is two), 0 for an unknown chip */
};

/* The first GPU, made current. On failure false, and why in one line. */
bool device_open(struct device *device, char *why, size_t size);

#endif
