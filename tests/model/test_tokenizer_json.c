/* tokenizer.json: every pipeline we know, and a clear refusal of those we do not. */
#include "model/tokenizer_json.h"
#include "base/base.h"
#include "model/tokenizer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A directory with the two files (a NULL text: no such file), gone at the end of the test. */
static char directory[] = "/tmp/espalier-test-XXXXXX";

static const char *const names[] = {"tokenizer.json", "tokenizer_config.json",
                                    "chat_template.jinja"};

static void put(size_t which, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, names[which]);
    unlink(path);
    if (!text) return;
    FILE *file = fopen(path, "wb");
    cr_assert(file && fputs(text, file) >= 0);
    fclose(file);
}

static void set_up(void)
{
    cr_assert(mkdtemp(directory));
}

static void clean_up(void)
{
    for (size_t i = 0; i < COUNT_OF(names); i++)
        put(i, NULL);
    rmdir(directory);
}

TestSuite(tokenizer_json, .init = set_up, .fini = clean_up);

static enum status load(const char *json, const char *config, struct tokenizer_spec *spec,
                        struct error *err)
{
    put(0, json);
    put(1, config);
    return tokenizer_spec_from_json(directory, spec, err);
}

#define ADDED                                                            \
    "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true}," \
    "{\"id\":5,\"content\":\"<w>\",\"special\":false}]"
#define VOCAB "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}"
#define MODEL "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\"]}"
#define SPLIT(pattern, behavior)                                                         \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":" pattern \
    ",\"behavior\":\"" behavior "\"},{\"type\":\"ByteLevel\",\"use_regex\":false}]}"
#define GPT2 "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"

Test(tokenizer_json, reads_what_is_there)
{
    struct tokenizer_spec spec;
    struct error err = {0};
    cr_assert_eq(
        load(
            "{" ADDED "," GPT2 "," MODEL "}",
            "{\"bos_token\":{\"content\":\"<s>\"},\"chat_template\":"
            "[{\"name\":\"tools\",\"template\":\"no\"},{\"name\":\"default\",\"template\":\"T\"}]}",
            &spec, &err),
        ST_OK, "%s", err.text);
    cr_assert_eq(spec.token_count, 6);
    cr_assert_str_eq(spec.tokens[2].text, "ab");
    cr_assert_eq(spec.tokens[2].kind, TOKEN_NORMAL);
    cr_assert_eq(spec.tokens[3].kind, TOKEN_SPECIAL);
    cr_assert_null(spec.tokens[4].text);
    cr_assert_eq(spec.tokens[5].kind, TOKEN_ADDED);
    cr_assert_eq(spec.merge_count, 1);
    cr_assert_eq(spec.merges[0].right_length, 1);
    cr_assert_str_eq(spec.merges[0].right, "b");
    cr_assert_eq(spec.pretokenizer, PRETOKENIZE_GPT2);
    cr_assert_eq(spec.bos, 3);
    cr_assert_eq(spec.eos, -1);
    cr_assert_not(spec.add_bos);
    cr_assert_str_eq(spec.chat_template, "T");
    tokenizer_spec_free(&spec);
}

Test(tokenizer_json, merges_as_pairs_and_without_a_config)
{
    struct tokenizer_spec spec;
    put(2, "{{ x }}\n");
    cr_assert_eq(
        load("{" ADDED "," GPT2 ",\"model\":{\"type\":\"BPE\"," VOCAB
             ",\"merges\":[[\"a\",\"b\"]]},\"post_processor\":{\"type\":\"TemplateProcessing\","
             "\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}]}}",
             NULL, &spec, NULL),
        ST_OK);
    cr_assert_str_eq(spec.merges[0].left, "a");
    cr_assert_str_eq(spec.merges[0].right, "b");
    cr_assert_eq(spec.bos, 3);
    cr_assert(spec.add_bos);
    cr_assert_str_eq(spec.chat_template, "{{ x }}\n");
    tokenizer_spec_free(&spec);
}

