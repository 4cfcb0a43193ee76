// The CUDA runtime on the CPU: "device" memory is host memory that host code must not touch.
// Allocations start as 0xff bytes; under ASan they are poisoned while host code runs, and end where
// they were said to end.
#include "tests/cuda/emulator_fibers.h"

#include <cstdlib>
#include <cstring>
#include <map>

static std::map<char *, size_t> allocations;
static cudaError_t last_error;

static size_t whole(size_t bytes)
{
    return (bytes + 255) & ~(size_t)255;
}

void emu_device_guard(bool on)
{
    for (auto &a : allocations)
        (on ? emu_poison : emu_unpoison)(a.first, a.second);
}

void emu_device_memory(size_t *count, size_t *bytes)
{
    *count = allocations.size();
    *bytes = 0;
    for (auto &a : allocations)
        *bytes += a.second;
}

static bool on_device(const void *memory, size_t bytes)
{
    char *first = (char *)memory;
    auto after = allocations.upper_bound(first);
    if (after == allocations.begin()) return false;
    auto &[begin, size] = *std::prev(after);
    return first + bytes <= begin + size;
}

static cudaError_t failed_with(cudaError_t error)
{
    last_error = error;
    return error;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : failed_with(cudaErrorInvalidValue);
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    char *made = (char *)aligned_alloc(256, whole(bytes ? bytes : 1));
    if (!made) return failed_with(cudaErrorMemoryAllocation);
    memset(made, 0xff, bytes);
    emu_poison(made, whole(bytes ? bytes : 1));
    allocations[made] = bytes;
    *memory = made;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    if (!memory) return cudaSuccess;
    auto found = allocations.find((char *)memory);
    if (found == allocations.end()) return failed_with(cudaErrorInvalidValue);
    emu_unpoison(memory, whole(found->second ? found->second : 1));
    allocations.erase(found);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (!bytes) return cudaSuccess;
    bool right = on_device(to, bytes) == to_device && on_device(from, bytes) == from_device;
    if (kind != cudaMemcpyDefault && !right) return failed_with(cudaErrorInvalidValue);
    emu_device_guard(false);
    memmove(to, from, bytes);
    emu_device_guard(true);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t)
{
    return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    if (!on_device(memory, bytes)) return failed_with(cudaErrorInvalidValue);
    emu_device_guard(false);
    memset(memory, value, bytes);
    emu_device_guard(true);
    return cudaSuccess;
}

cudaError_t cudaPeekAtLastError(void)
{
    return emu_errors ? cudaErrorLaunchFailure : last_error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaPeekAtLastError();
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return cudaPeekAtLastError();
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0)
        return failed_with(cudaErrorInvalidValue);
    emu_shared_allow(function, (size_t)value);
    return cudaSuccess;
}

const char *cudaGetErrorName(cudaError_t error)
{
    return error == cudaSuccess ? "cudaSuccess" : "cudaError of the emulator";
}

const char *cudaGetErrorString(cudaError_t error)
{
    return cudaGetErrorName(error);
}
