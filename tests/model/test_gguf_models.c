/* GGUF files as the PyPI package `gguf` writes them (make_gguf_models.py): the golden checkpoints
 * answer as their directories do, and every block type as its values in F32 do. */
#include "tests/model/support_golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT 48

static const char *gguf_directory(void)
{
    static char path[1024];
    const char *generated = getenv("ESPALIER_TEST_GENERATED");
    snprintf(path, sizeof path, "%s/gguf", generated ? generated : SOURCE_DIR "/build/generated");
    return path;
}

/* The manifest's files, or a skipped test. */
static json_t *load_files(void)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/manifest.json", gguf_directory());
    json_t *manifest = json_load_file(path, 0, NULL);
    if (!manifest) cr_skip_test("%s is not there (tests/make_gguf_models.py makes it)", path);
    json_t *files = json_incref(json_object_get(manifest, "files"));
    json_decref(manifest);
    return files;
}

static struct model *load(const json_t *file, const char *member, enum weight_format weights)
{
    char path[1400];
    struct model_options options = model_options_default();
    options.weights = weights;
    options.kv_type = DT_F32;
    snprintf(path, sizeof path, "%s/%s", gguf_directory(),
             json_string_value(json_object_get(file, member)));
    return load_for_test(path, &options);
}

/* F32 holds every set's weights exactly, F16 those of the half-precision sets. */
Test(gguf_models, golden_checkpoints_answer_as_their_directories)
{
    json_t *files = load_files(), *file;
    size_t i, checked = 0;
    json_array_foreach(files, i, file)
    {
        const char *set = json_string_value(json_object_get(file, "golden"));
        const char *name = json_string_value(json_object_get(file, "file"));
        if (!set) continue;
        char directory[256];
        snprintf(directory, sizeof directory, TEST_DATA "/golden/%s", set);
        json_t *golden = load_json(directory, "golden.json");
        struct model *model = load(file, "file", WEIGHT_NATIVE);
        golden_worst = 0;
        check_prompts(model, golden);
        fprintf(stderr, "%s: largest difference of a log probability %.2g\n", name, golden_worst);
        model_free(model);
        json_decref(golden);
        checked++;
    }
    json_decref(files);
    cr_expect_eq(checked, 14);
}

/* Text becomes the tokens that the directory's tokenizer gives. */
Test(gguf_models, tokenizers_are_those_of_the_directories)
{
    json_t *files = load_files(), *file, *entry;
    size_t i, j, checked = 0;
    json_array_foreach(files, i, file)
    {
        const char *set = json_string_value(json_object_get(file, "golden"));
        if (!set || !strstr(json_string_value(json_object_get(file, "file")), ".F32.v3")) continue;
        char directory[256];
        snprintf(directory, sizeof directory, TEST_DATA "/golden/%s", set);
        json_t *golden = load_json(directory, "golden.json");
        struct model *model = load(file, "file", WEIGHT_NATIVE);
        json_array_foreach(json_object_get(golden, "tokenize"), j, entry)
        {
            const json_t *text = json_object_get(entry, "text");
            int32_t count, *ids = json_ids(json_object_get(entry, "ids"), &count);
            struct token_list list = {0};
            struct error err = {0};
            cr_assert_eq(tokenizer_encode(model_tokenizer(model), json_string_value(text),
                                          json_string_length(text), true, &list, &err),
                         ST_OK);
            bool same = list.count == (size_t)count &&
                        (!count || !memcmp(list.ids, ids, (size_t)count * sizeof *ids));
            cr_expect(same, "%s: string %zu has other ids", set, j);
            free(list.ids);
            free(ids);
            checked++;
        }
        model_free(model);
        json_decref(golden);
    }
    json_decref(files);
    cr_expect_gt(checked, 300);
}

/* The logits of a prompt of PROMPT tokens, [PROMPT][vocab]; caller frees. */
static float *prompt_logits(struct model *model)
{
    int32_t tokens[PROMPT], vocab = model_config(model)->vocab;
    struct context *c = must_alloc(sizeof *c);
    float *logits = must_alloc((size_t)PROMPT * (size_t)vocab * sizeof *logits);
    for (int32_t i = 0; i < PROMPT; i++)
        tokens[i] = (37 * i * i + 11 * i + 5) % vocab;
    context_begin(c, model);
    context_push(c, tokens, PROMPT, NULL);
    for (int32_t i = 0; i < PROMPT; i++)
        model_logits(model, i, logits + (size_t)i * (size_t)vocab);
    free(c);
    return logits;
}

static double spread(const float *values, size_t count)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += (double)values[i] * (double)values[i];
    return sqrt(squares / (double)count);
}

/* In `native` the values are exact and in W8 they are quantized from exact values, so a block type
 * and its F32 twin agree in every bit. W8 is near native, as near as random weights let it. */
static void check_pair(const json_t *file)
{
    float *logits[2];
    size_t count = 0;
    const char *name = json_string_value(json_object_get(file, "file"));
    for (enum weight_format format = WEIGHT_NATIVE; format <= WEIGHT_W8; format++) {
        struct model *own = load(file, "file", format), *twin = load(file, "reference", format);
        count = PROMPT * (size_t)model_config(own)->vocab;
        float *expected = prompt_logits(twin);
        logits[format] = prompt_logits(own);
        cr_expect(!memcmp(logits[format], expected, count * sizeof(float)),
                  "%s: logits in format %d differ from those of its values", name, (int)format);
        free(expected);
        model_free(own);
        model_free(twin);
    }
    double size = spread(logits[0], count);
    for (size_t i = 0; i < count; i++)
        logits[1][i] -= logits[0][i];
    double off = spread(logits[1], count);
    cr_expect(size > 0.1 && isfinite(size), "%s: logits of size %g", name, size);
    cr_expect(off < 0.2 * size, "%s: w8 is off by %g of %g", name, off, size);
    fprintf(stderr, "%s: logits of size %.3g, w8 off by %.2g\n", name, size, off);
    free(logits[0]);
    free(logits[1]);
}

Test(gguf_models, block_types_are_their_values)
{
    json_t *files = load_files(), *file;
    size_t i, checked = 0;
    json_array_foreach(files, i, file)
    {
        if (!json_object_get(file, "reference")) continue;
        check_pair(file);
        checked++;
    }
    json_decref(files);
    cr_expect_eq(checked, 14);
}
