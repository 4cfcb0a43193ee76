/* The policy for memory, in one place.
 *
 * Small host objects (a queue node, a name): must_*. When malloc fails, a reserve that is kept for
 * this (16 MiB) is given back to the system, malloc asked again, and the reserve kept anew as soon
 * as possible; so a server outlives a shortage while its large requests are refused. When that does
 * not help within a second, the process ends with one line and status 1. Whatever a client or a
 * file can make large: try_*; returns NULL and the caller refuses the request. The try_ calls are
 * counted by the fault hook, so that a test can fail the n-th of them (the fault ladders of the
 * unit tests; those of tests/faults fail malloc itself).
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

void *must_alloc(size_t bytes);              /* zeroed; caller frees with free() */
void *must_realloc(void *old, size_t bytes); /* new bytes are not cleared */
char *must_strdup(const char *text);
void *must_alloc_aligned(size_t alignment, size_t bytes); /* zeroed; free() */

void *try_alloc(size_t count,
                size_t size); /* zeroed, product checked; NULL when it cannot be had */
void *try_realloc(void *old, size_t count, size_t size);

/* Test hook: the n-th try_ call from now fails once (1 is the next); 0 switches it off. */
void alloc_fail_after(int64_t n);

/* Large, page-aligned and zeroed memory for weights and KV, on 2 MB pages where the kernel grants
 * them
 * (`huge`; measured +11-17 % decode bandwidth on Zen 4, shared/reference/quantization.md section
 * 3). NULL when it cannot be had. pages_free takes the same byte count. */
void *pages_alloc(size_t bytes, int huge);
void pages_free(void *memory, size_t bytes);

#endif
