// Shared memory and cp.async of the CUDA emulator (emulator.h).
#include "tests/cuda/emulator_fibers.h"

#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

// What a kernel has without asking, and what it may ask for: the 99 KB of sm_86 to sm_120 are the
// least of the architectures we build for that have mma.m16n8k32.
enum { SHARED_DEFAULT = 48 * 1024, SHARED_MOST = 99 * 1024 };
enum { ARENA_BYTES = 128 * 1024, RED_ZONE = 64, MAX_KERNELS = 64 };

static char *arena;
static size_t arena_bytes;
static unsigned block_number;

static struct {
    const void *kernel;
    size_t bytes;
} allowed[MAX_KERNELS];
static int allowed_count;

bool emu_shared_allowed(const void *kernel, size_t bytes)
{
    for (int i = 0; i < allowed_count; i++)
        if (allowed[i].kernel == kernel) return bytes <= allowed[i].bytes;
    return bytes <= SHARED_DEFAULT;
}

void emu_shared_allow(const void *kernel, size_t bytes)
{
    int at = 0;
    while (at < allowed_count && allowed[at].kernel != kernel)
        at++;
    if (at == MAX_KERNELS || bytes > SHARED_MOST)
        return emu_fail("%zu bytes of shared memory for a kernel: at most %d, for %d kernels",
                        bytes, SHARED_MOST, MAX_KERNELS);
    allowed[at] = {kernel, bytes};
    if (at == allowed_count) allowed_count++;
}

// Not memset: a sanitizer would take it for an access of the kernel's.
static void fill_ff(void *memory, size_t bytes)
{
    __asm__ volatile("rep stosb" : "+D"(memory), "+c"(bytes) : "a"(0xff) : "memory");
}

void emu_shared_begin(size_t bytes)
{
    block_number++;
    arena_bytes = bytes;
    if (!arena) {
        arena = (char *)mmap(nullptr, ARENA_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        if (arena == MAP_FAILED) {
            perror("the emulator's shared memory");
            abort();
        }
    }
    fill_ff(arena, ARENA_BYTES);
    emu_poison(arena, ARENA_BYTES);
}

void emu_shared_end()
{
    emu_unpoison(arena, ARENA_BYTES);
}

void *emu_dyn_smem(size_t align)
{
    if ((uintptr_t)arena & (align - 1)) emu_fail("dynamic shared memory aligned to %zu", align);
    emu_unpoison(arena, arena_bytes);
    return arena;
}

size_t emu_smem_bytes()
{
    return arena_bytes;
}

// `used` counts as the GPU does; under ASan the pieces lie apart with red zones between them.
void *emu_carve_take(emu_carve *carve, size_t bytes, size_t align)
{
    carve->used = (carve->used + align - 1) & ~(align - 1);
    carve->at = (carve->at + align - 1) & ~(align - 1);
    char *piece = arena + carve->at;
    if (carve->used + bytes > arena_bytes || carve->at + bytes > ARENA_BYTES)
        emu_fail("shared memory: %zu bytes are taken, the launch gave %zu", carve->used + bytes,
                 arena_bytes);
    emu_unpoison(piece, bytes);
    carve->used += bytes;
    carve->at += bytes;
#ifdef EMU_ASAN
    carve->at += RED_ZONE;
#endif
    return piece;
}

void emu_shared_touch(void *array, size_t bytes, unsigned *seen)
{
    if (*seen == block_number) return;
    *seen = block_number;
    fill_ff(array, bytes);
}

// --- cp.async: in flight from its start to a wait that covers its group

void emu_cp_async_start(void *to, const void *from, int bytes, int copied, emu_copy copy,
                        emu_loc where)
{
    emu_fiber *f = emu_running;
    if ((bytes != 4 && bytes != 8 && bytes != 16) || copied < 0 || copied > bytes)
        emu_fail("%s:%d: cp.async of %d bytes, %d of them copied", where.file, where.line, bytes,
                 copied);
    if (((uintptr_t)to | (uintptr_t)from) & (unsigned)(bytes - 1))
        emu_fail("%s:%d: cp.async of %d bytes from %p to %p: not aligned", where.file, where.line,
                 bytes, from, to);
    bool early = emu_async_mode == EMU_ASYNC_EARLY ||
                 (emu_async_mode == EMU_ASYNC_RANDOM && (emu_random() & 64));
    if (early) return copy(to, from, bytes, copied);
    if (f->copies == EMU_MAX_COPIES)
        return emu_fail("%s:%d: more than %d cp.async in flight", where.file, where.line,
                        EMU_MAX_COPIES);
    copy(to, nullptr, bytes, -1);
    f->copy[f->copies++] = {to, from, bytes, copied, f->group, copy};
}

void emu_cp_async_commit()
{
    emu_running->group++;
}

void emu_cp_async_wait(int groups_in_flight)
{
    emu_fiber *f = emu_running;
    int kept = 0;
    for (int i = 0; i < f->copies; i++) {
        emu_pending_copy c = f->copy[i];
        if ((int)(f->group - c.group) > groups_in_flight)
            c.copy(c.to, c.from, c.bytes, c.copied);
        else
            f->copy[kept++] = c;
    }
    f->copies = kept;
}
