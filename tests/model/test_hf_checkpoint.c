/* Hugging Face directories: both spellings of config.json, rotary frequencies, and what is refused.
 */
#include "base/base.h"
#include "model/checkpoint.h"
#include "model/hf_config.h"
#include "model/safetensors_set.h"
#include "tests/model/support_files.h"
#include "tests/model/support_forward.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TINY                                                                          \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":100,\"hidden_size\":8," \
    "\"intermediate_size\":6,\"num_hidden_layers\":1,\"num_attention_heads\":2,"      \
    "\"max_position_embeddings\":64}"

/* The tiny configuration with some members replaced (JSON object; null removes nothing but counts
 * as absent), read back. */
static enum status read_changed(const char *changes, struct model_config *config, struct error *err)
{
    json_t *json = json_loads(TINY, 0, NULL), *more = json_loads(changes, 0, NULL);
    cr_assert(json && more, "%s", changes);
    json_object_update(json, more);
    char *text = json_dumps(json, 0), *dir = make_directory();
    write_in(dir, "config.json", text, strlen(text));
    *config = (struct model_config){0};
    *err = (struct error){0};
    enum status status = hf_config_read(dir, config, err);
    if (status) cr_expect(!strncmp(err->text, dir, strlen(dir)), "%s", err->text);
    remove_directory(dir);
    free(text);
    json_decref(json);
    json_decref(more);
    return status;
}

static void expect_refused_at(int line, const char *changes, enum status expected, const char *part)
{
    struct model_config config;
    struct error err;
    enum status status = read_changed(changes, &config, &err);
    expect_refusal_at(__FILE__, line, status, &err, expected, part);
}
#define expect_refused(...) expect_refused_at(__LINE__, __VA_ARGS__)

static struct model_config read_or_fail(const char *changes)
{
    struct model_config config;
    struct error err;
    cr_assert(read_changed(changes, &config, &err) == ST_OK, "%s: %s", changes, err.text);
    return config;
}

/* --- config.json */

Test(hf_config, defaults_are_those_of_transformers)
{
    struct model_config c = read_or_fail("{}");
    cr_expect_str_eq(c.architecture, "llama");
    cr_expect(c.heads == 2 && c.kv_heads == 2 && c.head_dim == 4 && !c.tied);
    cr_expect(c.rope.theta == 10000 && c.rope.scaling == ROPE_NONE && c.rms_eps == 1e-6f);
    cr_expect(c.bos == -1 && c.eos_count == 0);
}

Test(hf_config, families_differ_in_biases_and_norms)
{
    struct model_config qwen2 = read_or_fail("{\"architectures\":[\"Qwen2ForCausalLM\"]}");
    struct model_config qwen3 = read_or_fail("{\"architectures\":[\"Qwen3ForCausalLM\"]}");
    struct model_config mistral = read_or_fail("{\"architectures\":[\"MistralForCausalLM\"],"
                                               "\"head_dim\":16}");
    cr_expect(qwen2.qkv_bias && !qwen2.qk_norm && qwen2.head_dim == 4);
    cr_expect(!qwen3.qkv_bias && qwen3.qk_norm && qwen3.head_dim == 128);
    cr_expect(!mistral.qkv_bias && !mistral.qk_norm && mistral.head_dim == 16);
}

Test(hf_config, model_type_names_a_family_without_a_class)
{
    struct model_config c = read_or_fail("{\"architectures\":null,\"model_type\":\"mistral\"}");
    cr_expect_str_eq(c.architecture, "mistral");
}

