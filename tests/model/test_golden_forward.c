/* The forward pass against an independent implementation (tests/data/golden/README.md): log
 * probabilities of given tokens, top-5 lists and greedy paths, in `native` with f32 KV. */
#include "tests/model/support_files.h"
#include "tests/model/support_forward.h"
#include "tests/model/support_golden.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A copy of `from` whose spans point at its own tables. */
static struct context *context_copy(const struct context *from)
{
    struct context *c = must_alloc(sizeof *c);
    *c = *from;
    for (int32_t i = 0; i < c->span_count; i++)
        c->spans[i].blocks = c->blocks[i];
    return c;
}

/* One branch: it sees the prefix's span and its own, which starts at the prefix's remainder so that
 * its blocks stay aligned. Joining appends its span to `joined`: nothing is copied, nothing
 * computed again. */
static void check_branch(struct context *joined, const json_t *branch, int32_t prefix)
{
    struct context *own = context_copy(joined);
    own->span_count = 1;
    own->length = own->next_position = prefix;
    context_open_span(own, prefix % BLOCK_SLOTS);
    int32_t count, *tokens = json_ids(json_object_get(branch, "prompt"), &count);
    context_push(own, tokens, count, NULL);
    json_t *greedy = json_object_get(branch, "greedy");
    check_top(own, count, json_object_get(branch, "top5"));
    check_greedy(own, count, json_object_get(greedy, "ids"), json_object_get(greedy, "logprobs"));
    cr_assert_eq(own->next_position, json_integer_value(json_object_get(branch, "end_position")));
    int32_t at = joined->span_count++;
    memcpy(joined->blocks[at], own->blocks[1], sizeof own->blocks[1]);
    joined->spans[at] = own->spans[1];
    joined->spans[at].blocks = joined->blocks[at];
    joined->length += own->spans[1].length;
    joined->next_block = own->next_block;
    joined->next_position = max_i32(joined->next_position, own->next_position);
    free(tokens);
    free(own);
}

/* Branches over one prefix and what follows their join, by views of several spans. */
static void check_branches(struct model *model, const json_t *golden)
{
    size_t i, j;
    json_t *group, *branch;
    json_array_foreach(json_object_get(golden, "branches"), i, group)
    {
        struct context *joined = must_alloc(sizeof *joined);
        int32_t prefix, count, *tokens = json_ids(json_object_get(group, "prefix"), &prefix);
        context_begin(joined, model);
        context_push(joined, tokens, prefix, NULL);
        free(tokens);
        json_array_foreach(json_object_get(group, "branches"), j, branch)
            check_branch(joined, branch, prefix);
        json_t *join = json_object_get(group, "join"), *greedy = json_object_get(join, "greedy");
        cr_assert_eq(joined->next_position,
                     json_integer_value(json_object_get(join, "start_position")));
        context_open_span(joined, 0);
        tokens = json_ids(json_object_get(join, "prompt"), &count);
        double *found = must_alloc((size_t)count * sizeof *found);
        context_push(joined, tokens, count, found);
        check_logprobs(found, json_object_get(join, "prompt_logprobs"), "join token");
        check_greedy(joined, count, json_object_get(greedy, "ids"),
                     json_object_get(greedy, "logprobs"));
        free(found);
        free(tokens);
        free(joined);
    }
}

static void check_set(const char *set)
{
    const char *directory = golden_directory(set);
    if (!directory)
        cr_skip_test("the weights of %s are not there (tests/make_golden_data.py makes them)", set);
    char data[256];
    snprintf(data, sizeof data, TEST_DATA "/golden/%s", set);
    json_t *golden = load_json(data, "golden.json");
    struct model *model = load_for_test(directory, NULL);
    check_prompts(model, golden);
    check_branches(model, golden);
    model_free(model);
    json_decref(golden);
    fprintf(stderr, "%s: largest difference of a log probability %.2g\n", set, golden_worst);
}

Test(golden, llama_tied_f32)
{
    check_set("llama_tied_f32");
}

Test(golden, llama_ropescale_bf16)
{
    check_set("llama_ropescale_bf16");
}

Test(golden, qwen2_f16)
{
    check_set("qwen2_f16");
}

