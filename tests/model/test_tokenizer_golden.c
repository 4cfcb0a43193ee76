/* Equal to Hugging Face's tokenizers, id for id and byte for byte, on everything the golden data
 * has. */
#include "support_tokenizer.h"
#include "model/checkpoint.h"
#include "model/tokenizer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_text(const struct strbuf *found, const json_t *expected, const char *what)
{
    cr_assert_eq(found->length, json_string_length(expected), "%s: %zu bytes '%s', expected '%s'",
                 what, found->length, strbuf_cstr(found), json_string_value(expected));
    cr_assert(!memcmp(strbuf_cstr(found), json_string_value(expected), found->length),
              "%s: '%s', expected '%s'", what, strbuf_cstr(found), json_string_value(expected));
}

static void check_decode(const struct tokenizer *tokenizer, const struct token_list *ids,
                         bool show_special, const json_t *expected, const char *what)
{
    struct strbuf text = {0};
    tokenizer_decode(tokenizer, ids->ids, ids->count, show_special, &text);
    check_text(&text, expected, what);
    strbuf_free(&text);
}

static void check_tokenize(const struct tokenizer *tokenizer, const json_t *cases)
{
    size_t i;
    json_t *item;
    cr_assert_geq(json_array_size(cases), 80);
    json_array_foreach(cases, i, item)
    {
        const json_t *text = json_object_get(item, "text");
        struct token_list ids =
            encode(tokenizer, json_string_value(text), json_string_length(text), true);
        const char *what = json_string_value(text);
        check_ids(&ids, json_object_get(item, "ids"), what);
        check_decode(tokenizer, &ids, true, json_object_get(item, "decoded"), what);
        check_decode(tokenizer, &ids, false, json_object_get(item, "decoded_skip_special"), what);
        free(ids.ids);
    }
}

static void check_add_special(const struct tokenizer *tokenizer, const json_t *cases)
{
    size_t i;
    json_t *item;
    cr_assert_gt(json_array_size(cases), 0);
    json_array_foreach(cases, i, item)
    {
        const json_t *text = json_object_get(item, "text");
        struct token_list all = {0};
        if (tokenizer_adds_bos(tokenizer)) token_list_append(&all, tokenizer_bos(tokenizer));
        cr_assert_eq(tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text),
                                      true, &all, NULL),
                     ST_OK);
        check_ids(&all, json_object_get(item, "ids"), json_string_value(text));
        free(all.ids);
    }
}

static void check_decodes(const struct tokenizer *tokenizer, const json_t *cases)
{
    size_t i, k;
    json_t *item, *id;
    cr_assert_gt(json_array_size(cases), 0);
    json_array_foreach(cases, i, item)
    {
        struct token_list ids = {0};
        json_array_foreach(json_object_get(item, "ids"), k, id)
            token_list_append(&ids, (int32_t)json_integer_value(id));
        check_decode(tokenizer, &ids, true, json_object_get(item, "text"), "decode");
        check_decode(tokenizer, &ids, false, json_object_get(item, "text_skip_special"), "decode");
        free(ids.ids);
    }
}

static void check_set(const char *set)
{
    json_t *golden = golden_json(set, "golden.json");
    cr_assert(golden, "the golden data of %s is not there", set);
    struct tokenizer *tokenizer = golden_tokenizer(set, NULL);
    check_tokenize(tokenizer, json_object_get(golden, "tokenize"));
    check_add_special(tokenizer, json_object_get(golden, "tokenize_add_special"));
    check_decodes(tokenizer, json_object_get(golden, "decode"));
    tokenizer_free(tokenizer);
    json_decref(golden);
}

Test(tokenizer_golden, llama_tied_f32)
{
    check_set("llama_tied_f32");
}

Test(tokenizer_golden, llama_ropescale_bf16)
{
    check_set("llama_ropescale_bf16");
}

Test(tokenizer_golden, qwen2_f16)
{
    check_set("qwen2_f16");
}

Test(tokenizer_golden, qwen3_sharded_bf16)
{
    check_set("qwen3_sharded_bf16");
}

Test(tokenizer_golden, smollm2)
{
    json_t *golden = golden_json("smollm2", "smollm2_golden.json");
    struct tokenizer *tokenizer = default_tokenizer(NULL);
    if (!golden || !tokenizer) cr_skip_test("the default model or its golden data is not there");
    check_tokenize(tokenizer, json_object_get(golden, "tokenize"));
    tokenizer_free(tokenizer);
    json_decref(golden);
}