/* As transformers reads them: the file clobbers the template in the config. */
Test(tokenizer_json, the_template_file_wins)
{
    struct tokenizer_spec spec;
    put(2, "file");
    cr_assert_eq(
        load("{" ADDED "," GPT2 "," MODEL "}", "{\"chat_template\":\"config\"}", &spec, NULL),
        ST_OK);
    cr_assert_str_eq(spec.chat_template, "file");
    tokenizer_spec_free(&spec);
}

static void refused(const char *json, const char *config, enum status expected, const char *words)
{
    struct tokenizer_spec spec;
    struct error err = {0};
    cr_assert_eq(load(json, config, &spec, &err), expected, "%s: %s", json, err.text);
    cr_assert(strstr(err.text, words), "'%s' says nothing of '%s'", err.text, words);
    cr_assert_null(spec.tokens);
}

Test(tokenizer_json, other_pipelines_are_refused_by_name)
{
    enum status no = ST_UNSUPPORTED;
    refused("{" GPT2 "," MODEL ",\"normalizer\":{\"type\":\"Lowercase\"}}", NULL, no, "Lowercase");
    refused("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\"}}", NULL, no, "Metaspace");
    refused("{" MODEL "}", NULL, no, "pre_tokenizer");
    refused("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\"}}", NULL, ST_BAD_FILE,
            "pretokenizers");
    refused("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
            "{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}}",
            NULL, no, "Digits");
    refused("{" MODEL ",\"pre_tokenizer\":" SPLIT("{\"Regex\":\"x\"}", "Sideways") "}", NULL, no,
            "Sideways");
    refused("{" MODEL ",\"pre_tokenizer\":" SPLIT("\"x\"", "Isolated") "}", NULL, no,
            "Split.pattern");
    refused("{" GPT2 "," MODEL
            ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
            "{\"type\":\"Strip\"}]}}",
            NULL, no, "Strip");
    refused("{" GPT2 "," MODEL ",\"decoder\":{\"type\":\"WordPiece\"}}", NULL, no, "WordPiece");
    refused("{" GPT2 ",\"model\":{\"type\":\"Unigram\"}}", NULL, no, "Unigram");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"," VOCAB
            ",\"merges\":[]}}",
            NULL, no, "model.end_of_word_suffix");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\",\"dropout\":0.1," VOCAB ",\"merges\":[]}}", NULL,
            no, "model.dropout");
    refused("{" GPT2 "," MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}", NULL, no,
            "BertProcessing");
    refused("{" GPT2 "," MODEL "," ADDED
            ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
            "{\"SpecialToken\":{\"id\":\"<none>\"}},{\"Sequence\":{\"id\":\"A\"}}]}}",
            NULL, no, "post_processor");
}

/* An unknown token and the byte fallback change nothing while every byte has a token. */
Test(tokenizer_json, what_needs_every_byte_is_refused_when_one_is_missing)
{
    static const char *const fields[] = {"\"unk_token\":\"<u>\"", "\"byte_fallback\":true"};
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        char json[256];
        struct tokenizer_spec spec;
        struct tokenizer *tokenizer = NULL;
        struct error err = {0};
        snprintf(json, sizeof json,
                 "{" GPT2 ",\"model\":{\"type\":\"BPE\",%s," VOCAB ",\"merges\":[]}}", fields[i]);
        cr_assert_eq(load(json, NULL, &spec, &err), ST_OK, "%s", err.text);
        cr_assert_eq(tokenizer_create(&spec, &tokenizer, &err), ST_UNSUPPORTED);
        cr_assert(strstr(err.text, "byte 0x00 has no token"), "%s", err.text);
        tokenizer_spec_free(&spec);
    }
}

