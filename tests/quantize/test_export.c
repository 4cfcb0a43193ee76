/* config.json and the tokenizer's files, made for models that come without: read back they say the
 * same. */
#include "base/base.h"
#include "model/hf_config.h"
#include "model/rope.h"
#include "model/tokenizer_json.h"
#include "quant/checkpoint/config_json.h"
#include "quant/checkpoint/tokenizer_export.h"
#include "tests/model/support_files.h"
#include "tests/model/support_tokenizer.h"
#include "model/checkpoint.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_json(const char *dir, const char *name, json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(1));
    cr_assert(text, "%s", name);
    write_in(dir, name, text, strlen(text));
    free(text);
    json_decref(json);
}

/* --- config.json */

static struct model_config llama(void)
{
    struct model_config c = {.architecture = "llama",
                             .vocab = 100,
                             .hidden = 32,
                             .intermediate = 48,
                             .layers = 2,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 16,
                             .max_context = 8192,
                             .rms_eps = 1e-5f,
                             .tied = true,
                             .bos = 1,
                             .eos = {2, 7},
                             .eos_count = 2};
    c.rope.theta = 10000;
    return c;
}

/* What has a meaning of both: fields of a scaling that is not used do not matter. */
static void expect_same(const struct model_config *a, const struct model_config *b)
{
    float x[MODEL_MAX_HEAD_DIM / 2], y[MODEL_MAX_HEAD_DIM / 2];
    cr_expect_str_eq(a->architecture, b->architecture);
    cr_expect(a->vocab == b->vocab && a->hidden == b->hidden &&
              a->intermediate == b->intermediate && a->layers == b->layers);
    cr_expect(a->heads == b->heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim);
    cr_expect(a->max_context == b->max_context && a->window == b->window, "%d %d, %d %d",
              a->max_context, b->max_context, a->window, b->window);
    cr_expect(a->rms_eps == b->rms_eps && a->tied == b->tied && a->qkv_bias == b->qkv_bias &&
              a->qk_norm == b->qk_norm);
    cr_expect(a->bos == b->bos && a->eos_count == b->eos_count &&
              !memcmp(a->eos, b->eos, (size_t)a->eos_count * sizeof *a->eos));
    model_rope_frequencies(a, x);
    model_rope_frequencies(b, y);
    for (int32_t i = 0; i < a->head_dim / 2; i++)
        cr_expect(x[i] == y[i], "frequency %d: %a and %a", i, (double)x[i], (double)y[i]);
    cr_expect(model_rope_scale(a) == model_rope_scale(b), "%a and %a", (double)model_rope_scale(a),
              (double)model_rope_scale(b));
}

static void check_config(const struct model_config *config)
{
    struct model_config back = {0};
    struct error err = {0};
    char *dir = make_directory();
    write_json(dir, "config.json", config_json(config));
    write_json(dir, "generation_config.json", generation_config_json(config));
    cr_assert(hf_config_read(dir, &back, &err) == ST_OK, "%s", err.text);
    expect_same(config, &back);
    remove_directory(dir);
}

Test(export, a_configuration_reads_back_the_same)
{
    struct model_config c = llama();
    check_config(&c);
    c.rms_eps = 1.2345678e-6f;
    c.bos = -1;
    c.eos_count = 0;
    c.tied = false;
    c.rope.theta = 1234567.875;
    check_config(&c);
    c = llama();
    c.head_dim = 32; /* not hidden / heads */
    check_config(&c);
}

Test(export, every_family_with_and_without_a_window)
{
    static const char *const names[] = {"llama", "mistral", "qwen2", "qwen3"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct model_config c = llama();
        snprintf(c.architecture, sizeof c.architecture, "%s", names[i]);
        c.qkv_bias = i == 2;
        c.qk_norm = i == 3;
        check_config(&c);
        model_config_limit_window(&c, 4096);
        check_config(&c);
    }
}

