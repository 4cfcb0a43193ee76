/* SHA-256 (FIPS 180-4), for the digests of API keys: short inputs, in one call. */
#ifndef SERVER_SHA256_H
#define SERVER_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

void sha256(const void *bytes, size_t length, uint8_t digest[SHA256_BYTES]);

#endif