Test(tokenizer_json, steps_flags_and_what_goes_before_and_behind)
{
    struct tokenizer_spec spec;
    struct error err = {0};
    cr_assert_eq(
        load(
            "{" MODEL ",\"pre_tokenizer\":" SPLIT(
                "{\"String\":\"-\"}",
                "MergedWithNext") ",\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":"
                                  "true},"
                                  "{\"id\":2,\"content\":\"ab\",\"single_word\":true,\"lstrip\":"
                                  "true,\"rstrip\":true}],"
                                  "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                                  "{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}"
                                  "},"
                                  "{\"SpecialToken\":{\"id\":\"<s>\"}}]}}",
            NULL, &spec, &err),
        ST_OK, "%s", err.text);
    cr_assert_eq(spec.pretokenizer, PRETOKENIZE_STEPS);
    cr_assert_eq(spec.step_count, 1);
    cr_assert(spec.steps[0].literal && spec.steps[0].behavior == SPLIT_MERGED_WITH_NEXT);
    cr_assert_eq(spec.added_count, 2);
    cr_assert(!spec.added[0].in_vocab && !spec.added[0].normalized);
    cr_assert(spec.added[1].in_vocab && spec.added[1].normalized && spec.added[1].single_word &&
              spec.added[1].lstrip && spec.added[1].rstrip);
    cr_assert(spec.bos == 3 && spec.add_bos && spec.last == 3 && spec.add_last);
    tokenizer_spec_free(&spec);
}

Test(tokenizer_json, broken_files_are_refused)
{
    enum status bad = ST_BAD_FILE;
    refused("{", NULL, bad, "line 1");
    refused("[]", NULL, bad, "object");
    refused(NULL, NULL, ST_NOT_FOUND, "tokenizer.json");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\"}}", NULL, bad, "vocab");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", NULL, bad,
            "empty");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", NULL, bad,
            "-1");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]}}",
            NULL, bad, "99999999");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", NULL,
            bad, "1.5");
    refused("{" GPT2 ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
            NULL, bad, "id 0");
    static const char *const merges[] = {
        "\"ab\"",    "\"a b c\"",           "\" a\"", "\"a \"",      "[\"a\"]",
        "[\"a\",1]", "[\"a\",\"b\",\"c\"]", "7",      "[\"\",\"a\"]"};
    for (size_t i = 0; i < COUNT_OF(merges); i++) {
        char json[256];
        snprintf(json, sizeof json,
                 "{" GPT2 ",\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[%s]}}", merges[i]);
        refused(json, NULL, bad, "model.merges[0]");
    }
    refused("{" GPT2 "," MODEL ",\"added_tokens\":[{\"id\":3}]}", NULL, bad, "added_tokens[0]");
    refused("{" GPT2 "," MODEL "," ADDED "}", "{\"bos_token\":\"<none>\"}", bad, "bos_token");
    refused("{" GPT2 "," MODEL "}", "nonsense", bad, "tokenizer_config.json");
}

Test(tokenizer_json, a_pipe_for_a_template_is_not_waited_for)
{
    char path[128];
    struct tokenizer_spec spec;
    struct error err = {0};
    put(2, "{{ messages }}");
    cr_assert_eq(load("{" GPT2 "," ADDED "," MODEL "}", NULL, &spec, &err), ST_OK, "%s", err.text);
    cr_assert_str_eq(spec.chat_template, "{{ messages }}");
    tokenizer_spec_free(&spec);
    put(2, NULL);
    snprintf(path, sizeof path, "%s/%s", directory, names[2]);
    cr_assert(mkfifo(path, 0600) == 0);
    cr_assert_eq(load("{" GPT2 "," ADDED "," MODEL "}", NULL, &spec, &err), ST_OK, "%s", err.text);
    cr_assert_str_eq(spec.chat_template, "");
    tokenizer_spec_free(&spec);
}

/* Every beginning of a good file is a bad file, and none of them does harm. */
Test(tokenizer_json, every_truncation_is_refused)
{
    static const char whole[] = "{" ADDED "," GPT2 "," MODEL "}";
    char part[sizeof whole];
    struct tokenizer_spec spec;
    for (size_t length = 0; length + 1 < sizeof whole; length++) {
        memcpy(part, whole, length);
        part[length] = 0;
        cr_assert_neq(load(part, NULL, &spec, NULL), ST_OK, "%zu bytes", length);
    }
}

Test(tokenizer_json, every_failed_allocation_is_reported)
{
    struct tokenizer_spec spec;
    int64_t n = 1;
    for (;; n++) {
        alloc_fail_after(n);
        enum status status = load("{" ADDED "," GPT2 "," MODEL "}", NULL, &spec, NULL);
        alloc_fail_after(0);
        if (!status) break;
        cr_assert_eq(status, ST_NO_MEMORY);
    }
    cr_assert_geq(n, 3);
    tokenizer_spec_free(&spec);
}
