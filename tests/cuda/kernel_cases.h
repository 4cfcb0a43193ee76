/* Cases for the CUDA kernels (kernels/cuda/cuda.h): each launches a kernel through the CUDA runtime
 * (the emulator's, or a GPU's) and compares every byte it wrote, and those it must not write, with
 * the plain C reference. check_kernels.c runs them. */
#ifndef TESTS_CUDA_KERNEL_CASES_H
#define TESTS_CUDA_KERNEL_CASES_H

#include <stddef.h>

/* Counted by expect(); a failed one prints its case. */
struct tally {
    int passed, failed;
    int stop; /* 1: the first failed one ends the program */
};

void norm_cases(struct tally *tally);
void gemm_cases(struct tally *tally);
void chain_cases(struct tally *tally);    /* the GEMM on what the norm left on the device */
void argument_cases(struct tally *tally); /* what the functions refuse */

/* Of all cases alike. */
void expect(struct tally *tally, int good, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void *device_copy(const void *bytes, size_t count); /* stops the program when it cannot be had */
void *device_blank(size_t count);                   /* of 0xff bytes */
void device_read(void *to, const void *from, size_t count);
void device_free(void *memory);
void *host_blank(size_t count); /* of 0xff bytes */

#endif
