/* Rotary frequencies and the factor on cos and sin against transformers (make_rope_data.py), read
 * through config.json in both spellings; and the settings that are refused. */
#include "model/rope.h"
#include "base/base.h"
#include "model/hf_config.h"
#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum status read_text(const char *text, size_t length, struct model_config *config,
                             struct error *err)
{
    char *dir = make_directory();
    *config = (struct model_config){0};
    *err = (struct error){0};
    write_in(dir, "config.json", text, length);
    enum status status = hf_config_read(dir, config, err);
    remove_directory(dir);
    return status;
}

/* Powers are rounded by two libraries and YaRN adds two products: three units in the last place. */
static void check_line(char *line, int number)
{
    struct model_config config;
    struct error err;
    float found[MODEL_MAX_HEAD_DIM / 2];
    char *tab = strchr(line, '\t'), *at;
    cr_assert(tab && !read_text(line, (size_t)(tab - line), &config, &err), "line %d: %s", number,
              err.text);
    double scale = strtod(tab + 1, &at);
    cr_expect(fabs((double)model_rope_scale(&config) - scale) < 1e-7, "line %d: scale %g, not %g",
              number, (double)model_rope_scale(&config), scale);
    model_rope_frequencies(&config, found);
    for (int32_t i = 0; i < config.head_dim / 2; i++) {
        uint32_t expected = (uint32_t)strtoul(at, &at, 16), bits;
        memcpy(&bits, &found[i], sizeof bits);
        cr_expect(expected && bits - expected + 3 <= 6, "line %d pair %d: %08x, expected %08x",
                  number, i, bits, expected);
    }
    cr_expect_eq(*at, '\n', "line %d has more numbers", number);
}

Test(rope, equals_transformers)
{
    FILE *file = fopen(TEST_DATA "/rope.txt", "r");
    char line[4096];
    int count = 0;
    cr_assert(file, TEST_DATA "/rope.txt: %m");
    while (fgets(line, sizeof line, file))
        check_line(line, ++count);
    fclose(file);
    cr_expect_eq(count, 20);
}

Test(rope, linear_scaling_divides)
{
    struct model_config config = {.head_dim = 16, .rope = {.theta = 50000}};
    float plain[8], scaled[8];
    model_rope_frequencies(&config, plain);
    config.rope.scaling = ROPE_LINEAR;
    config.rope.factor = 4;
    model_rope_frequencies(&config, scaled);
    cr_expect_float_eq(plain[1], 0.25860015f, 1e-8f);
    for (int i = 0; i < 8; i++)
        cr_expect_eq(scaled[i], plain[i] / 4);
}

/* --- refused */

/* A Llama configuration of 64 positions with one more member. */
static enum status read_with(const char *member, struct model_config *config, struct error *err)
{
    char text[1024];
    int length = snprintf(text, sizeof text,
                          "{\"model_type\":\"llama\",\"vocab_size\":100,\"hidden_size\":32,"
                          "\"intermediate_size\":8,\"num_hidden_layers\":1,"
                          "\"num_attention_heads\":2,\"max_position_embeddings\":64,%s}",
                          member);
    return read_text(text, (size_t)length, config, err);
}

static void expect_refused_at(int line, const char *member, enum status expected, const char *part)
{
    struct model_config config;
    struct error err;
    enum status status = read_with(member, &config, &err);
    expect_refusal_at(__FILE__, line, status, &err, expected, part);
}
#define expect_refused(...) expect_refused_at(__LINE__, __VA_ARGS__)
#define SCALING(type, rest) "\"rope_scaling\":{\"rope_type\":\"" type "\"" rest "}"

Test(rope, kinds_that_are_not_computed)
{
    expect_refused(
        SCALING("dynamic", ",\"factor\":2.0"), ST_UNSUPPORTED,
        "rope_type is dynamic; supported are default, linear, llama3, yarn and longrope");
    expect_refused(SCALING("longrope", ""), ST_BAD_FILE, "short_factor has 0 numbers");
    expect_refused(SCALING("longrope", ",\"short_factor\":[1,1,1,1,1,1,1,1],"
                                       "\"long_factor\":[1,1,1,1,1,1,1,2]"),
                   ST_UNSUPPORTED, "long_factor differs from short_factor");
    expect_refused(SCALING("longrope", ",\"short_factor\":[1,1,1,1,1,1,1,0],"
                                       "\"long_factor\":[1,1,1,1,1,1,1,0]"),
                   ST_BAD_FILE, "a rope frequency factor is 0");
    expect_refused("\"rope_parameters\":{\"type\":\"mrope\"}", ST_UNSUPPORTED,
                   "rope_type is mrope");
    expect_refused("\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1.0}}", ST_UNSUPPORTED,
                   "rope_parameters.full_attention is an object");
    expect_refused("\"rope_parameters\":{\"partial_rotary_factor\":0.5}", ST_UNSUPPORTED,
                   "partial_rotary_factor is 0.5");
    expect_refused("\"rope_scaling\":[4.0]", ST_BAD_FILE, "rope_scaling is an array");
}

