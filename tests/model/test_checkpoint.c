/* A GGUF file as a model: configuration, tokenizer, roles, the order of rows; and what is refused.
 */
#include "model/checkpoint.h"
#include "model/rope.h"
#include "tests/model/support_files.h"
#include "tests/model/support_forward.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Finishes the writer's file and opens it. */
static enum status open_writer(struct gguf_writer *w, struct checkpoint **out, struct error *err)
{
    struct strbuf bytes = writer_finish(w);
    char *path = write_file(&bytes);
    *err = (struct error){0};
    enum status status = checkpoint_open(path, out, err);
    if (status) cr_expect(!strncmp(err->text, path, strlen(path)), "%s", err->text);
    remove_file(path);
    strbuf_free(&bytes);
    return status;
}

static void expect_refused_at(int line, struct gguf_writer *w, enum status expected,
                              const char *part)
{
    struct checkpoint *checkpoint;
    struct error err;
    enum status status = open_writer(w, &checkpoint, &err);
    if (!status) checkpoint_close(checkpoint);
    expect_refusal_at(__FILE__, line, status, &err, expected, part);
}
#define expect_refused(...) expect_refused_at(__LINE__, __VA_ARGS__)

/* The tiny model without `skip`; the test adds its own in that place. */
static struct gguf_writer tiny_without(const char *skip)
{
    struct gguf_writer w = {.skip = skip};
    writer_tiny_model(&w);
    w.skip = NULL;
    return w;
}

static struct checkpoint *open_tiny(void)
{
    struct gguf_writer w = tiny_without(NULL);
    struct checkpoint *checkpoint;
    struct error err;
    cr_assert(open_writer(&w, &checkpoint, &err) == ST_OK, "%s", err.text);
    return checkpoint;
}

/* --- right */

Test(checkpoint, configuration_of_a_gguf_file)
{
    struct checkpoint *checkpoint = open_tiny();
    const struct model_config *c = checkpoint_config(checkpoint);
    cr_expect_str_eq(c->architecture, "llama");
    cr_expect_str_eq(c->name, "Tiny");
    cr_expect(c->vocab == 6 && c->hidden == 8 && c->intermediate == 6 && c->layers == 1);
    cr_expect(c->heads == 2 && c->kv_heads == 1 && c->head_dim == 4 && c->max_context == 64);
    cr_expect(c->tied && !c->qkv_bias && !c->qk_norm);
    cr_expect(c->rope.theta == 5000 && c->rope.scaling == ROPE_NONE && c->rms_eps == 1e-5f);
    cr_expect(c->bos == 0 && c->eos_count == 1 && c->eos[0] == 4);
    cr_expect_null(checkpoint_tensor(checkpoint, TENSOR_HEAD, 0));
    cr_expect_null(checkpoint_tensor(checkpoint, TENSOR_Q_BIAS, 0));
    cr_expect_null(checkpoint_tensor(checkpoint, TENSOR_K_NORM, 0));
    checkpoint_close(checkpoint);
}

Test(checkpoint, a_name_cannot_play_with_the_terminal)
{
    struct gguf_writer w = tiny_without("general.name");
    struct checkpoint *checkpoint;
    struct error err;
    writer_string(&w, "general.name", "Ti\x1b[2J\nny");
    cr_assert(open_writer(&w, &checkpoint, &err) == ST_OK, "%s", err.text);
    cr_expect_str_eq(checkpoint_config(checkpoint)->name, "Ti?[2J?ny");
    checkpoint_close(checkpoint);
}

Test(checkpoint, tokenizer_of_a_gguf_file)
{
    struct checkpoint *checkpoint = open_tiny();
    const struct tokenizer_spec *t = checkpoint_tokenizer(checkpoint);
    cr_assert(t->token_count == 6 && t->merge_count == 1);
    cr_expect(t->pretokenizer == PRETOKENIZE_SMOLLM && t->add_bos && t->bos == 0 && t->eos == 4);
    cr_expect(t->tokens[0].kind == TOKEN_SPECIAL && t->tokens[4].kind == TOKEN_ADDED);
    cr_expect(t->tokens[3].length == 2 && !memcmp(t->tokens[3].text, "ab", 2));
    cr_expect(t->merges[0].left_length == 1 && t->merges[0].left[0] == 'a');
    cr_expect(t->merges[0].right_length == 1 && t->merges[0].right[0] == 'b');
    cr_expect_str_eq(t->chat_template, "{{ messages }}");
    checkpoint_close(checkpoint);
}

