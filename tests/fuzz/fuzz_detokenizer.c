/* Tokens to text: what is pushed token by token adds up to what is decoded at once, and both are
 * the bytes with each maximal broken part replaced by U+FFFD; as JSON the text survives a parser.
 *
 * Input: bytes; each is the token of that byte, but 0xff followed by another byte is that token
 * counted from the last (specials, added words, merges, and ids that have no token). */
#include "tests/fuzz/support_input.h"
#include "model/utf8.h"
#include "server/render.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The bytes left over from the definition of UTF-8, Unicode table 3-7: how many of them are one
 * character or one broken part. */
static size_t maximal_part(const unsigned char *s, size_t length, bool *whole)
{
    static const unsigned char rows[][5] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    *whole = s[0] < 0x80;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        if (s[0] < rows[r][0] || s[0] > rows[r][1]) continue;
        size_t n = 1;
        if (n < length && s[1] >= rows[r][2] && s[1] <= rows[r][3]) n = 2;
        while (n >= 2 && n < rows[r][4] && n < length && s[n] >= 0x80 && s[n] <= 0xbf)
            n++;
        *whole = n == rows[r][4];
        return n;
    }
    return 1;
}

static void decode_by_definition(const struct strbuf *bytes, struct strbuf *out)
{
    for (size_t at = 0; at < bytes->length;) {
        bool whole;
        const char *text = bytes->data + at;
        size_t n = maximal_part((const unsigned char *)text, bytes->length - at, &whole);
        strbuf_append(out, whole ? text : "\xef\xbf\xbd", whole ? n : 3);
        at += n;
    }
}

static void check_equal(const struct strbuf *found, const struct strbuf *expected, const char *what)
{
    invariant(found->length == expected->length &&
                  !memcmp(strbuf_cstr(found), strbuf_cstr(expected), found->length),
              "%s: %zu bytes, by definition %zu", what, found->length, expected->length);
}

/* The text as a JSON string, and what a parser makes of it. */
static void check_json(const struct strbuf *text)
{
    struct strbuf json = {0};
    render_json_string(&json, strbuf_cstr(text), text->length);
    json_t *value = json_loadb(json.data, json.length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    invariant(json_is_string(value) && json_string_length(value) == text->length &&
                  !memcmp(json_string_value(value), strbuf_cstr(text), text->length),
              "the JSON string is another text");
    json_decref(value);
    strbuf_free(&json);
}

static void check_ids(const struct tokenizer *tokenizer, const struct token_list *ids, bool special)
{
    struct strbuf bytes = {0}, expected = {0}, whole = {0}, pushed = {0};
    struct detokenizer state = {0};
    for (size_t i = 0; i < ids->count; i++) {
        tokenizer_token_bytes(tokenizer, ids->ids[i], special, &bytes);
        detokenizer_push(&state, tokenizer, ids->ids[i], special, &pushed);
        invariant(is_utf8(strbuf_cstr(&pushed), pushed.length), "half a character came out");
    }
    detokenizer_finish(&state, &pushed);
    tokenizer_decode(tokenizer, ids->ids, ids->count, special, &whole);
    decode_by_definition(&bytes, &expected);
    check_equal(&whole, &expected, "decoded at once");
    check_equal(&pushed, &expected, "token by token");
    check_json(&whole);
    strbuf_free(&bytes);
    strbuf_free(&expected);
    strbuf_free(&whole);
    strbuf_free(&pushed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tokenizer *tokenizer = chat_tokenizer();
    struct input input = {(const char *)data, size};
    struct token_list ids = {0};
    while (input.left) {
        int32_t id = input_byte(&input);
        if (id == 0xff && input.left) id = tokenizer_size(tokenizer) + 1 - input_byte(&input);
        token_list_append(&ids, id);
    }
    check_ids(tokenizer, &ids, false);
    check_ids(tokenizer, &ids, true);
    free(ids.ids);
    return 0;
}
