// Runs CUDA C++ kernels on the CPU: the .cu is compiled by g++ with `-include
// tests/cuda/emulator.h`.
//
// One OS thread. The blocks of a grid run one after the other; each CUDA thread of a block is a
// fiber that runs until it waits in a barrier or in a warp collective (shuffle, mma, ldmatrix).
// What the emulator refuses: divergent or missing arrivals at a barrier, lanes that disagree about
// a collective, misaligned or wrongly sized cp.async and ldmatrix, launches a GPU would refuse,
// threads that end with copies in flight. What the sanitizers see through it:
//   ASan    shared arrays have red zones, device memory is poisoned while host code runs
//   TSan    a CUDA thread is a TSan fiber, and only barriers, __syncwarp and fences order two of
//           them: it is a race detector for shared and global memory within a block
// Shared memory starts as 0xff bytes (a NaN), as do cp.async destinations until the copy arrives.
//
// Not seen: races between blocks, the weak memory model, bank conflicts, occupancy, speed.
//
// emulator.cpp      fibers, barriers, collectives, launches
// emulator_memory.cpp  shared memory, cp.async
// fake_cudart.cpp   cudaMalloc and its kin
// emulator_intrinsics.h, emulator_warp.h  what device code calls
#ifndef TESTS_CUDA_EMULATOR_H
#define TESTS_CUDA_EMULATOR_H
#define CUDA_EMU 1

#include "tests/cuda/emulator_control.h"

#include <cuda_runtime.h>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

// Code of the emulator that reads what other lanes left on their stacks: no access of the kernel's.
#define EMU_UNCHECKED __attribute__((no_sanitize("thread", "address", "undefined")))

// --- the running thread
struct emu_thread {
    uint3 index;
    unsigned linear, lane, warp;
};
extern emu_thread *emu_cur;
extern uint3 emu_block_index;
extern dim3 emu_block_dim, emu_grid_dim;
#define threadIdx (emu_cur->index)
#define blockIdx  (emu_block_index)
#define blockDim  (emu_block_dim)
#define gridDim   (emu_grid_dim)

// Where a device function was called, taken by default arguments.
struct emu_loc {
    const char *file;
    int line;
};
#define EMU_LOC_ARGS const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EMU_LOC      (emu_loc{file, line})

// --- launches
struct emu_launch_args {
    const char *name;
    const void *kernel; // its address
    dim3 grid, block;
    size_t shared_bytes;
    void (*run)(void *closure); // calls the kernel once, in the running fiber
    void *closure;
    void **values; // addresses of the arguments, each of its parameter's type
};
void emu_run(const emu_launch_args &launch);

// When set, and when it returns something else than NULL, that runs in the kernel's place: code
// translated from its PTX. Called once a launch.
typedef void (*emu_translated)(void **values);
extern emu_translated (*emu_find_translated)(const void *kernel);

template <class... P, class... A>
static inline void emu_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                              size_t shared_bytes, A &&...given)
{
    std::tuple<P...> args(std::forward<A>(given)...); // converted once, as a launch does
    auto call = [&] { std::apply(kernel, args); };
    void *values[sizeof...(P) + 1];
    size_t count = 0;
    std::apply([&](auto &...value) { ((values[count++] = (void *)&value), ...); }, args);
    emu_run({name, (const void *)kernel, grid, block, shared_bytes,
             [](void *closure) { (*static_cast<decltype(call) *>(closure))(); }, &call, values});
}

// --- what the device-side headers are made of
void emu_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// A barrier of `threads` threads (0: all that have not ended); the sum of their predicates.
int emu_block_sync(int barrier, unsigned threads, int predicate, emu_loc where);

// Blocks until all lanes of the mask are here with the same `op`; the last one calls it with every
// lane's `in` and `out` (NULL for lanes outside of the mask or ended). `orders`: it is a memory
// barrier among its lanes.
typedef void (*emu_warp_op)(unsigned mask, const void *const *in, void *const *out);
void emu_warp_collective(unsigned mask, emu_warp_op op, const char *name, bool orders,
                         const void *in, void *out, emu_loc where);
void emu_fence();

// Dynamic shared memory, below 4 GB so that it has 32-bit addresses as PTX wants.
void *emu_dyn_smem(size_t align); // all of it
size_t emu_smem_bytes();
struct emu_carve { // arrays cut from it one after the other
    size_t used, at;
};
void *emu_carve_take(emu_carve *carve, size_t bytes, size_t align);
// Fills a static __shared__ array with 0xff when the block first comes by.
void emu_shared_touch(void *array, size_t bytes, unsigned *seen);

// The copy runs in instrumented code, early or late; `copied` < 0 scribbles.
typedef void (*emu_copy)(void *to, const void *from, int bytes, int copied);
void emu_cp_async_start(void *to, const void *from, int bytes, int copied, emu_copy copy,
                        emu_loc where);
void emu_cp_async_commit();
void emu_cp_async_wait(int groups_in_flight);

#include "tests/cuda/emulator_intrinsics.h"
#include "tests/cuda/emulator_warp.h"
#endif