Test(export, every_scaling_of_rotary_positions)
{
    struct model_config c = llama();
    c.rope.attention_factor = 1.25; /* GGUF's attn_factor beside no scaling */
    check_config(&c);
    c.rope.scaling = ROPE_LINEAR;
    c.rope.factor = 3.7;
    check_config(&c);
    c.rope.attention_factor = 1;
    check_config(&c);
    c.rope.scaling = ROPE_LLAMA3;
    c.rope.low_freq_factor = 1;
    c.rope.high_freq_factor = 4;
    c.rope.original_context = 64;
    check_config(&c);
    c.rope.scaling = ROPE_YARN;
    c.rope.factor = 4;
    c.rope.original_context = 2048;
    c.rope.beta_fast = 32;
    c.rope.beta_slow = 1;
    c.rope.attention_factor = 1.0 / 3;
    check_config(&c);
    c.rope.truncate = true;
    check_config(&c);
    c.rope.scaling = ROPE_FACTORS;
    for (int i = 0; i < 8; i++)
        c.rope.factors[i] = 1.0f / 3 + (float)i;
    check_config(&c);
}

/* --- the tokenizer */

/* The spec written and read back. */
static struct tokenizer_spec round_trip(const struct tokenizer_spec *spec)
{
    struct tokenizer_spec back;
    struct error err = {0};
    char *dir = make_directory();
    write_json(dir, "tokenizer.json", tokenizer_json(spec));
    write_json(dir, "tokenizer_config.json", tokenizer_config_json(spec, 2048));
    cr_assert(tokenizer_spec_from_json(dir, &back, &err) == ST_OK, "%s", err.text);
    remove_directory(dir);
    return back;
}

static struct tokenizer *build(const struct tokenizer_spec *spec)
{
    struct tokenizer *tokenizer;
    struct error err = {0};
    cr_assert(tokenizer_create(spec, &tokenizer, &err) == ST_OK, "%s", err.text);
    return tokenizer;
}

static void expect_same_ids(const struct tokenizer *a, const struct tokenizer *b, const char *text,
                            size_t length)
{
    for (int special = 0; special < 2; special++) {
        struct token_list x = {0}, y = {0};
        struct error err = {0};
        cr_assert_eq(tokenizer_encode_text(a, text, length, special, true, &x, &err), ST_OK);
        cr_assert_eq(tokenizer_encode_text(b, text, length, special, true, &y, &err), ST_OK);
        cr_expect(x.count == y.count &&
                      (!x.count || !memcmp(x.ids, y.ids, x.count * sizeof *x.ids)),
                  "special %d: '%.200s'", special, text);
        struct strbuf one = {0}, two = {0};
        tokenizer_decode(a, x.ids, x.count, true, &one);
        tokenizer_decode(b, x.ids, x.count, true, &two);
        cr_expect_str_eq(strbuf_cstr(&one), strbuf_cstr(&two));
        strbuf_free(&one);
        strbuf_free(&two);
        free(x.ids);
        free(y.ids);
    }
}

/* Every text of the list, and every token by itself. */
static void check_tokenizer(const struct tokenizer_spec *spec, const json_t *strings)
{
    struct tokenizer_spec back = round_trip(spec);
    struct tokenizer *before = build(spec), *after = build(&back);
    size_t i;
    const json_t *entry;
    json_array_foreach(strings, i, entry)
    {
        const json_t *text = json_object_get(entry, "text");
        expect_same_ids(before, after, json_string_value(text), json_string_length(text));
    }
    for (int32_t id = 0; id < spec->token_count; id++) {
        size_t one, two;
        const char *x = tokenizer_token_view(before, id, true, &one);
        const char *y = tokenizer_token_view(after, id, true, &two);
        cr_expect(one == two && !memcmp(x, y, one), "token %d", id);
        tokenizer_token_view(before, id, false, &one);
        tokenizer_token_view(after, id, false, &two);
        cr_expect(one == two, "token %d, shown", id);
    }
    cr_expect_eq(tokenizer_bos(before), tokenizer_bos(after));
    cr_expect_eq(tokenizer_eos(before), tokenizer_eos(after));
    cr_expect_eq(tokenizer_adds_bos(before), tokenizer_adds_bos(after));
    cr_expect_eq(!spec->chat_template, !back.chat_template);
    if (spec->chat_template) cr_expect_str_eq(spec->chat_template, back.chat_template);
    cr_expect_eq(spec->pretokenizer,
                 back.pretokenizer == PRETOKENIZE_STEPS ? spec->pretokenizer : back.pretokenizer);
    tokenizer_free(before);
    tokenizer_free(after);
    tokenizer_spec_free(&back);
}

