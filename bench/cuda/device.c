#include "bench/cuda/device.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

static int attribute(enum cudaDeviceAttr which)
{
    int value = 0;
    return cudaDeviceGetAttribute(&value, which, 0) == cudaSuccess ? value : 0;
}

/* Dense int8 multiply-adds of one SM in one cycle, from NVIDIA's white papers. Only wgmma and
 * tcgen05 reach those of 9.0 and 10.0: mma.sync, which our kernels use, gets about 60 % of 9.0's.
 */
static int int8_products(int major, int minor)
{
    switch (10 * major + minor) {
    case 80:
        return 2048;
    case 86:
    case 87:
    case 89:
    case 120:
    case 121:
        return 1024;
    case 90:
        return 4096;
    case 100:
        return 8192;
    default:
        return 0;
    }
}

bool device_open(struct device *device, char *why, size_t size)
{
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) status = cudaSetDevice(0);
    if (status != cudaSuccess || count == 0) {
        snprintf(why, size, "%s", status == cudaSuccess ? "no device" : cudaGetErrorString(status));
        return false;
    }
    struct cudaDeviceProp properties;
    status = cudaGetDeviceProperties(&properties, 0);
    if (status != cudaSuccess) {
        snprintf(why, size, "%s", cudaGetErrorString(status));
        return false;
    }
    *device = (struct device){.major = properties.major,
                              .minor = properties.minor,
                              .processors = properties.multiProcessorCount,
                              .cache = (size_t)properties.l2CacheSize};
    snprintf(device->name, sizeof device->name, "%s", properties.name);
    /* The attributes are in kHz and bits; memory moves data on both edges of its clock. */
    device->bytes_second = 2e3 * attribute(cudaDevAttrMemoryClockRate) *
                           attribute(cudaDevAttrGlobalMemoryBusWidth) / 8;
    device->products_second = 2e3 * attribute(cudaDevAttrClockRate) * device->processors *
                              int8_products(device->major, device->minor);
    return true;
}
