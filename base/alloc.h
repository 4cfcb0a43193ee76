/* The policy for memory, in one place.
 *
 * Small host objects (a queue node, a name): must_*; running out stops the process with a message.
 * Whatever a client or a file can make large: try_*; returns NULL and the caller refuses the
 * request. The try_ calls are counted by the fault hook, so that a test can fail the n-th of them
 * (tests' fault ladders).
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

void *must_alloc(size_t bytes);              /* zeroed; caller frees with free() */
void *must_realloc(void *old, size_t bytes); /* new bytes are not cleared */
char *must_strdup(const char *text);

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
