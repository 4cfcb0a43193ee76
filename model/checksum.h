/* XXH3, 128 bits, as 32 hexadecimal digits in the order of its canonical bytes (what `xxhsum -H2`
 * prints). It finds what disks and copies do to a file; it does not keep out who means it. */
#ifndef MODEL_CHECKSUM_H
#define MODEL_CHECKSUM_H

#include <stddef.h>

#define CHECKSUM_NAME   "XXH3-128"
#define CHECKSUM_DIGITS 32

struct checksum {
    char digits[CHECKSUM_DIGITS + 1];
};

struct checksum checksum_of(const void *bytes, size_t size);

#endif
