#include "model/bpe.h"
#include "model/normalize.h"
#include "model/pretokenize.h"
#include "model/special_tokens.h"
#include "support_tokenizer.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* --- merging, against the definition: rescan for the best pair until there is none */

static size_t naive_merge(const struct bpe_merge *merges, int32_t merge_count, int32_t *ids,
                          size_t count)
{
    for (;;) {
        int32_t best = merge_count;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            for (int32_t rank = 0; rank < best; rank++) {
                if (merges[rank].left != ids[i] || merges[rank].right != ids[i + 1]) continue;
                best = rank;
                at = i;
            }
        }
        if (best == merge_count) return count;
        ids[at] = merges[best].result;
        memmove(&ids[at + 1], &ids[at + 2], (count - at - 2) * sizeof *ids);
        count--;
    }
}

Test(bpe, equals_the_definition)
{
    struct rng rng = {3};
    struct bpe_scratch scratch = {0};
    for (int round = 0; round < 3000; round++) {
        struct bpe_merge merges[12];
        int32_t count = 0, next = 3;
        for (int32_t i = 0; i < 12; i++) { /* each pair once, results are new ids */
            int32_t left = (int32_t)rng_below(&rng, (uint64_t)next);
            int32_t right = (int32_t)rng_below(&rng, (uint64_t)next);
            bool known = false;
            for (int32_t k = 0; k < count; k++)
                known |= merges[k].left == left && merges[k].right == right;
            if (!known) merges[count++] = (struct bpe_merge){left, right, next++};
        }
        struct bpe *bpe = bpe_create(merges, count);
        int32_t ids[40], expected[40];
        size_t length = rng_below(&rng, 41);
        for (size_t i = 0; i < length; i++)
            ids[i] = expected[i] = (int32_t)rng_below(&rng, 3);
        size_t wanted = naive_merge(merges, count, expected, length);
        cr_assert(bpe_apply(bpe, &scratch, ids, &length));
        cr_assert_eq(length, wanted, "round %d", round);
        cr_assert(!memcmp(ids, expected, length * sizeof *ids), "round %d", round);
        bpe_free(bpe);
    }
    bpe_scratch_release(&scratch);
}

Test(bpe, of_a_pair_that_stands_twice_the_later_counts)
{
    const struct bpe_merge merges[] = {{0, 1, 5}, {1, 2, 6}, {0, 1, 7}};
    struct bpe *bpe = bpe_create(merges, 3);
    struct bpe_scratch scratch = {0};
    int32_t ids[] = {0, 1, 2};
    size_t count = 3;
    cr_assert(bpe_apply(bpe, &scratch, ids, &count));
    cr_assert_eq(count, 2); /* (1, 2) went first: (0, 1) has rank 2 now */
    cr_assert_eq(ids[0], 0);
    cr_assert_eq(ids[1], 6);
    bpe_scratch_release(&scratch);
    bpe_free(bpe);
}

/* --- special tokens */

Test(special_tokens, the_longest_wins_at_the_leftmost_place)
{
    static const char *const texts[] = {"<a>", "<a><b>", "<", "ab", "abc", "abc"};
    struct special_tokens set;
    size_t at, end;
    cr_assert(special_tokens_init(&set, COUNT_OF(texts)));
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        cr_assert(special_tokens_add(
            &set, &(struct special_token){
                      .text = texts[i], .length = (uint32_t)strlen(texts[i]), .id = (int32_t)i}));
    special_tokens_sort(&set);
    cr_assert_eq(special_tokens_at(&set, "<a><b>", 6)->id, 1);
    cr_assert_eq(special_tokens_at(&set, "<a><b>", 5)->id, 0);
    cr_assert_eq(special_tokens_at(&set, "<x", 2)->id, 2);
    cr_assert_eq(special_tokens_at(&set, "abcd", 4)->id, 4);
    cr_assert_eq(special_tokens_at(&set, "abd", 3)->id, 3);
    cr_assert_null(special_tokens_at(&set, "a", 1));
    cr_assert_null(special_tokens_at(&set, "", 0));
    struct special_scan scan = {.set = &set, .text = "xxab<", .length = 5};
    cr_assert_eq(special_scan_next(&scan, &at, &end)->id, 3);
    cr_assert(at == 2 && end == 4);
    cr_assert_eq(special_scan_next(&scan, &at, &end)->id, 2);
    cr_assert_null(special_scan_next(&scan, &at, &end));
    special_tokens_release(&set);
}

