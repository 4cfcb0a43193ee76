/* SipHash-2-4 with 128 bits of output: a keyed hash whose collisions nobody finds without the key.
 * J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", 2012, and the 128-bit variant
 * of their reference implementation. */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash {
    uint64_t v[4];
    uint64_t word;   /* bytes of a word that is not complete */
    uint64_t length; /* bytes so far */
};

/* k0, k1: the 16 bytes of the key, little-endian. */
void siphash_begin(struct siphash *h, uint64_t k0, uint64_t k1);
void siphash_add(struct siphash *h, const void *bytes, size_t length);
/* The first and last 8 bytes of the result, little-endian. */
void siphash_end(struct siphash *h, uint64_t *low, uint64_t *high);

#endif