/* Attention inside a window is full attention; beyond it nothing is served. */
Test(hf_config, a_sliding_window_limits_the_context)
{
    static const struct {
        const char *class, *members;
        int32_t context, window;
    } cases[] = {
        {"Mistral", "\"sliding_window\":null", 8192, 0},
        {"Mistral", "\"sliding_window\":32", 32, 32},
        {"Mistral", "\"sliding_window\":10000", 8192, 10000},
        {"Mistral", "\"bos_token_id\":1", 4096, 4096}, /* transformers' default */
        {"Llama", "\"bos_token_id\":1", 8192, 0},
        {"Llama", "\"sliding_window\":32", 32, 32},
        {"Qwen2", "\"use_sliding_window\":false,\"sliding_window\":32", 8192, 0},
        {"Qwen2", "\"use_sliding_window\":true,\"sliding_window\":32", 8192,
         0}, /* from layer 28 on */
        {"Qwen2", "\"use_sliding_window\":true,\"sliding_window\":32,\"max_window_layers\":0", 32,
         32},
        {"Qwen3", "\"use_sliding_window\":true,\"max_window_layers\":0", 4096, 4096},
        {"Qwen3", "\"layer_types\":[\"full_attention\"],\"use_sliding_window\":true", 8192, 0},
        {"Qwen3", "\"layer_types\":[\"sliding_attention\"],\"sliding_window\":32", 32, 32},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "{\"architectures\":[\"%sForCausalLM\"],\"max_position_embeddings\":8192,%s}",
                 cases[i].class, cases[i].members);
        struct model_config c = read_or_fail(text);
        cr_expect(c.max_context == cases[i].context && c.window == cases[i].window, "%s: %d, %d",
                  text, c.max_context, c.window);
    }
    expect_refused("{\"sliding_window\":0}", ST_BAD_FILE, "sliding_window is 0; allowed is 1");
    expect_refused("{\"layer_types\":[\"sliding_attention\"]}", ST_BAD_FILE, "no number");
}

Test(hf_config, eos_is_an_id_or_a_list)
{
    struct model_config c = read_or_fail("{\"eos_token_id\":7}");
    cr_expect(c.eos_count == 1 && c.eos[0] == 7);
    c = read_or_fail("{\"eos_token_id\":[7,9,7]}");
    cr_expect(c.eos_count == 2 && c.eos[1] == 9);
    c = read_or_fail("{\"eos_token_id\":-1,\"bos_token_id\":-1}");
    cr_expect(c.eos_count == 0 && c.bos == -1);
    expect_refused("{\"eos_token_id\":100}", ST_BAD_FILE, "eos_token_id is no id (0 to 99)");
    expect_refused("{\"eos_token_id\":[1,\"2\"]}", ST_BAD_FILE, "eos_token_id is no id");
}

Test(hf_config, both_spellings_are_one_model)
{
    static const char *const sets[] = {"llama_tied_f32", "llama_ropescale_bf16", "qwen2_f16",
                                       "qwen3_sharded_bf16"};
    for (size_t i = 0; i < COUNT_OF(sets); i++) {
        static const char *const spellings[] = {"config.json", "config_v4.json"};
        struct model_config configs[2] = {0};
        for (int s = 0; s < 2; s++) {
            char path[512], text[4096], *dir = make_directory();
            struct error err = {0};
            snprintf(path, sizeof path, TEST_DATA "/golden/%s/%s", sets[i], spellings[s]);
            FILE *file = fopen(path, "r");
            cr_assert(file, "%s: %m", path);
            write_in(dir, "config.json", text, fread(text, 1, sizeof text, file));
            fclose(file);
            cr_assert(hf_config_read(dir, &configs[s], &err) == ST_OK, "%s", err.text);
            remove_directory(dir);
        }
        cr_expect_arr_eq(&configs[0], &configs[1], sizeof configs[0], "%s", sets[i]);
    }
}

