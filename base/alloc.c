#include "base/alloc.h"
#include "base/status.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Atomic int64_t fail_countdown;

void alloc_fail_after(int64_t n)
{
    atomic_store(&fail_countdown, n);
}

static int fault_due(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) return 0;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void *must_alloc(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory) die("out of memory for %zu bytes", bytes);
    return memory;
}

void *must_realloc(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes ? bytes : 1);
    if (!memory) die("out of memory for %zu bytes", bytes);
    return memory;
}

char *must_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(must_alloc(bytes), text, bytes);
}

void *try_alloc(size_t count, size_t size)
{
    if (fault_due()) return NULL;
    return calloc(count ? count : 1, size ? size : 1);
}

void *try_realloc(void *old, size_t count, size_t size)
{
    size_t bytes;
    if (fault_due() || __builtin_mul_overflow(count, size, &bytes)) return NULL;
    return realloc(old, bytes ? bytes : 1);
}

#define HUGE_PAGE ((size_t)2 << 20)

void *pages_alloc(size_t bytes, int huge)
{
    if (fault_due() || bytes == 0 || bytes > SIZE_MAX - 2 * HUGE_PAGE) return NULL;
    /* A 2 MB-aligned start, or the kernel cannot use huge pages for the ends. */
    size_t reserved = bytes + HUGE_PAGE;
    char *raw = mmap(NULL, reserved, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    char *start = (char *)(((uintptr_t)raw + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    if (start > raw) munmap(raw, (size_t)(start - raw));
    size_t tail = reserved - (size_t)(start - raw) - bytes;
    size_t page = 4096, whole = tail & ~(page - 1);
    if (whole) munmap(start + bytes + (tail - whole), whole);
    if (huge) madvise(start, bytes, MADV_HUGEPAGE);
    return start;
}

void pages_free(void *memory, size_t bytes)
{
    if (memory) munmap(memory, bytes);
}
