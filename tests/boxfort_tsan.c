/*
 * Makes Criterion run under ThreadSanitizer; linked into every test of a TSan build, and only
 * there.
 *
 * Criterion runs each test in a worker process that shares an arena with its parent. BoxFort, which
 * does this, looks for the arena's place between 0x200000000000 and 0x600000000000: the very
 * addresses that TSan keeps for its shadow. mincore() tells BoxFort that they are taken, TSan's
 * mmap() refuses them, and Criterion gives up ("could not initialize inheritable arena").
 *
 * So the three calls are answered here, before TSan's own: the place is free, and the arena goes to
 * [0x200000000000, 0x210000000000). TSan leaves a hole there, and the shadow of these addresses
 * (x86-64: ((address & 0x7ffffffffff) ^ 0x40000000000) * 4) is mapped and nobody else's, so
 * that a memcpy() from the arena, which TSan sees, is harmless. All other addresses go to TSan.
 *
 * This file is compiled without sanitizers: it runs before TSan is ready.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BOXFORT_FIRST 0x200000000000u
#define BOXFORT_END   0x600000000000u
#define ARENA_MASK    0x00ffffffffffu

void *__interceptor_mmap(void *address, size_t size, int protection, int flags, int fd,
                         off_t offset);
int __interceptor_munmap(void *address, size_t size);

static bool is_arena(const void *address)
{
    uintptr_t a = (uintptr_t)address;
    /* The program itself lies from 0x550000000000 on; the kernel put it there, no call comes here.
     */
    return a >= BOXFORT_FIRST && a < BOXFORT_END;
}

/* The parent asks for a shared mapping and takes any place in BoxFort's range; its worker then asks
 * for a private mapping of the same file at exactly that place. */
void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (!is_arena(address)) return __interceptor_mmap(address, size, protection, flags, fd, offset);
    uintptr_t place = BOXFORT_FIRST | ((uintptr_t)address & ARENA_MASK);
    return (void *)syscall(SYS_mmap, place, size, protection, flags | MAP_FIXED, fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("mmap")));

int munmap(void *address, size_t size)
{
    if (!is_arena(address)) return __interceptor_munmap(address, size);
    return (int)syscall(SYS_munmap, address, size);
}

int mincore(void *address, size_t size, unsigned char *resident)
{
    if (!is_arena(address)) return (int)syscall(SYS_mincore, address, size, resident);
    errno = ENOMEM; /* "nothing is mapped there" */
    return -1;
}
