#include "base/alloc.h"
#include "base/log.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

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

/* --- the reserve: address space that must_* gives back to the system when malloc finds none */

#define RESERVE ((size_t)16 << 20)
static void *_Atomic reserve;
static _Atomic unsigned times_spent;

/* Untouched pages cost no memory, but they count where malloc can fail at all: against ulimit -v
 * and against strict overcommit. */
static void keep_reserve(void)
{
    if (atomic_load_explicit(&reserve, memory_order_relaxed)) return;
    void *pages = mmap(NULL, RESERVE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *none = NULL;
    if (pages == MAP_FAILED) return; /* the next call tries again */
    if (!atomic_compare_exchange_strong(&reserve, &none, pages)) munmap(pages, RESERVE);
}

static void spend_reserve(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock); /* who finds it spent finds the memory too */
    void *pages = atomic_exchange(&reserve, NULL);
    if (pages) munmap(pages, RESERVE);
    pthread_mutex_unlock(&lock);
    unsigned times = pages ? atomic_fetch_add(&times_spent, 1) + 1 : 0;
    if (pages && (times & (times - 1)) == 0) /* 1, 2, 4, 8 ...: a log is not flooded */
        log_warn("out of memory: the %zu MiB kept for this were given back (%u times by now)",
                 RESERVE >> 20, times);
}

/* What a must_ call does between a malloc that failed and the next: the reserve helps at once, what
 * ends elsewhere helps within a second, and then nothing does. */
static void await_memory(size_t bytes, int failures)
{
    static const struct timespec pause = {.tv_nsec = 20000000};
    if (failures == 0) {
        spend_reserve();
    } else if (failures < 50) {
        nanosleep(&pause, NULL);
    } else {
        log_error("out of memory: %zu bytes cannot be had, nor can the process go on without them",
                  bytes);
        _exit(1); /* no handler may run: they allocate */
    }
}

#define MUST(bytes, call)                                  \
    void *memory;                                          \
    for (int failures = 0; !(memory = (call)); failures++) \
        await_memory(bytes, failures);                     \
    keep_reserve();                                        \
    return memory

void *must_alloc(size_t bytes)
{
    MUST(bytes, calloc(1, bytes ? bytes : 1));
}

void *must_realloc(void *old, size_t bytes)
{
    MUST(bytes, realloc(old, bytes ? bytes : 1));
}

static void *must_alloc_raw(size_t alignment, size_t size)
{
    MUST(size, aligned_alloc(alignment, size));
}

void *must_alloc_aligned(size_t alignment, size_t bytes)
{
    size_t size = (bytes + alignment - 1) / alignment * alignment;
    return memset(must_alloc_raw(alignment, size), 0, size);
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