/* A file that names <|endoftext|> alone, of a model that ends its turns otherwise. */
Test(checkpoint, control_tokens_of_known_texts_end_a_text)
{
    struct gguf_writer w = tiny_without("tokenizer.ggml.tokens");
    writer_strings(
        &w, "tokenizer.ggml.tokens",
        (const char *const[]){"<|im_end|>", "a", "b", "<|eot_id|>", "<|endoftext|>", "c"}, 6);
    struct checkpoint *checkpoint;
    struct error err;
    cr_assert(open_writer(&w, &checkpoint, &err) == ST_OK, "%s", err.text);
    const struct model_config *c = checkpoint_config(checkpoint);
    cr_assert_eq(c->eos_count, 2); /* <|eot_id|> is a plain token here */
    cr_expect(c->eos[0] == 4 && c->eos[1] == 0);
    checkpoint_close(checkpoint);
}

/* Values of a writer's tensor count up, so a row's first value tells its place in the file: heads
 * of 4 rows are stored as 0, 2, 1, 3. V is not rotated and stays. */
Test(checkpoint, rows_of_q_and_k_go_back_to_halves)
{
    struct checkpoint *checkpoint = open_tiny();
    static const int order[] = {0, 2, 1, 3, 4, 6, 5, 7};
    const struct checkpoint_tensor *q = checkpoint_tensor(checkpoint, TENSOR_Q, 0);
    const struct checkpoint_tensor *v = checkpoint_tensor(checkpoint, TENSOR_V, 0);
    float rows[8][8], one[8];
    checkpoint_read_rows(q, 0, 8, rows[0]);
    for (int64_t r = 0; r < 8; r++) {
        cr_expect_eq(rows[r][0], (float)(8 * order[r]), "row %d", (int)r);
        checkpoint_read_rows(q, r, 1, one);
        cr_expect_arr_eq(one, rows[r], sizeof one);
    }
    checkpoint_read_rows(v, 1, 2, rows[0]);
    cr_expect(rows[0][0] == 8 && rows[1][7] == 23);
    checkpoint_close(checkpoint);
}

Test(checkpoint, pages_come_back_after_release)
{
    struct checkpoint *checkpoint = open_tiny();
    const struct checkpoint_tensor *down = checkpoint_tensor(checkpoint, TENSOR_DOWN, 0);
    float before[48], after[48];
    checkpoint_read_rows(down, 0, 8, before);
    checkpoint_release_pages(checkpoint);
    checkpoint_read_rows(down, 0, 8, after);
    cr_expect_arr_eq(before, after, sizeof before);
    cr_expect_eq(after[47], 47);
    checkpoint_close(checkpoint);
}

Test(checkpoint, rope_factors_divide_the_frequencies)
{
    struct gguf_writer w = tiny_without(NULL);
    struct checkpoint *checkpoint;
    struct error err;
    float plain[2], divided[2];
    struct checkpoint *tiny = open_tiny();
    model_rope_frequencies(checkpoint_config(tiny), plain);
    checkpoint_close(tiny);
    while (w.data.length % 32)
        strbuf_char(&w.data, 0);
    writer_entry(&w, "rope_freqs.weight", 1, (const uint64_t[]){2}, GGML_F32, w.data.length);
    put_f32(&w.data, 1);
    put_f32(&w.data, 8);
    cr_assert(open_writer(&w, &checkpoint, &err) == ST_OK, "%s", err.text);
    model_rope_frequencies(checkpoint_config(checkpoint), divided);
    cr_expect(divided[0] == plain[0] && divided[1] == plain[1] / 8);
    checkpoint_close(checkpoint);
}

/* What the keys mean is what transformers computes from the same numbers (test_rope.c). */
static struct model_config read_tiny_with(struct gguf_writer *w)
{
    struct checkpoint *checkpoint;
    struct error err;
    cr_assert(open_writer(w, &checkpoint, &err) == ST_OK, "%s", err.text);
    struct model_config config = *checkpoint_config(checkpoint);
    checkpoint_close(checkpoint);
    return config;
}