/* --- pieces */

static void check_pieces(enum pretokenizer kind, const char *text, const char *expected)
{
    struct pretokenize *pretokenize;
    struct pieces pieces;
    struct strbuf out = {0};
    const char *piece;
    size_t length;
    struct tokenizer_spec spec = {.pretokenizer = kind};
    cr_assert_eq(pretokenize_create(&spec, &pretokenize, NULL), ST_OK);
    cr_assert(pieces_begin(&pieces, pretokenize));
    pieces_start(&pieces, text, strlen(text));
    while (pieces_next(&pieces, &piece, &length) > 0) {
        if (out.length) strbuf_char(&out, '|');
        strbuf_append(&out, piece, length);
    }
    cr_assert_str_eq(strbuf_cstr(&out), expected);
    strbuf_free(&out);
    pieces_end(&pieces);
    pretokenize_free(pretokenize);
}

Test(pretokenize, each_pattern)
{
    check_pieces(PRETOKENIZE_GPT2, "it's  12 ab3", "it|'s| | 12| ab|3");
    check_pieces(PRETOKENIZE_SMOLLM, "it's  12 ab3", "it|'s|  |1|2| ab|3");
    check_pieces(PRETOKENIZE_LLAMA3, "IT'S  12345 a!\n\nb", "IT|'S| | |123|45| a|!\n\n|b");
    check_pieces(PRETOKENIZE_QWEN2, "IT'S 12 .x", "IT|'S| |1|2| .|x");
    /* U+180E is no space for the models, though PCRE2's \s takes it; U+0085 and U+3000 are. */
    check_pieces(PRETOKENIZE_GPT2, "a\xe1\xa0\x8e.", "a|\xe1\xa0\x8e.");
    check_pieces(PRETOKENIZE_GPT2,
                 "a\xc2\x85\xe3\x80\x80"
                 "b",
                 "a|\xc2\x85|\xe3\x80\x80|b");
}

Test(pretokenize, broken_bytes_are_pieces)
{
    check_pieces(PRETOKENIZE_SMOLLM, "\xff", "\xff");
    check_pieces(PRETOKENIZE_SMOLLM, "ab\xff\xc3(x\xe2\x82", "ab|\xff\xc3|(|x|\xe2\x82");
    check_pieces(PRETOKENIZE_LLAMA3, " \xed\xa0\x80 a", " |\xed\xa0\x80| a");
}

/* --- NFC */

static void check_nfc(const char *text, size_t length)
{
    struct strbuf found = {0};
    utf8proc_uint8_t *expected = NULL;
    utf8proc_ssize_t wanted = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                           &expected, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    cr_assert_geq(wanted, 0);
    cr_assert(nfc_append(text, length, &found));
    cr_assert_eq(found.length, (size_t)wanted);
    cr_assert(!memcmp(strbuf_cstr(&found), expected, found.length));
    if (!nfc_may_change(text, length))
        cr_assert(found.length == length && !memcmp(strbuf_cstr(&found), text, length));
    strbuf_free(&found);
    free(expected);
}

static void append_codepoint(struct strbuf *text, utf8proc_int32_t codepoint)
{
    utf8proc_uint8_t bytes[4];
    strbuf_append(text, bytes, (size_t)utf8proc_encode_char(codepoint, bytes));
}

