/* The loads of roof_avx2.c and roof_avx512.c, which define REGISTER, REGISTER_BYTES, CLEAR and
 * CLOBBERS before: eight registers a turn, each with a sum of its own. */
#ifndef BENCH_ROOF_READ_H
#define BENCH_ROOF_READ_H

#define ADD_READ(k) "vpaddq " #k " * %c[width](%[at]), %%" REGISTER #k ", %%" REGISTER #k "\n"
#define EIGHT(X)    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

static void read_loop(const void *memory, size_t bytes)
{
    const char *at = memory;
    int64_t left = (int64_t)(bytes / ROOF_READ_BLOCK * (ROOF_READ_BLOCK / (8 * REGISTER_BYTES)));
    if (!left) return;
    __asm__ volatile(EIGHT(CLEAR) ".p2align 5\n1:\n" EIGHT(ADD_READ) "add %[turn], %[at]\n"
                                                                     "dec %[i]\n"
                                                                     "jnz 1b"
                     : [i] "+r"(left), [at] "+r"(at)
                     : [width] "i"(REGISTER_BYTES), [turn] "i"(8 * REGISTER_BYTES)
                     : CLOBBERS, "cc", "memory");
}

#endif