Test(checkpoint, rope_scaling_by_keys)
{
    struct gguf_writer w = tiny_without(NULL);
    struct model_config c = read_tiny_with(&w);
    cr_expect(c.rope.scaling == ROPE_NONE && model_rope_scale(&c) == 1);
    w = tiny_without(NULL);
    writer_f32(&w, "llama.rope.scaling.factor", 4);
    c = read_tiny_with(&w);
    cr_expect(c.rope.scaling == ROPE_LINEAR && c.rope.factor == 4 && c.max_context == 64);
    w = tiny_without(NULL);
    writer_f32(&w, "llama.rope.scale_linear", 2);
    c = read_tiny_with(&w);
    cr_expect(c.rope.scaling == ROPE_LINEAR && c.rope.factor == 2);
    w = tiny_without(NULL);
    writer_string(&w, "llama.rope.scaling.type", "none");
    writer_f32(&w, "llama.rope.scaling.factor", 4);
    c = read_tiny_with(&w);
    cr_expect_eq(c.rope.scaling, ROPE_NONE);
}

Test(checkpoint, yarn_by_keys)
{
    struct gguf_writer w = tiny_without(NULL);
    writer_string(&w, "llama.rope.scaling.type", "yarn");
    writer_f32(&w, "llama.rope.scaling.factor", 4);
    writer_u32(&w, "llama.rope.scaling.original_context_length", 32);
    struct model_config c = read_tiny_with(&w);
    cr_expect(c.rope.scaling == ROPE_YARN && c.rope.original_context == 32);
    cr_expect(c.rope.beta_fast == 32 && c.rope.beta_slow == 1 && c.rope.truncate);
    cr_expect_eq(c.max_context, 128);
    cr_expect_float_eq(model_rope_scale(&c), 1.1386294f, 1e-6f);
    w = tiny_without(NULL);
    writer_string(&w, "llama.rope.scaling.type", "yarn");
    writer_f32(&w, "llama.rope.scaling.factor", 4);
    writer_f32(&w, "llama.rope.scaling.yarn_attn_factor", 1.25f);
    writer_f32(&w, "llama.rope.scaling.attn_factor", 2);
    writer_f32(&w, "llama.rope.scaling.yarn_beta_fast", 8);
    writer_f32(&w, "llama.rope.scaling.yarn_beta_slow", 2);
    c = read_tiny_with(&w);
    cr_expect(c.rope.beta_fast == 8 && c.rope.beta_slow == 2 && c.rope.original_context == 64);
    cr_expect_eq(model_rope_scale(&c), 2.5f);
}

Test(checkpoint, a_sliding_window_limits_the_context)
{
    struct gguf_writer w = tiny_without(NULL);
    writer_u32(&w, "llama.attention.sliding_window", 24);
    struct model_config c = read_tiny_with(&w);
    cr_expect(c.max_context == 24 && c.window == 24);
}

/* --- refused */

Test(checkpoint, models_that_are_not_computed)
{
    struct gguf_writer w = tiny_without(NULL);
    writer_u32(&w, "llama.expert_count", 8);
    expect_refused(&w, ST_UNSUPPORTED, "llama.expert_count: 8; supported are dense models");
    w = tiny_without(NULL);
    writer_f32(&w, "llama.attention.scale", 0.5f);
    expect_refused(&w, ST_UNSUPPORTED, "llama.attention.scale is there");
    w = tiny_without(NULL);
    writer_bool(&w, "llama.attention.causal", false);
    expect_refused(&w, ST_UNSUPPORTED, "llama.attention.causal is false");
    w = tiny_without(NULL);
    writer_u32(&w, "split.count", 3);
    expect_refused(&w, ST_UNSUPPORTED, "split.count: 3; supported is one file");
}

Test(checkpoint, tensors_must_be_all_there_and_no_more)
{
    struct gguf_writer w = tiny_without("blk.0.ffn_gate.weight");
    expect_refused(&w, ST_BAD_FILE, "tensor blk.0.ffn_gate.weight is missing");
    w = tiny_without("blk.0.attn_k.weight");
    writer_tensor(&w, "blk.0.attn_k.weight", 8, 8);
    expect_refused(&w, ST_BAD_FILE,
                   "blk.0.attn_k.weight has shape [8, 8]; the configuration asks for [4, 8]");
    w = tiny_without("output_norm.weight");
    writer_tensor(&w, "output_norm.weight", 8, 2);
    expect_refused(&w, ST_BAD_FILE, "output_norm.weight has shape [2, 8]");
    w = tiny_without(NULL);
    writer_tensor(&w, "blk.0.attn_q.bias", 8, 1);
    expect_refused(&w, ST_UNSUPPORTED, "tensor blk.0.attn_q.bias has no place in a llama model");
    w = tiny_without("llama.block_count");
    writer_u32(&w, "llama.block_count", 1000);
    expect_refused(&w, ST_BAD_FILE, "1000 layers in the configuration, 11 tensors");
    w = tiny_without("llama.block_count");
    writer_u32(&w, "llama.block_count", 2);
    expect_refused(&w, ST_BAD_FILE, "tensor blk.1.attn_norm.weight is missing");
}