Test(nfc, every_character_and_random_runs_of_marks)
{
    struct strbuf text = {0};
    for (utf8proc_int32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xd800 && c < 0xe000) continue;
        strbuf_clear(&text);
        append_codepoint(&text, c);
        check_nfc(text.data, text.length);
    }
    static const utf8proc_int32_t some[] = {'a',    'e',   0x300,  0x301,  0x323,  0x327,
                                            0x345,  0x344, 0x1e9b, 0x1100, 0x1161, 0x11a8,
                                            0xac00, 0x5b0, 0x5b9,  0x212b};
    struct rng rng = {5};
    for (int round = 0; round < 20000; round++) {
        strbuf_clear(&text);
        for (uint64_t n = rng_below(&rng, 12); n > 0; n--)
            append_codepoint(&text, some[rng_below(&rng, COUNT_OF(some))]);
        check_nfc(strbuf_cstr(&text), text.length);
    }
    strbuf_free(&text);
}

/* utf8proc 2.6 drops U+11A7 behind a syllable; it is a letter like any other. */
Test(nfc, the_first_hangul_final_minus_one_stays)
{
    struct strbuf out = {0};
    cr_assert(nfc_append("\xed\x9b\xbc\xe1\x86\xa7 \xe1\x86\xa7", 10, &out));
    cr_assert_str_eq(strbuf_cstr(&out), "\xed\x9b\xbc\xe1\x86\xa7 \xe1\x86\xa7");
    strbuf_free(&out);
}

Test(nfc, broken_bytes_stay)
{
    struct strbuf out = {0};
    cr_assert(nfc_append("e\xcc\x81\xff\xcc\x81\xc3", 7, &out));
    cr_assert_str_eq(strbuf_cstr(&out), "\xc3\xa9\xff\xcc\x81\xc3");
    strbuf_free(&out);
}

/* --- a tiny vocabulary: letters, and what each rule needs */

static struct tokenizer_token tokens[] = {
    {"a", 1, TOKEN_NORMAL},        {"b", 1, TOKEN_NORMAL},      {"c", 1, TOKEN_NORMAL},
    {"ab", 2, TOKEN_NORMAL},       {"bc", 2, TOKEN_NORMAL},     {"abc", 3, TOKEN_NORMAL},
    {"<s>", 3, TOKEN_SPECIAL},     {"<think>", 7, TOKEN_ADDED}, {"<", 1, TOKEN_NORMAL},
    {">", 1, TOKEN_NORMAL},        {"s", 1, TOKEN_NORMAL},      {NULL, 0, TOKEN_UNUSED},
    {"\xc3\xbf", 2, TOKEN_NORMAL}, /* U+00FF: the byte ff */
    {"cab", 3, TOKEN_NORMAL},      /* no merge makes it */
};
static struct tokenizer_merge merges[] = {{"b", "c", 1, 1}, {"a", "b", 1, 1}, {"ab", "c", 2, 1}};

static struct tokenizer_spec tiny_spec(void)
{
    return (struct tokenizer_spec){.tokens = tokens,
                                   .token_count = COUNT_OF(tokens),
                                   .merges = merges,
                                   .merge_count = COUNT_OF(merges),
                                   .bos = 6,
                                   .eos = -1,
                                   .add_bos = true};
}

static struct tokenizer *tiny(bool ignore_merges)
{
    struct tokenizer_spec spec = tiny_spec();
    struct tokenizer *tokenizer = NULL;
    spec.ignore_merges = ignore_merges;
    cr_assert_eq(tokenizer_create(&spec, &tokenizer, NULL), ST_OK);
    return tokenizer;
}

static void check_encode(const struct tokenizer *tokenizer, const char *text, bool special,
                         const int32_t *expected, size_t count)
{
    struct token_list found = encode(tokenizer, text, strlen(text), special);
    cr_assert_eq(found.count, count, "'%s': %zu tokens", text, found.count);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(found.ids[i], expected[i], "'%s': token %zu is %d", text, i, found.ids[i]);
    free(found.ids);
}

#define IDS(...) (int32_t[]){__VA_ARGS__}, COUNT_OF(((int32_t[]){__VA_ARGS__}))

