// Everything of our kernels that is not common C++: launches, shared memory and the instructions
// that need PTX. Each has two branches, nvcc's and the emulator's (CUDA_EMU;
// tests/cuda/emulator.h), so `asm`, `<<<>>>`, `extern __shared__` and `#ifdef` stand in this header
// alone.
//
// All of it is on the sm_80 baseline (mma.sync, ldmatrix, cp.async), which every architecture we
// build for has.
#ifndef KERNELS_CUDA_DEVICE_CUH
#define KERNELS_CUDA_DEVICE_CUH

#ifdef CUDA_EMU
#define PTX_LOC , const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    ((void)(stream), emu_launch(#kernel, kernel, grid, block, shared_bytes, __VA_ARGS__))
#define SHARED(type, name, dims)  \
    static type name dims;        \
    static unsigned name##_block; \
    emu_shared_touch((void *)&name, sizeof name, &name##_block)
#else
#include <cstdint>
#include <cuda_runtime.h>
#define PTX_LOC
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define SHARED(type, name, dims) __shared__ type name dims
#endif

extern "C" {
#include "base/status.h"
}

#define ALL_LANES 0xffffffffu

// What the runtime says of the launch just made.
static inline enum status launch_status()
{
    switch (cudaGetLastError()) {
    case cudaSuccess:
        return ST_OK;
    case cudaErrorMemoryAllocation:
        return ST_NO_MEMORY;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
        return ST_NO_DEVICE;
    default:
        return ST_INTERNAL;
    }
}

// Lets a kernel have more dynamic shared memory than the 48 KB that need no asking.
template <class Kernel> static inline void allow_shared(Kernel *kernel, size_t bytes)
{
    cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

// Cuts arrays from dynamic shared memory, one after the other; every thread does the same. The
// emulator puts red zones between them.
struct SmemCarver {
#ifdef CUDA_EMU
    emu_carve carve{0, 0};
    template <class T> T *take(size_t count, size_t align = 16)
    {
        return (T *)emu_carve_take(&carve, count * sizeof(T), align);
    }
#else
    unsigned char *at;
    __device__ __forceinline__ SmemCarver()
    {
        extern __shared__ __align__(128) unsigned char dynamic_shared_memory[];
        at = dynamic_shared_memory;
    }
    template <class T> __device__ __forceinline__ T *take(size_t count, size_t align = 16)
    {
        at = reinterpret_cast<unsigned char *>((reinterpret_cast<size_t>(at) + align - 1) &
                                               ~(align - 1));
        T *piece = reinterpret_cast<T *>(at);
        at += count * sizeof(T);
        return piece;
    }
#endif
};

#ifndef CUDA_EMU
__device__ __forceinline__ uint32_t smem_u32(const void *p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// D = A B + C over 32 int8: A [16][32] signed, B [32][8] unsigned, sums mod 2^32. Lane 4 g + t has
// in a[r] row g + 8 (r & 1), k from 16 (r >> 1) + 4 t; in b[r] column g, k from 16 r + 4 t; in d[r]
// row g + 8 (r >> 1), column 2 t + (r & 1).
__device__ __forceinline__ void mma_s8u8_16832(int (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2], const int (&c)[4] PTX_LOC)
{
#ifdef CUDA_EMU
    emu_mma_s8u8_16832(d, a, b, c, EMU_LOC);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};\n"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]),
                   "r"(c[1]), "r"(c[2]), "r"(c[3]));
#endif
}

// Four matrices of 8 rows of 16 bytes; lane 8 i + j gives the address of row j of matrix i. Lane
// 4 g + t receives bytes 4 t .. 4 t + 3 of row g of each.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *row PTX_LOC)
{
#ifdef CUDA_EMU
    emu_ldmatrix<4>(r, row, EMU_LOC);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_u32(row))
                 : "memory");
#endif
}

// 16 bytes from global to shared memory, past L1; bytes from `copied` on become 0. They are there
// for this thread after cp_async_wait, for others after a barrier behind that.
__device__ __forceinline__ void cp_async16(void *to, const void *from, int copied PTX_LOC)
{
#ifdef CUDA_EMU
    emu_cp_async(to, from, 16, copied, EMU_LOC);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(smem_u32(to)), "l"(from),
                 "r"(copied)
                 : "memory");
#endif
}

// Closes a group of copies.
__device__ __forceinline__ void cp_async_commit()
{
#ifdef CUDA_EMU
    emu_cp_async_commit();
#else
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most IN_FLIGHT of the newest groups are still under way.
template <int IN_FLIGHT> __device__ __forceinline__ void cp_async_wait()
{
#ifdef CUDA_EMU
    emu_cp_async_wait(IN_FLIGHT);
#else
    asm volatile("cp.async.wait_group %0;\n" ::"n"(IN_FLIGHT) : "memory");
#endif
}

#endif