Test(checkpoint, configurations_that_cannot_be)
{
    struct gguf_writer w = tiny_without("general.architecture");
    expect_refused(&w, ST_BAD_FILE, "key general.architecture is missing");
    w = tiny_without("general.architecture");
    writer_string(&w, "general.architecture", "mamba");
    expect_refused(&w, ST_UNSUPPORTED, "is mamba; supported are llama, qwen2 and qwen3");
    w = tiny_without("llama.embedding_length");
    expect_refused(&w, ST_BAD_FILE, "key llama.embedding_length is missing");
    w = tiny_without("llama.attention.head_count");
    writer_u32(&w, "llama.attention.head_count", 0);
    expect_refused(&w, ST_BAD_FILE, "head_count: 0; allowed is 1");
    w = tiny_without("llama.attention.head_count_kv");
    writer_u32(&w, "llama.attention.head_count_kv", 3);
    expect_refused(&w, ST_BAD_FILE, "2 attention heads are no multiple of 3");
    w = tiny_without(NULL);
    writer_u32(&w, "llama.attention.key_length", 3);
    expect_refused(&w, ST_BAD_FILE, "the head dimension is 3; it must be even");
}

Test(checkpoint, rotary_settings_that_are_not_computed)
{
    struct gguf_writer w = tiny_without(NULL);
    writer_u32(&w, "llama.rope.dimension_count", 2);
    expect_refused(&w, ST_UNSUPPORTED, "keys of 4, values of 4 and 2 rotated dimensions");
    w = tiny_without(NULL);
    writer_string(&w, "llama.rope.scaling.type", "longrope");
    expect_refused(&w, ST_UNSUPPORTED, "rope.scaling.type is longrope; supported are none, linear");
    w = tiny_without(NULL);
    writer_string(&w, "llama.rope.scaling.type", "yarn");
    writer_f32(&w, "llama.rope.scaling.factor", 4);
    writer_f32(&w, "llama.rope.scaling.yarn_ext_factor", 0);
    expect_refused(&w, ST_UNSUPPORTED, "yarn_ext_factor is 0; supported is 1");
    w = tiny_without(NULL);
    writer_f32(&w, "llama.rope.scaling.factor", 0);
    expect_refused(&w, ST_BAD_FILE, "the rope scaling factor is 0; it must be a number above 0");
    w = tiny_without(NULL);
    writer_f32(&w, "llama.rope.scaling.factor", INFINITY);
    expect_refused(&w, ST_BAD_FILE, "the rope scaling factor is inf");
    w = tiny_without(NULL);
    writer_f32(&w, "llama.rope.scaling.attn_factor", NAN);
    expect_refused(&w, ST_BAD_FILE, "attn_factor: nan");
    w = tiny_without(NULL);
    writer_string(&w, "llama.rope.scaling.type", "yarn");
    writer_u32(&w, "llama.rope.scaling.original_context_length", 0);
    expect_refused(&w, ST_BAD_FILE, "original_context_length: 0; allowed is 1");
    w = tiny_without("llama.rope.freq_base");
    writer_f32(&w, "llama.rope.freq_base", NAN);
    expect_refused(&w, ST_BAD_FILE, "rotary frequencies is nan");
    w = tiny_without("llama.rope.freq_base");
    writer_f32(&w, "llama.rope.freq_base", -1);
    expect_refused(&w, ST_BAD_FILE, "must be a number above 0");
    w = tiny_without("llama.attention.layer_norm_rms_epsilon");
    expect_refused(&w, ST_BAD_FILE, "epsilon is 0");
    w = tiny_without(NULL);
    writer_tensor(&w, "rope_freqs.weight", 3, 1);
    expect_refused(&w, ST_UNSUPPORTED, "rope_freqs.weight is F32 [3]; supported is F32 [2]");
}