Test(hf_config, what_is_not_computed_is_refused)
{
    expect_refused("{\"architectures\":[\"MambaForCausalLM\"]}", ST_UNSUPPORTED,
                   "architectures[0] is MambaForCausalLM; supported are LlamaForCausalLM, Mistral");
    expect_refused("{\"architectures\":null}", ST_UNSUPPORTED, "architectures[0] is missing");
    expect_refused("{\"attention_bias\":true}", ST_UNSUPPORTED, "attention_bias is true");
    expect_refused("{\"mlp_bias\":true}", ST_UNSUPPORTED, "mlp_bias is true");
    expect_refused("{\"hidden_act\":\"gelu\"}", ST_UNSUPPORTED, "hidden_act is gelu");
    expect_refused("{\"partial_rotary_factor\":0.5}", ST_UNSUPPORTED,
                   "partial_rotary_factor is 0.5");
    expect_refused("{\"quantization_config\":{}}", ST_UNSUPPORTED,
                   "quantization_config is there (quant_method missing)");
    expect_refused("{\"quantization_config\":{\"quant_method\":\"awq\"}}", ST_UNSUPPORTED,
                   "quant_method awq");
    expect_refused("{\"layer_types\":[\"chunked_attention\"]}", ST_UNSUPPORTED,
                   "layer_types[0] is chunked_attention; supported are");
    expect_refused("{\"architectures\":[],\"model_type\":\"gemma3\"}", ST_UNSUPPORTED,
                   "architectures[0] is missing, model_type gemma3; supported are");
}

Test(hf_config, fields_are_checked)
{
    expect_refused("{\"vocab_size\":null}", ST_BAD_FILE, "vocab_size is missing");
    expect_refused("{\"hidden_size\":\"8\"}", ST_BAD_FILE, "hidden_size is missing or no integer");
    expect_refused("{\"hidden_size\":-8}", ST_BAD_FILE, "hidden_size is -8; allowed is 1 to");
    expect_refused("{\"num_hidden_layers\":1000000}", ST_BAD_FILE, "layers is 1000000");
    expect_refused("{\"vocab_size\":1000000000}", ST_BAD_FILE, "vocabulary is 1000000000");
    expect_refused("{\"num_key_value_heads\":3}", ST_BAD_FILE, "no multiple of 3");
    expect_refused("{\"head_dim\":5}", ST_BAD_FILE, "must be even");
    expect_refused("{\"tie_word_embeddings\":1}", ST_BAD_FILE, "tie_word_embeddings is an integer");
    expect_refused("{\"rms_norm_eps\":0.0}", ST_BAD_FILE, "epsilon is 0; allowed is above 0 to 1");
    expect_refused("{\"rms_norm_eps\":-1e-6}", ST_BAD_FILE, "epsilon is -1e-06");
    expect_refused("{\"rms_norm_eps\":1e-300}", ST_BAD_FILE, "epsilon is 0");
    expect_refused("{\"rms_norm_eps\":1e300}", ST_BAD_FILE, "epsilon is inf");
    expect_refused("{\"max_position_embeddings\":2147483647}", ST_BAD_FILE, "context length is");
}

Test(hf_config, files_that_are_no_json)
{
    struct model_config config = {0};
    struct error err = {0};
    char *dir = make_directory(), deep[200];
    expect_refusal(hf_config_read(dir, &config, &err), &err, ST_NOT_FOUND, "config.json: No such");
    memset(deep, '[', sizeof deep);
    write_in(dir, "config.json", deep, sizeof deep);
    expect_refusal(hf_config_read(dir, &config, &err), &err, ST_BAD_FILE, "nested 200 deep");
    write_in(dir, "config.json", "{", 1);
    expect_refusal(hf_config_read(dir, &config, &err), &err, ST_BAD_FILE, "line 1");
    write_in(dir, "config.json", TINY, strlen(TINY));
    write_in(dir, "generation_config.json", "[]", 2);
    expect_refusal(hf_config_read(dir, &config, &err), &err, ST_BAD_FILE,
                   "generation_config.json: the JSON is no object");
    remove_directory(dir);
}

/* --- the directory */

