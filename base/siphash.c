#include "base/siphash.h"

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_rounds(uint64_t v[4], int count)
{
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
    }
}

void siphash_begin(struct siphash *h, uint64_t k0, uint64_t k1)
{
    *h = (struct siphash){.v = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee,
                                k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}};
}

static void take_word(struct siphash *h, uint64_t word)
{
    h->v[3] ^= word;
    sip_rounds(h->v, 2);
    h->v[0] ^= word;
}

static uint64_t little_endian(const unsigned char *bytes)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) /* one load to the compiler */
        word |= (uint64_t)bytes[i] << (8 * i);
    return word;
}

void siphash_add(struct siphash *h, const void *bytes, size_t length)
{
    const unsigned char *at = bytes, *end = at + length;
    while (at < end) {
        if (h->length % 8 == 0 && end - at >= 8) { /* keys are made of whole words: the fast way */
            take_word(h, little_endian(at));
            h->length += 8;
            at += 8;
            continue;
        }
        h->word |= (uint64_t)*at++ << (h->length % 8 * 8);
        if (++h->length % 8 != 0) continue;
        take_word(h, h->word);
        h->word = 0;
    }
}

void siphash_end(struct siphash *h, uint64_t *low, uint64_t *high)
{
    take_word(h, h->word | h->length << 56);
    h->v[2] ^= 0xee;
    sip_rounds(h->v, 4);
    *low = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
    h->v[1] ^= 0xdd;
    sip_rounds(h->v, 4);
    *high = h->v[0] ^ h->v[1] ^ h->v[2] ^ h->v[3];
}
