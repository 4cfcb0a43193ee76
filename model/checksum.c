#include "model/checksum.h"
#include "base/base.h"

#define XXH_STATIC_LINKING_ONLY /* the size of a state: XXH3_createState may find no memory */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

static struct checksum in_digits(XXH128_hash_t hash)
{
    struct checksum out;
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    for (size_t i = 0; i < sizeof canonical.digest; i++)
        snprintf(out.digits + 2 * i, 3, "%02x", canonical.digest[i]);
    return out;
}

struct checksum checksum_of(const void *bytes, size_t size)
{
    return in_digits(XXH3_128bits(bytes, size));
}

/* A stream is the library's state under a name of ours. */

struct checksum_stream *checksum_stream_new(void)
{
    XXH3_state_t *state = must_alloc_aligned(64, sizeof *state);
    XXH3_INITSTATE(state);
    XXH3_128bits_reset(state);
    return (struct checksum_stream *)state;
}

void checksum_stream_add(struct checksum_stream *stream, const void *bytes, size_t size)
{
    XXH3_128bits_update((XXH3_state_t *)stream, bytes, size);
}

struct checksum checksum_stream_digest(const struct checksum_stream *stream)
{
    return in_digits(XXH3_128bits_digest((const XXH3_state_t *)stream));
}

void checksum_stream_free(struct checksum_stream *stream)
{
    free(stream);
}
