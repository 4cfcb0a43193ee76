// The emulator's own state, shared by emulator.cpp and emulator_memory.cpp. Both are compiled
// without sanitizers (EMU_ASAN and EMU_TSAN say which one the kernels have) and use neither
// memset/memcpy nor containers on a fiber: their interceptors would see accesses of a kernel's.
#ifndef TESTS_CUDA_EMULATOR_FIBERS_H
#define TESTS_CUDA_EMULATOR_FIBERS_H

#include "tests/cuda/emulator.h"

#ifdef EMU_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *size);
void __asan_poison_memory_region(const volatile void *memory, size_t bytes);
void __asan_unpoison_memory_region(const volatile void *memory, size_t bytes);
}
#endif
#ifdef EMU_TSAN
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *address);
void __tsan_release(void *address);
}
#endif

// What one thread did before its release is seen by whoever acquires after it.
static inline void emu_release(void *address)
{
#ifdef EMU_TSAN
    __tsan_release(address);
#endif
    (void)address;
}

static inline void emu_acquire(void *address)
{
#ifdef EMU_TSAN
    __tsan_acquire(address);
#endif
    (void)address;
}

static inline void emu_poison(void *memory, size_t bytes)
{
#ifdef EMU_ASAN
    __asan_poison_memory_region(memory, bytes);
#endif
    (void)memory, (void)bytes;
}

static inline void emu_unpoison(void *memory, size_t bytes)
{
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(memory, bytes);
#endif
    (void)memory, (void)bytes;
}

enum emu_state { EMU_DONE, EMU_READY, EMU_IN_WARP, EMU_IN_BLOCK };
enum { EMU_MAX_THREADS = 1024, EMU_MAX_COPIES = 512 };

struct emu_pending_copy {
    void *to;
    const void *from;
    int bytes, copied;
    unsigned group;
    emu_copy copy;
};

struct emu_fiber {
    void *stack_pointer;
    char *stack;
    size_t stack_bytes;
    void *fake_stack, *tsan; // ASan's and TSan's
    emu_thread thread;
    emu_state state;
    emu_loc where; // it waits, and in what
    const char *waits_in;
    unsigned mask; // warp collective
    emu_warp_op op;
    const void *in;
    void *out;
    int barrier, result; // block barrier
    unsigned group;      // cp.async
    int copies;
    emu_pending_copy copy[EMU_MAX_COPIES];
};

extern emu_fiber *emu_running; // whose code runs; &emu_host outside of kernels
extern emu_fiber emu_host;
unsigned emu_random();

// emulator_memory.cpp
void emu_shared_begin(size_t bytes); // a block begins, with so much dynamic shared memory
void emu_shared_end();
bool emu_shared_allowed(const void *kernel, size_t bytes);
void emu_shared_allow(const void *kernel, size_t bytes);

// fake_cudart.cpp: host code begins (true) or kernels do.
void emu_device_guard(bool on);

#endif