Test(tokenizer, a_token_is_taken_whole_only_where_merging_makes_it)
{
    struct tokenizer *by_merges = tiny(false), *by_lookup = tiny(true);
    check_encode(by_merges, "abc", false, IDS(0, 4)); /* bc has the lower rank: never "abc" */
    check_encode(by_merges, "ab", false, IDS(3));
    check_encode(by_merges, "cab", false, IDS(2, 3));
    check_encode(by_lookup, "abc", false, IDS(5));
    check_encode(by_lookup, "cab", false, IDS(13));
    check_encode(by_lookup, "abca", false, IDS(0, 4, 0)); /* no token: merged as ever */
    tokenizer_free(by_merges);
    tokenizer_free(by_lookup);
}

Test(tokenizer, special_text_only_when_asked_and_added_text_always)
{
    struct tokenizer *tokenizer = tiny(false);
    check_encode(tokenizer, "a<s>b", true, IDS(0, 6, 1));
    check_encode(tokenizer, "a<s>b", false, IDS(0, 8, 10, 9, 1));
    check_encode(tokenizer, "a<think>b", false, IDS(0, 7, 1));
    check_encode(tokenizer, "<think><s>", true, IDS(7, 6));
    cr_assert_eq(tokenizer_find_special(tokenizer, "<s>"), 6);
    cr_assert_eq(tokenizer_find_special(tokenizer, "<think>"), 7);
    cr_assert_eq(tokenizer_find_special(tokenizer, "<s"), -1);
    cr_assert_eq(tokenizer_find_special(tokenizer, "ab"), -1);
    cr_assert_eq(tokenizer_bos(tokenizer), 6);
    cr_assert(tokenizer_adds_bos(tokenizer));
    tokenizer_free(tokenizer);
}

Test(tokenizer, bytes_without_a_token_are_left_out)
{
    struct tokenizer *tokenizer = tiny(false);
    check_encode(tokenizer, "axb", false, IDS(3)); /* as in Hugging Face's: what is left merges */
    check_encode(tokenizer, "\xff\xfe", false, IDS(12));
    tokenizer_free(tokenizer);
}

static void refused(const struct tokenizer_spec *spec, const char *words)
{
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    cr_assert_eq(tokenizer_create(spec, &tokenizer, &err), ST_BAD_FILE);
    cr_assert(strstr(err.text, words), "'%s'", err.text);
    cr_assert_null(tokenizer);
}

Test(tokenizer, contradictions_are_refused)
{
    struct tokenizer_merge bad[] = {{"a", "b", 1, 1}, {"a", "x", 1, 1}};
    struct tokenizer_merge unmade[] = {{"a", "c", 1, 1}};
    struct tokenizer_spec spec = tiny_spec();
    spec.merges = bad, spec.merge_count = 2;
    refused(&spec, "merge 1 needs the token 'x'");
    spec.merges = unmade, spec.merge_count = 1;
    refused(&spec, "merge 0 needs the token 'ac'");
    spec = tiny_spec();
    spec.bos = COUNT_OF(tokens);
    refused(&spec, "BOS is token 14");
    spec = tiny_spec();
    spec.token_count = 0;
    refused(&spec, "0 tokens");
}

/* --- memory runs out at every place in turn */

Test(tokenizer, every_failed_allocation_is_reported_and_leaks_nothing)
{
    struct tokenizer_spec spec = tiny_spec();
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    int64_t n = 1;
    for (;; n++) {
        alloc_fail_after(n);
        enum status status = tokenizer_create(&spec, &tokenizer, &err);
        alloc_fail_after(0);
        if (!status) break;
        cr_assert_eq(status, ST_NO_MEMORY);
    }
    cr_assert_gt(n, 8);
    struct token_list ids = {0};
    token_list_append(&ids, 99);
    for (n = 1;; n++) {
        alloc_fail_after(n);
        enum status status = tokenizer_encode(tokenizer, "abc <s>cabc", 11, true, &ids, &err);
        alloc_fail_after(0);
        if (!status) break;
        cr_assert_eq(status, ST_NO_MEMORY);
        cr_assert_eq(ids.count, 1, "half a text stayed");
    }
    cr_assert_gt(n, 3);
    free(ids.ids);
    tokenizer_free(tokenizer);
}

