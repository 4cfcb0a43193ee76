#include "model/checksum.h"
#include "base/status.h"

#include <stdio.h>
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
    XXH3_state_t *state = XXH3_createState();
    invariant(state && XXH3_128bits_reset(state) == XXH_OK, "no memory for a checksum");
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
    XXH3_freeState((XXH3_state_t *)stream);
}
