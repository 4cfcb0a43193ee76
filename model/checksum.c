#include "model/checksum.h"

#include <stdio.h>
#include <xxhash.h>

struct checksum checksum_of(const void *bytes, size_t size)
{
    struct checksum out;
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, size));
    for (size_t i = 0; i < sizeof canonical.digest; i++)
        snprintf(out.digits + 2 * i, 3, "%02x", canonical.digest[i]);
    return out;
}