static void check_model(const char *path, const json_t *strings)
{
    struct checkpoint *checkpoint;
    struct error err = {0};
    cr_assert(checkpoint_open(path, &checkpoint, &err) == ST_OK, "%s", err.text);
    check_tokenizer(checkpoint_tokenizer(checkpoint), strings);
    check_config(checkpoint_config(checkpoint));
    checkpoint_close(checkpoint);
}

Test(export, the_golden_models_of_gguf_files)
{
    static const char *const sets[] = {"llama_tied_f32", "llama_ropescale_bf16", "qwen2_f16",
                                       "qwen3_sharded_bf16"};
    const char *generated = getenv("ESPALIER_TEST_GENERATED");
    int checked = 0;
    for (size_t i = 0; i < COUNT_OF(sets); i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/gguf/%s.F32.v3.gguf",
                 generated ? generated : SOURCE_DIR "/build/generated", sets[i]);
        if (access(path, R_OK)) continue;
        json_t *golden = golden_json(sets[i], "golden.json");
        check_model(path, json_object_get(golden, "tokenize"));
        json_decref(golden);
        checked++;
    }
    if (!checked) cr_skip_test("tests/make_gguf_models.py makes the files");
}

Test(export, the_default_model)
{
    const char *path = getenv("ESPALIER_TEST_MODEL");
    if (!path) path = SOURCE_DIR "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (access(path, R_OK)) cr_skip_test("%s is not there", path);
    json_t *golden = golden_json("smollm2", "smollm2_golden.json");
    cr_assert(golden);
    const json_t *strings = json_object_get(golden, "tokenize");
    cr_assert(json_array_size(strings) > 50, "%zu strings", json_array_size(strings));
    check_model(path, strings);
    json_decref(golden);
}

Test(export, synthetic_models)
{
    json_t *strings = json_pack("[{s:s}, {s:s}]", "text", "Hello, 1234 w\xc3\xb6rld!\n\n  x",
                                "text", "\xff <|im_start|>user\n");
    if (!strings) strings = json_pack("[{s:s}]", "text", "Hello, 1234 w\xc3\xb6rld!\n\n  x");
    check_model("synthetic:tiny", strings);
    json_decref(strings);
}

/* Kinds and habits that no file at hand has together. */
Test(export, unused_added_and_merged_special_tokens)
{
    struct tokenizer_token tokens[] = {
        {"<s>", 3, TOKEN_SPECIAL}, {"a", 1, TOKEN_NORMAL},      {"b", 1, TOKEN_NORMAL},
        {"ab", 2, TOKEN_SPECIAL}, /* a merge makes it */
        {"<x>", 3, TOKEN_ADDED},   {"[PAD5]", 6, TOKEN_UNUSED}, {NULL, 0, TOKEN_NORMAL},
        {"abb", 3, TOKEN_NORMAL},  {"</s>", 4, TOKEN_SPECIAL},
    };
    struct tokenizer_merge merges[] = {{"a", "b", 1, 1}, {"ab", "b", 2, 1}};
    struct tokenizer_spec spec = {.tokens = tokens,
                                  .token_count = COUNT_OF(tokens),
                                  .merges = merges,
                                  .merge_count = COUNT_OF(merges),
                                  .add_bos = true,
                                  .bos = 0,
                                  .add_last = true,
                                  .last = 8,
                                  .eos = 8,
                                  .chat_template = "{{ \"\\u00e9\xc3\xa9\" }}\n"};
    json_t *strings = json_pack("[{s:s}, {s:s}, {s:s}]", "text", "abb ab<x>a<s>b", "text", "aab",
                                "text", "[PAD5]abab</s>");
    for (spec.pretokenizer = 0; spec.pretokenizer < PRETOKENIZE_STEPS; spec.pretokenizer++)
        for (int habits = 0; habits < 8; habits++) {
            spec.ignore_merges = habits & 1;
            spec.nfc = habits & 2;
            spec.add_bos = spec.add_last = habits & 4;
            check_tokenizer(&spec, strings);
        }
    json_decref(strings);
}
