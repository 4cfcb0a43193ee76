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

/* The same for bytes that come in pieces. */
struct checksum_stream;
struct checksum_stream *checksum_stream_new(void);
void checksum_stream_add(struct checksum_stream *stream, const void *bytes, size_t size);
struct checksum checksum_stream_digest(const struct checksum_stream *stream);
void checksum_stream_free(struct checksum_stream *stream);

#endif