Test(hf_checkpoint, opens_a_golden_directory)
{
    struct checkpoint *checkpoint;
    struct error err = {0};
    const char *dir = TEST_DATA "/golden/llama_ropescale_bf16/";
    cr_assert(checkpoint_open(dir, &checkpoint, &err) == ST_OK, "%s", err.text);
    const struct model_config *config = checkpoint_config(checkpoint);
    cr_expect_str_eq(config->name, "llama_ropescale_bf16");
    cr_expect_str_eq(checkpoint_format(checkpoint), "safetensors");
    cr_expect(config->layers == 3 && !config->tied && config->rope.scaling == ROPE_LLAMA3);
    const struct checkpoint_tensor *head = checkpoint_tensor(checkpoint, TENSOR_HEAD, 0);
    cr_assert(head && head->type == FILE_BF16 && head->rows == 1850 && head->cols == 64);
    cr_expect_eq(checkpoint_tensor(checkpoint, TENSOR_Q, 2)->permute_heads, 0);
    cr_expect_eq(checkpoint_tokenizer(checkpoint)->token_count, 1850);
    checkpoint_close(checkpoint);
}

/* --- weights in several files */

/* A safetensors file of F32 tensors [2] in that order, from a list that ends with NULL. */
static void write_shard(const char *dir, const char *file, const char *const *names)
{
    struct strbuf header = {0}, bytes = {0};
    size_t count = 0;
    for (; names[count]; count++)
        strbuf_format(&header,
                      "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[%zu,%zu]}",
                      count ? "," : "{", names[count], 8 * count, 8 * count + 8);
    strbuf_text(&header, "}");
    put_u64(&bytes, header.length);
    strbuf_append(&bytes, strbuf_cstr(&header), header.length);
    for (size_t i = 0; i < 2 * count; i++)
        put_f32(&bytes, (float)i);
    write_in(dir, file, strbuf_cstr(&bytes), bytes.length);
    strbuf_free(&header);
    strbuf_free(&bytes);
}

#define NAMES(...)                      \
    (const char *const[])               \
    {                                   \
        __VA_ARGS__ __VA_OPT__(, ) NULL \
    }

/* A directory of 1.safetensors (a, b) and 2.safetensors (c) under that index. */
static enum status open_sharded(const char *index, struct safetensors_set *set, struct error *err)
{
    char *dir = make_directory();
    *err = (struct error){0};
    write_shard(dir, "1.safetensors", NAMES("a", "b"));
    write_shard(dir, "2.safetensors", NAMES("c"));
    write_in(dir, "model.safetensors.index.json", index, strlen(index));
    enum status status = safetensors_set_open(dir, set, err);
    if (status) cr_expect(!strncmp(err->text, dir, strlen(dir)), "%s", err->text);
    remove_directory(dir);
    return status;
}

static void expect_index_refused_at(int line, const char *index, enum status expected,
                                    const char *part)
{
    struct safetensors_set set;
    struct error err;
    enum status status = open_sharded(index, &set, &err);
    safetensors_set_close(&set);
    expect_refusal_at(__FILE__, line, status, &err, expected, part);
}
#define expect_index_refused(...) expect_index_refused_at(__LINE__, __VA_ARGS__)
#define MAP(rest)                 "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\"" rest "}}"

Test(safetensors_set, tensors_of_all_files)
{
    struct safetensors_set set;
    struct error err;
    float value;
    enum status status = open_sharded(MAP(",\"c\":\"2.safetensors\""), &set, &err);
    cr_assert(status == ST_OK, "%s", err.text);
    cr_assert(set.file_count == 2 && set.tensors.count == 3);
    memcpy(&value, tensor_directory_find(&set.tensors, "b")->data, sizeof value);
    cr_expect_eq(value, 2);
    memcpy(&value, tensor_directory_find(&set.tensors, "c")->data, sizeof value);
    cr_expect_eq(value, 0);
    safetensors_set_close(&set);
}

