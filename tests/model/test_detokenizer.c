#include "model/utf8.h"
#include "support_tokenizer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* 256 byte tokens (ids are the bytes), a few words, a special token and a hole. */
enum { WORD = 256, EURO_HEAD, EURO_TAIL, SPECIAL, HOLE, TOKENS };

static char alphabet[256][3]; /* GPT-2's characters, as text */

static void fill_alphabet(void)
{
    int next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        bool shown = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
        int c = shown ? byte : next++;
        if (c < 0x80) {
            alphabet[byte][0] = (char)c;
        } else {
            alphabet[byte][0] = (char)(0xc0 | c >> 6);
            alphabet[byte][1] = (char)(0x80 | (c & 0x3f));
        }
    }
}

static struct tokenizer *byte_tokenizer(void)
{
    fill_alphabet();
    static struct tokenizer_token tokens[TOKENS];
    for (int i = 0; i < 256; i++)
        tokens[i] =
            (struct tokenizer_token){alphabet[i], (uint32_t)strlen(alphabet[i]), TOKEN_NORMAL};
    static char head[8], tail[4];
    snprintf(head, sizeof head, "%s%s", alphabet[0xe2], alphabet[0x82]);
    snprintf(tail, sizeof tail, "%s", alphabet[0xac]);
    tokens[WORD] = (struct tokenizer_token){"word", 4, TOKEN_NORMAL};
    tokens[EURO_HEAD] = (struct tokenizer_token){head, (uint32_t)strlen(head), TOKEN_NORMAL};
    tokens[EURO_TAIL] = (struct tokenizer_token){tail, (uint32_t)strlen(tail), TOKEN_NORMAL};
    tokens[SPECIAL] = (struct tokenizer_token){"<|end|>", 7, TOKEN_SPECIAL};
    tokens[HOLE] = (struct tokenizer_token){NULL, 0, TOKEN_UNUSED};
    struct tokenizer_spec spec = {.tokens = tokens, .token_count = TOKENS, .bos = -1, .eos = -1};
    struct tokenizer *tokenizer = NULL;
    cr_assert_eq(tokenizer_create(&spec, &tokenizer, NULL), ST_OK);
    return tokenizer;
}

/* Pushes ids and checks what comes out after each of them. */
static void check_steps(const int32_t *ids, const char *const *expected, size_t count,
                        const char *end)
{
    struct tokenizer *tokenizer = byte_tokenizer();
    struct detokenizer state = {0};
    struct strbuf out = {0};
    for (size_t i = 0; i < count; i++) {
        strbuf_clear(&out);
        detokenizer_push(&state, tokenizer, ids[i], true, &out);
        cr_assert_str_eq(strbuf_cstr(&out), expected[i], "step %zu: '%s'", i, strbuf_cstr(&out));
    }
    strbuf_clear(&out);
    detokenizer_finish(&state, &out);
    cr_assert_str_eq(strbuf_cstr(&out), end);
    strbuf_free(&out);
    tokenizer_free(tokenizer);
}

#define FFFD "\xef\xbf\xbd"

Test(detokenizer, a_character_comes_whole)
{
    check_steps((int32_t[]){'a', EURO_HEAD, EURO_TAIL, WORD},
                (const char *[]){"a", "", "\xe2\x82\xac", "word"}, 4, "");
    check_steps((int32_t[]){0xf0, 0x9f, 0x98, 0x80},
                (const char *[]){"", "", "", "\xf0\x9f\x98\x80"}, 4, "");
}

Test(detokenizer, broken_parts_are_replaced_at_once)
{
    check_steps((int32_t[]){0xac, EURO_HEAD, WORD}, (const char *[]){FFFD, "", FFFD "word"}, 3, "");
    check_steps((int32_t[]){EURO_HEAD, EURO_HEAD, 0xff}, (const char *[]){"", FFFD, FFFD FFFD}, 3,
                "");
    check_steps((int32_t[]){0xed, 0xa0, 0x80}, (const char *[]){"", FFFD FFFD, FFFD}, 3, "");
    check_steps((int32_t[]){EURO_HEAD}, (const char *[]){""}, 1, FFFD);
}

