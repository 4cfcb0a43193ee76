/* SipHash-2-4 with 128 bits against the vectors its authors published. */
#include "base/base.h"
#include "base/siphash.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* From vectors_sip128 of the reference implementation (github.com/veorq/SipHash, vectors.h): the
 * key is 00 01 .. 0f, the input 00 01 .. of this length. `openssl mac -macopt size:16 ... SIPHASH`
 * says the same. The lengths are those around a word and around two, and the ends of the table. */
static const struct {
    size_t length;
    const char *hash;
} vectors[] = {
    {0, "a3817f04ba25a8e66df67214c7550293"},  {1, "da87c1d86b99af44347659119b22fc45"},
    {7, "a1f1ebbed8dbc153c0b84aa61ff08239"},  {8, "3b62a9ba6258f5610f83e264f31497b4"},
    {9, "264499060ad9baabc47f8b02bb6d71ed"},  {15, "5493e99933b0a8117e08ec0f97cfc3d9"},
    {16, "6ee2a4ca67b054bbfd3315bf85230577"}, {31, "2939b0183223fafc1723de4f52c43d35"},
    {63, "5150d1772f50834a503e069a973fbd7c"},
};

static void print_hash(struct siphash h, char text[33])
{
    uint64_t halves[2];
    siphash_end(&h, &halves[0], &halves[1]);
    for (int i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned)(halves[i / 8] >> i % 8 * 8 & 0xff));
}

static struct siphash of_key(void)
{
    struct siphash h;
    siphash_begin(&h, 0x0706050403020100, 0x0f0e0d0c0b0a0908);
    return h;
}

Test(siphash, gives_the_published_vectors)
{
    unsigned char input[64];
    char text[33];
    for (size_t i = 0; i < sizeof input; i++)
        input[i] = (unsigned char)i;
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        struct siphash h = of_key();
        siphash_add(&h, input, vectors[i].length);
        print_hash(h, text);
        cr_expect_str_eq(text, vectors[i].hash, "%zu bytes: %s", vectors[i].length, text);
    }
}

/* Every way to cut every length into three pieces: the words do not follow the pieces. */
Test(siphash, pieces_are_one_text)
{
    unsigned char input[40];
    char whole_text[33], pieces_text[33];
    for (size_t i = 0; i < sizeof input; i++)
        input[i] = (unsigned char)(i * 7);
    for (size_t length = 0; length <= sizeof input; length++) {
        struct siphash whole = of_key();
        siphash_add(&whole, input, length);
        print_hash(whole, whole_text);
        for (size_t a = 0; a <= length; a++)
            for (size_t b = a; b <= length; b++) {
                struct siphash pieces = of_key();
                siphash_add(&pieces, input, a);
                siphash_add(&pieces, input + a, b - a);
                siphash_add(&pieces, input + b, length - b);
                print_hash(pieces, pieces_text);
                cr_assert_str_eq(pieces_text, whole_text, "%zu bytes cut at %zu, %zu", length, a,
                                 b);
            }
    }
}

Test(siphash, every_bit_of_the_key_and_the_input_counts)
{
    unsigned char input[24] = {0};
    char plain[33], other[33];
    struct siphash h;
    siphash_begin(&h, 0, 0);
    siphash_add(&h, input, sizeof input);
    print_hash(h, plain);
    for (int bit = 0; bit < 64; bit++)
        for (int half = 0; half < 2; half++) {
            siphash_begin(&h, half ? 0 : 1ull << bit, half ? 1ull << bit : 0);
            siphash_add(&h, input, sizeof input);
            print_hash(h, other);
            cr_expect_str_neq(other, plain, "bit %d of k%d", bit, half);
        }
    for (size_t bit = 0; bit < 8 * sizeof input; bit++) {
        siphash_begin(&h, 0, 0);
        input[bit / 8] = (unsigned char)(1 << bit % 8);
        siphash_add(&h, input, sizeof input);
        input[bit / 8] = 0;
        print_hash(h, other);
        cr_expect_str_neq(other, plain, "bit %zu of the input", bit);
    }
}