Test(golden, qwen3_sharded_bf16)
{
    check_set("qwen3_sharded_bf16");
}

/* --- golden checkpoints under other configurations (make_golden_variants.py): Mistral, rope
 * scaling */

/* A directory with links to everything in `base`, but for config.json, which is changed. */
static char *make_variant(const char *base, const json_t *changes)
{
    char *dir = make_directory(), from[2048], to[2048];
    DIR *list = opendir(base);
    cr_assert(list, "%s: %m", base);
    for (struct dirent *entry; (entry = readdir(list));) {
        snprintf(from, sizeof from, "%s/%.200s", base, entry->d_name);
        snprintf(to, sizeof to, "%s/%.200s", dir, entry->d_name);
        if (strchr(entry->d_name, '.') != entry->d_name && strcmp(entry->d_name, "config.json"))
            cr_assert(symlink(from, to) == 0, "%s: %m", to);
    }
    closedir(list);
    json_t *config = load_json(base, "config.json");
    json_object_update(config, (json_t *)changes);
    char *text = json_dumps(config, 0);
    write_in(dir, "config.json", text, strlen(text));
    free(text);
    json_decref(config);
    return dir;
}

static void check_variant(const json_t *variant)
{
    const char *name = json_string_value(json_object_get(variant, "name"));
    const char *base = golden_directory(json_string_value(json_object_get(variant, "base")));
    if (!base) cr_skip_test("%s: the weights are not there (make_golden_data.py makes them)", name);
    char *dir = make_variant(base, json_object_get(variant, "config"));
    struct model_options options = model_options_default();
    options.weights = WEIGHT_NATIVE;
    options.kv_type = DT_F32;
    options.context = strstr(name, "window of 100") ? 100 : 0;
    struct model *model = load_for_test(dir, &options);
    golden_worst = 0;
    check_prompts(model, variant);
    fprintf(stderr, "%s: largest difference of a log probability %.2g\n", name, golden_worst);
    model_free(model);
    remove_directory(dir);
}

Test(golden, variants)
{
    json_t *all = load_json(TEST_DATA "/golden", "variants.json"), *variant;
    size_t i;
    json_array_foreach(json_object_get(all, "variants"), i, variant) check_variant(variant);
    cr_expect_eq(i, 5);
    json_decref(all);
}

/* Beyond its window a model would need another attention: --context refuses. */
Test(golden, no_context_beyond_the_window)
{
    struct model_options options = model_options_default();
    const char *base = golden_directory("llama_tied_f32");
    struct model *model = NULL;
    struct error err = {0};
    if (!base) cr_skip_test("the weights are not there (make_golden_data.py makes them)");
    json_t *changes = json_pack("{s:s, s:i}", "model_type", "mistral", "sliding_window", 100);
    char *dir = make_variant(base, changes);
    options.path = dir;
    options.context = 101;
    expect_refusal(model_load(&options, &model, &err), &err, ST_INVALID,
                   "--context 101: the model knows 100 positions (its sliding window)");
    remove_directory(dir);
    json_decref(changes);
}

/* The default model's golden numbers: chats with their greedy answers, and 256 tokens of plain
 * text. */
Test(golden, smollm2)
{
    const char *path = default_model();
    if (!path) cr_skip_test("the default model is not there");
    json_t *golden = load_json(TEST_DATA "/golden/smollm2", "smollm2_golden.json"), *chat;
    struct model *model = load_for_test(path, NULL);
    size_t i;
    json_array_foreach(json_object_get(golden, "chat"), i, chat)
    {
        json_t *greedy = json_object_get(chat, "greedy");
        check_prompt(model, json_object_get(chat, "ids"), json_object_get(chat, "prompt_logprobs"),
                     json_object_get(chat, "top5"), json_object_get(greedy, "ids"),
                     json_object_get(greedy, "logprobs"));
    }
    json_t *text = json_object_get(golden, "text256");
    check_prompt(model, json_object_get(text, "ids"), json_object_get(text, "logprobs"), NULL, NULL,
                 NULL);
    model_free(model);
    json_decref(golden);
    fprintf(stderr, "smollm2: largest difference of a log probability %.2g\n", golden_worst);
}