Test(detokenizer, specials_and_holes)
{
    check_steps((int32_t[]){SPECIAL, HOLE, -1, TOKENS}, (const char *[]){"<|end|>", "", "", ""}, 4,
                "");
    struct tokenizer *tokenizer = byte_tokenizer();
    struct strbuf out = {0};
    tokenizer_decode(tokenizer, (int32_t[]){EURO_HEAD, SPECIAL, EURO_TAIL}, 3, false, &out);
    cr_assert_str_eq(strbuf_cstr(&out),
                     "\xe2\x82\xac"); /* a hidden token does not cut a character */
    strbuf_free(&out);
    tokenizer_free(tokenizer);
}

/* A byte at a time from the definition of UTF-8 (Unicode table 3-7), independent of utf8_step. */
static size_t maximal_part(const unsigned char *s, size_t length, bool *whole)
{
    static const struct {
        unsigned char low, high, second_low, second_high;
        size_t need;
    } rows[] = {{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
                {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
                {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
                {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    *whole = s[0] < 0x80;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        if (s[0] < rows[r].low || s[0] > rows[r].high) continue;
        size_t n = 1;
        if (n < length && s[1] >= rows[r].second_low && s[1] <= rows[r].second_high) n = 2;
        while (n >= 2 && n < rows[r].need && n < length && s[n] >= 0x80 && s[n] <= 0xbf)
            n++;
        *whole = n == rows[r].need;
        return n;
    }
    return 1;
}

static void reference_decode(const struct strbuf *bytes, struct strbuf *out)
{
    for (size_t at = 0; at < bytes->length;) {
        bool whole;
        size_t n =
            maximal_part((const unsigned char *)bytes->data + at, bytes->length - at, &whole);
        if (whole)
            strbuf_append(out, bytes->data + at, n);
        else
            strbuf_text(out, FFFD);
        at += n;
    }
}

/* Bytes that make broken characters likely. */
static int32_t random_id(struct rng *rng)
{
    static const unsigned char edges[] = {0x00, 'a',  0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
                                          0xbf, 0xc0, 0xc2, 0xe0, 0xe2, 0xed, 0xf0, 0xf4};
    if (rng_below(rng, 4) == 0) return (int32_t)rng_below(rng, TOKENS);
    return edges[rng_below(rng, COUNT_OF(edges))];
}

Test(detokenizer, pushes_add_up_to_the_whole)
{
    struct tokenizer *tokenizer = byte_tokenizer();
    struct rng rng = {42};
    struct strbuf whole = {0}, pushed = {0}, bytes = {0}, expected = {0};
    for (int round = 0; round < 20000; round++) {
        int32_t ids[12];
        size_t count = rng_below(&rng, COUNT_OF(ids) + 1);
        struct detokenizer state = {0};
        strbuf_clear(&whole), strbuf_clear(&pushed), strbuf_clear(&bytes), strbuf_clear(&expected);
        for (size_t i = 0; i < count; i++) {
            ids[i] = random_id(&rng);
            tokenizer_token_bytes(tokenizer, ids[i], round % 2, &bytes);
            detokenizer_push(&state, tokenizer, ids[i], round % 2, &pushed);
            cr_assert_eq(utf8_valid_prefix(strbuf_cstr(&pushed), pushed.length), pushed.length,
                         "round %d: half a character came out", round);
        }
        detokenizer_finish(&state, &pushed);
        tokenizer_decode(tokenizer, ids, count, round % 2, &whole);
        reference_decode(&bytes, &expected);
        cr_assert_eq(whole.length, expected.length, "round %d", round);
        cr_assert_eq(pushed.length, expected.length, "round %d", round);
        cr_assert(!memcmp(strbuf_cstr(&whole), strbuf_cstr(&expected), whole.length), "round %d",
                  round);
        cr_assert(!memcmp(strbuf_cstr(&pushed), strbuf_cstr(&expected), whole.length), "round %d",
                  round);
    }
    strbuf_free(&whole), strbuf_free(&pushed), strbuf_free(&bytes), strbuf_free(&expected);
    tokenizer_free(tokenizer);
}