Test(checkpoint, tokenizers_that_cannot_be)
{
    struct gguf_writer w = tiny_without("tokenizer.ggml.model");
    writer_string(&w, "tokenizer.ggml.model", "llama");
    expect_refused(&w, ST_UNSUPPORTED, "model is llama; supported is gpt2");
    w = tiny_without("tokenizer.ggml.pre");
    writer_string(&w, "tokenizer.ggml.pre", "viking");
    expect_refused(&w, ST_UNSUPPORTED, "pre is viking; supported are gpt-2, ");
    w = tiny_without("tokenizer.ggml.tokens");
    expect_refused(&w, ST_BAD_FILE, "tokens: 0 tokens");
    w = tiny_without("tokenizer.ggml.tokens");
    writer_strings(&w, "tokenizer.ggml.tokens",
                   (const char *const[]){"1", "2", "3", "4", "5", "\xff"}, 6);
    expect_refused(&w, ST_BAD_FILE, "token 5 (1 bytes) is no UTF-8");
    w = tiny_without("tokenizer.ggml.token_type");
    writer_i32s(&w, "tokenizer.ggml.token_type", (const int32_t[]){1, 1}, 2);
    expect_refused(&w, ST_BAD_FILE, "6 tokens and 2 types");
    w = tiny_without("tokenizer.ggml.token_type");
    writer_i32s(&w, "tokenizer.ggml.token_type", (const int32_t[]){1, 1, 9, 1, 1, 1}, 6);
    expect_refused(&w, ST_UNSUPPORTED, "token 2 has type 9");
    w = tiny_without("tokenizer.ggml.merges");
    writer_strings(&w, "tokenizer.ggml.merges", (const char *const[]){"a b", "ab"}, 2);
    expect_refused(&w, ST_BAD_FILE, "merge 1 is no pair");
    w = tiny_without("tokenizer.ggml.eos_token_id");
    writer_u32(&w, "tokenizer.ggml.eos_token_id", 6);
    expect_refused(&w, ST_BAD_FILE, "eos_token_id: 6; allowed is 0 to 5");
    w = tiny_without("token_embd.weight");
    writer_tensor(&w, "token_embd.weight", 8, 5);
    expect_refused(&w, ST_BAD_FILE, "6 tokens and an embedding of 5 rows");
}

/* --- the default model against the `gguf` package's numbers */

static uint64_t fnv1a(const struct checkpoint_tensor *tensor, int64_t rows)
{
    uint64_t hash = 0xcbf29ce484222325u;
    float *row = must_alloc((size_t)tensor->cols * sizeof *row);
    for (int64_t r = 0; r < rows; r++) {
        checkpoint_read_rows(tensor, r, 1, row);
        for (int64_t i = 0; i < tensor->cols; i++) {
            uint32_t bits;
            memcpy(&bits, &row[i], sizeof bits);
            hash = (hash ^ bits) * 0x100000001b3u;
        }
    }
    free(row);
    return hash;
}

/* Hashes of the first 192 rows as gguf 0.19.0 dequantizes them, q and k put back to halves. */
Test(checkpoint, default_model_equals_the_gguf_package)
{
    static const struct {
        enum tensor_role role;
        int32_t layer;
        int64_t rows;
        uint64_t hash;
    } expected[] = {
        {TENSOR_EMBEDDING, 0, 192, 0xe374785c98877ba5u}, {TENSOR_Q, 0, 192, 0x8fc186e3a3674d25u},
        {TENSOR_K, 29, 192, 0x44208bde4898d925u},        {TENSOR_DOWN, 7, 192, 0xcd96835e3349e725u},
        {TENSOR_FINAL_NORM, 0, 1, 0x0f5edac934203025u},
    };
    struct checkpoint *checkpoint;
    struct error err = {0};
    const char *path = default_model();
    if (!path) cr_skip_test("the default model is not there");
    cr_assert(checkpoint_open(path, &checkpoint, &err) == ST_OK, "%s", err.text);
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        const struct checkpoint_tensor *tensor =
            checkpoint_tensor(checkpoint, expected[i].role, expected[i].layer);
        cr_expect_eq(fnv1a(tensor, expected[i].rows), expected[i].hash, "%s", tensor->name);
    }
    cr_expect_eq(checkpoint_tokenizer(checkpoint)->merge_count, 48900);
    checkpoint_close(checkpoint);
}