Test(safetensors_set, index_and_files_must_agree)
{
    expect_index_refused("{}", ST_BAD_FILE, "weight_map is missing");
    expect_index_refused("[]", ST_BAD_FILE, "is no object");
    expect_index_refused("{\"weight_map\":{}}", ST_BAD_FILE, "names 0 files");
    expect_index_refused("{\"weight_map\":{\"a\":1}}", ST_BAD_FILE, "is no string");
    expect_index_refused(MAP(",\"c\":\"3.safetensors\""), ST_NOT_FOUND, "3.safetensors: No such");
    expect_index_refused(MAP(",\"c\":\"1.safetensors\""), ST_BAD_FILE, "tensor c is not in 1.saf");
    expect_index_refused(MAP(",\"c\":\"2.safetensors\",\"d\":\"2.safetensors\""), ST_BAD_FILE,
                         "weight_map: tensor d is not in 2.safetensors");
    expect_index_refused("{\"weight_map\":{\"a\":\"1.safetensors\"}}", ST_BAD_FILE,
                         "tensor b is in 1.safetensors, but weight_map says nothing of it");
    expect_index_refused(MAP(",\"b\":\"2.safetensors\""), ST_BAD_FILE, "duplicate");
    expect_index_refused("{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
                         "\"c\":\"2.safetensors\"}}",
                         ST_BAD_FILE, "tensor b is in 1.safetensors, but weight_map says 2.saf");
}

Test(safetensors_set, nothing_outside_the_directory_is_opened)
{
    static const char *const names[] = {"../2.safetensors",
                                        "/tmp/2.safetensors",
                                        "a/2.safetensors",
                                        "..",
                                        ".hidden.safetensors",
                                        "",
                                        "2.bin",
                                        "x\\u0000.safetensors"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char index[256];
        snprintf(index, sizeof index, "{\"weight_map\":{\"c\":\"%s\"}}", names[i]);
        struct safetensors_set set;
        struct error err;
        cr_expect_eq(open_sharded(index, &set, &err), ST_BAD_FILE, "%s", names[i]);
        cr_expect(strstr(err.text, "plain name") || strstr(err.text, "\\u0000"), "%s", err.text);
        safetensors_set_close(&set);
    }
}

Test(hf_checkpoint, weights_must_be_there)
{
    struct checkpoint *checkpoint;
    struct error err = {0};
    char *dir = make_directory();
    write_in(dir, "config.json", TINY, strlen(TINY));
    expect_refusal(checkpoint_open(dir, &checkpoint, &err), &err, ST_NOT_FOUND,
                   "model.safetensors: No such file");
    write_in(dir, "model.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
    expect_refusal(checkpoint_open(dir, &checkpoint, &err), &err, ST_BAD_FILE,
                   "1 layers in the configuration, 0 tensors");
    remove_directory(dir);
}

Test(hf_checkpoint, weights_alone_are_no_model)
{
    struct checkpoint *checkpoint;
    struct error err = {0};
    expect_refusal(checkpoint_open("/models/m/model.safetensors", &checkpoint, &err), &err,
                   ST_INVALID, "/models/m/model.safetensors: weights alone; give their directory");
}

Test(hf_checkpoint, opens_a_sharded_directory)
{
    struct checkpoint *checkpoint;
    struct error err = {0};
    const char *dir = golden_directory("qwen3_sharded_bf16");
    if (!dir) cr_skip_test("the weights are not there (tests/make_golden_data.py makes them)");
    cr_assert(checkpoint_open(dir, &checkpoint, &err) == ST_OK, "%s", err.text);
    const struct model_config *config = checkpoint_config(checkpoint);
    cr_expect(config->tied && config->qk_norm && config->head_dim == 32 && config->vocab == 1952);
    cr_expect_eq(checkpoint_tokenizer(checkpoint)->token_count, 1940);
    cr_expect_eq(checkpoint_file_count(checkpoint), 3);
    checkpoint_close(checkpoint);
}