Test(rope, numbers_that_cannot_be)
{
    expect_refused("\"rope_theta\":0", ST_BAD_FILE, "must be a number above 0");
    expect_refused("\"rope_theta\":-1e4", ST_BAD_FILE, "is -10000");
    expect_refused("\"rope_theta\":1e300", ST_BAD_FILE, "from a base of 1e+300");
    expect_refused("\"rope_theta\":1e-300", ST_BAD_FILE, "from a base of 1e-300");
    expect_refused("\"rope_theta\":1e999", ST_BAD_FILE, "overflow");
    expect_refused("\"rope_theta\":NaN", ST_BAD_FILE, "line 1");
    expect_refused("\"rope_theta\":\"1e4\"", ST_BAD_FILE, "rope_theta is a string");
    expect_refused(SCALING("linear", ""), ST_BAD_FILE, "factor is 0");
    expect_refused(SCALING("linear", ",\"factor\":0.0"), ST_BAD_FILE, "factor is 0");
    expect_refused(SCALING("linear", ",\"factor\":1e-300"), ST_BAD_FILE,
                   "a scaling factor of 1e-300");
    expect_refused(SCALING("linear", ",\"factor\":1e300"), ST_BAD_FILE,
                   "a scaling factor of 1e+300");
    expect_refused(SCALING("llama3", ",\"factor\":8.0"), ST_BAD_FILE, "low_freq_factor is 0");
    expect_refused(SCALING("llama3", ",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4"),
                   ST_BAD_FILE, "high_freq_factor is 4; it must be above low_freq_factor 4");
    expect_refused(SCALING("llama3", ",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
                                     "\"original_max_position_embeddings\":0"),
                   ST_BAD_FILE, "original context length is 0");
}

Test(rope, yarn_numbers_that_cannot_be)
{
    expect_refused(SCALING("yarn", ",\"factor\":-4"), ST_BAD_FILE, "factor is -4");
    expect_refused(SCALING("yarn", ",\"factor\":4,\"original_max_position_embeddings\":0"),
                   ST_BAD_FILE, "original context length is 0");
    expect_refused(SCALING("yarn", ",\"original_max_position_embeddings\":-64"), ST_BAD_FILE,
                   "factor is 0");
    expect_refused(SCALING("yarn", ",\"factor\":4,\"attention_factor\":0"), ST_BAD_FILE,
                   "attention_factor is 0; it must be above 0");
    expect_refused(SCALING("yarn", ",\"factor\":4,\"beta_fast\":-1"), ST_BAD_FILE,
                   "beta_fast is -1");
    expect_refused(SCALING("yarn", ",\"factor\":4,\"beta_fast\":1,\"beta_slow\":2"), ST_BAD_FILE,
                   "beta_fast is 1; it must not be below beta_slow 2");
    expect_refused("\"rope_theta\":1," SCALING("yarn", ",\"factor\":4"), ST_BAD_FILE,
                   "YaRN's rotary frequencies is 1; it must be a number above 1");
    expect_refused(SCALING("yarn", ",\"factor\":2.718281828459045,\"mscale\":-20,"
                                   "\"mscale_all_dim\":1"),
                   ST_BAD_FILE, "attention factor is -0.9");
}

Test(rope, two_spellings_in_one_file_must_agree)
{
    struct model_config config;
    struct error err;
    cr_assert(!read_with("\"rope_scaling\":{\"type\":\"linear\",\"factor\":4},"
                         "\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4.0,"
                         "\"rope_theta\":5e5}",
                         &config, &err),
              "%s", err.text);
    cr_expect(config.rope.scaling == ROPE_LINEAR && config.rope.theta == 5e5);
    expect_refused("\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0},"
                   "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5e5}",
                   ST_BAD_FILE, "rope_scaling and rope_parameters differ in rope_type; give one");
}

/* Two lists that are the same do not depend on the context. */
Test(rope, longrope_of_one_list)
{
    struct model_config config;
    struct error err;
    cr_assert(!read_with(SCALING("longrope", ",\"short_factor\":[1,1,1,1,2,2,2,4.5],"
                                             "\"long_factor\":[1,1,1,1,2,2,2,4.5],"
                                             "\"factor\":4,"
                                             "\"original_max_position_embeddings\":16"),
                         &config, &err),
              "%s", err.text);
    cr_expect(config.rope.scaling == ROPE_FACTORS && config.rope.factors[7] == 4.5f);
    cr_expect_float_eq(model_rope_scale(&config), sqrtf(1.5f), 1e-6f); /* 1 + ln 4 / ln 16 */
}

/* --- YaRN and the context */

Test(rope, yarn_extends_the_context)
{
    struct model_config config;
    struct error err;
    cr_assert(!read_with(SCALING("yarn", ",\"factor\":4"), &config, &err), "%s", err.text);
    cr_expect_eq(config.max_context, 256);
    cr_assert(!read_with(SCALING("yarn", ",\"factor\":4,\"original_max_position_embeddings\":16"),
                         &config, &err),
              "%s", err.text);
    cr_expect_eq(config.max_context, 64);
    cr_assert(!read_with(SCALING("linear", ",\"factor\":4"), &config, &err), "%s", err.text);
    cr_expect_eq(config.max_context, 64);
}