/* --- any bytes, long ones, many threads */

static struct tokenizer *golden_llama(void)
{
    json_t *golden = golden_json("llama_tied_f32", "golden.json");
    cr_assert(golden, "the golden data is not there");
    json_decref(golden);
    return golden_tokenizer("llama_tied_f32", NULL);
}

Test(tokenizer, random_bytes_come_back_as_they_were)
{
    struct tokenizer *tokenizer = golden_llama();
    struct rng rng = {11};
    for (int round = 0; round < 3000; round++) {
        char text[64];
        size_t length = rng_below(&rng, sizeof text);
        for (size_t i = 0; i < length; i++)
            text[i] = rng_below(&rng, 3) ? (char)rng_below(&rng, 256) : " ea\n"[round % 4];
        struct token_list ids = encode(tokenizer, text, length, round % 2);
        struct strbuf bytes = {0};
        for (size_t i = 0; i < ids.count; i++)
            tokenizer_token_bytes(tokenizer, ids.ids[i], true, &bytes);
        cr_assert_eq(bytes.length, length, "round %d", round);
        cr_assert(!memcmp(strbuf_cstr(&bytes), text, length), "round %d", round);
        strbuf_free(&bytes);
        free(ids.ids);
    }
    tokenizer_free(tokenizer);
}

/* One long piece. Quadratic merging would take hours here, so the suite's own limit is the clock.
 */
Test(tokenizer, long_runs_of_one_character)
{
    struct tokenizer *tokenizer = golden_llama();
    static const char *const units[] = {"a",    " ",        "\n", "<",   "ab",
                                        "\xff", "\xcc\x81", "1",  " \n", "<|im_sta"};
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        struct strbuf text = {0};
        while (text.length < (2 << 20))
            strbuf_text(&text, units[i]);
        struct token_list ids = encode(tokenizer, text.data, text.length, true);
        size_t bytes = 0, length;
        for (size_t k = 0; k < ids.count; k++) {
            tokenizer_token_view(tokenizer, ids.ids[k], true, &length);
            bytes += length;
        }
        cr_assert_eq(bytes, text.length, "'%s'", units[i]);
        free(ids.ids);
        strbuf_free(&text);
    }
    tokenizer_free(tokenizer);
}

Test(nfc, a_million_marks_in_the_wrong_order)
{
    struct strbuf text = {0}, out = {0};
    strbuf_char(&text, 'a');
    for (int i = 0; i < 500000; i++)
        strbuf_text(&text, "\xcc\x81\xcc\xa3"); /* class 230, then 220 */
    cr_assert(nfc_append(text.data, text.length, &out));
    cr_assert_eq(out.length, text.length - 1 - 2 + 3); /* a + U+0323 became U+1EA1 */
    cr_assert(!memcmp(out.data, "\xe1\xba\xa1\xcc\xa3", 5));
    cr_assert(!memcmp(out.data + out.length - 2, "\xcc\x81", 2));
    strbuf_free(&text);
    strbuf_free(&out);
}

static void *encode_many(void *argument)
{
    const struct tokenizer *tokenizer = argument;
    static const char text[] =
        "The tower is 324 metres tall, don't you think? \xe4\xbd\xa0\xe5\xa5\xbd\n\n";
    struct token_list first = {0}, again = {0};
    for (int i = 0; i < 200; i++) {
        again.count = 0;
        tokenizer_encode(tokenizer, text, sizeof text - 1, true, i ? &again : &first, NULL);
        if (i && (again.count != first.count ||
                  memcmp(again.ids, first.ids, first.count * sizeof *first.ids)))
            return NULL;
    }
    free(again.ids);
    free(first.ids);
    return argument;
}

Test(tokenizer, threads_share_it)
{
    struct tokenizer *tokenizer = golden_llama();
    pthread_t threads[4];
    void *result;
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, encode_many, tokenizer), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &result);
        cr_assert_eq(result, tokenizer);
    }
    tokenizer_free(tokenizer);
}
