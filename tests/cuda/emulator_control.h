/* What a test sets and reads of the CUDA emulator (emulator.h); plain C. */
#ifndef TESTS_CUDA_EMULATOR_CONTROL_H
#define TESTS_CUDA_EMULATOR_CONTROL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which thread of a block runs next, and in which order the blocks of a grid run. */
enum emu_order { EMU_ROUND_ROBIN, EMU_REVERSE, EMU_RANDOM };

/* When the bytes of a cp.async arrive. Until then its destination holds 0xff. */
enum emu_async {
    EMU_ASYNC_LATE /* at its wait */,
    EMU_ASYNC_EARLY /* at once */,
    EMU_ASYNC_RANDOM
};

extern int emu_order;          /* enum emu_order */
extern int emu_async_mode;     /* enum emu_async */
extern unsigned emu_seed;      /* of both kinds of random */
extern int emu_abort_on_error; /* 1 (the default): the first error aborts the process */
extern int emu_errors;         /* errors so far, each printed as "EMU ERROR: ..." */

/* Device allocations alive and their bytes. */
void emu_device_memory(size_t *allocations, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
