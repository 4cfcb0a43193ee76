#include "support_simulation.h"

#include "base/base.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double step_us(const struct profile *profile, int32_t rows, int64_t context, int32_t prefill,
                      double attention)
{
    struct step_load load = {rows, prefill, context, attention};
    return profile_step_us(profile, &load);
}

/* controller.md's formula with the numbers it is printed with. */
Test(profile, study)
{
    struct profile *profile = the_profile("study-h200");
    struct executor_capacity capacity;
    for (int32_t rows = 0; rows < 300; rows += 7)
        for (int32_t prefill = 0; prefill < 600; prefill += 64) {
            double w = 16.05, c = 0.1020 * (rows + prefill);
            double ms = 3 + pow(pow(w, 4) + pow(c, 4), 0.25) + 0.0728e-3 * 1500 * rows +
                        0.020 * rows + 4.71e-6 * prefill * 700.0;
            double us = step_us(profile, rows, 1500 * rows, prefill, prefill * 700.0);
            cr_assert_float_eq(us / 1000, ms, 5e-4 * ms, "%d rows, %d tokens: %g, not %g", rows,
                               prefill, us / 1000, ms);
        }
    profile_capacity(profile, &capacity);
    cr_assert_eq(capacity.block_count, 229000 / 16);
    cr_assert_eq(capacity.max_rows, 512);
    cr_assert_eq(capacity.depth, 1);
    cr_assert_float_eq(profile_noise(profile), 0.04, 1e-12);
    profile_free(profile);
}

Test(profile, names_and_twins)
{
    size_t count;
    const char *const *names = profile_builtin_names(&count);
    cr_assert_eq(count, 10);
    for (size_t i = 0; i < count; i++) {
        struct profile *profile = the_profile(names[i]);
        bool twin = strstr(names[i], "-noshare") != NULL;
        cr_assert_str_eq(profile_name(profile), names[i]);
        cr_assert_eq(profile_shared_prefix(profile), twin ? SHARED_NONE : SHARED_SIBLINGS);
        cr_assert_eq(twin, i % 2 == 1);
        if (twin) { /* all else is the same */
            struct profile *shared = the_profile(names[i - 1]);
            for (int32_t n = 1; n < 700; n += 13)
                cr_assert_eq(step_us(profile, n, 999 * n, n, 5 * n),
                             step_us(shared, n, 999 * n, n, 5 * n));
            profile_free(shared);
        }
        profile_free(profile);
    }
}

/* branches-and-slo.md section 5: the GEMM's steps, and a, b, c beside it. */
Test(profile, measured_engines)
{
    static const struct {
        int32_t n;
        double ms;
    } tiles[] = {{1, 18.8},   {64, 18.8},  {65, 18.7},  {128, 18.7},  {129, 23.1},  {256, 24.3},
                 {257, 33.4}, {384, 33.4}, {512, 41.4}, {640, 51.75}, {513, 51.75}, {1024, 82.8}};
    struct profile *h200 = the_profile("h200-qwen3-32b");
    struct profile *two = the_profile("h200x2-qwen3-32b");
    struct executor_capacity capacity;
    for (size_t i = 0; i < COUNT_OF(tiles); i++) {
        cr_assert_float_eq(step_us(h200, 0, 0, tiles[i].n, 0), 1000 * tiles[i].ms, 1e-6);
        cr_assert_float_eq(step_us(two, 0, 0, tiles[i].n, 0), 1000 * tiles[i].ms * 10.2 / 18.4,
                           1e-6);
    }
    cr_assert_float_eq(step_us(h200, 10, 0, 0, 0) - step_us(h200, 0, 0, 10, 0), 310, 1e-6);
    cr_assert_float_eq(step_us(h200, 10, 1000, 0, 0) - step_us(h200, 10, 0, 0, 0), 61, 1e-6);
    /* 100 tokens over 1,000: 4 * 64 layers * 64 heads * 128 operations each. */
    double ms = 100 * 1000 * 2097152.0 / (0.45 * 989e12) * 1e3;
    cr_assert_float_eq(step_us(h200, 0, 0, 100, 1e5) - step_us(h200, 0, 0, 100, 0), 1e3 * ms, 1e-6);
    cr_assert_float_eq(step_us(two, 0, 0, 100, 1e5) - step_us(two, 0, 0, 100, 0), 500 * ms, 1e-6);
    profile_capacity(two, &capacity);
    cr_assert_eq(capacity.block_count, 760000 / 16);
    profile_free(h200);
    profile_free(two);
}

/* --- files */

#define FRONT "{\"espalier_profile\": 1, \"name\": \"mine\", \"kv_tokens\": 4096, "

static struct profile *profile_of(const char *text)
{
    char *path = file_of(text);
    struct profile *profile = the_profile(path);
    free_file(path);
    return profile;
}

Test(profile, forms)
{
    struct profile *linear =
        profile_of(FRONT "\"fixed_us\": 10, \"row_us\": 2, \"shared_prefix\": \"blocks\","
                         "\"gemm\": {\"form\": \"linear\", \"base_us\": 100, \"token_us\": 3}}");
    struct profile *roofline = profile_of(
        FRONT
        "\"gemm\": {\"form\": \"roofline\", \"base_us\": 30, \"token_us\": 2, \"power\": 2}}");
    struct profile *points = profile_of(
        FRONT "\"about\": {\"anything\": [1, 2]}, \"gemm\": {\"form\": \"points\", \"points\": "
              "[[1, 10], [11, 30], [21, 100]]}}");
    struct profile *tiles = profile_of(
        FRONT "\"gemm\": {\"form\": \"tiles\", \"tile\": 8, \"points\": [[8, 50], [16, 60]]}}");
    cr_assert_float_eq(step_us(linear, 3, 0, 4, 0), 10 + 6 + 100 + 21, 1e-9);
    cr_assert_eq(profile_shared_prefix(linear), SHARED_BLOCKS);
    cr_assert_float_eq(step_us(roofline, 10, 0, 10, 0), 50, 1e-9);
    static const double at[][2] = {{0, 10},  {1, 10},   {6, 20},  {11, 30},
                                   {16, 65}, {21, 100}, {31, 170}};
    for (size_t i = 0; i < COUNT_OF(at); i++)
        cr_assert_float_eq(step_us(points, 0, 0, (int32_t)at[i][0], 0), at[i][1], 1e-9);
    static const double stairs[][2] = {{1, 50},  {8, 50},  {9, 60},  {16, 60},
                                       {17, 90}, {24, 90}, {25, 120}};
    for (size_t i = 0; i < COUNT_OF(stairs); i++)
        cr_assert_float_eq(step_us(tiles, 0, 0, (int32_t)stairs[i][0], 0), stairs[i][1], 1e-9);
    profile_free(linear);
    profile_free(roofline);
    profile_free(points);
    profile_free(tiles);
}

/* Whatever a file holds, a step's time is a number, and more tokens do not make it fall below what
 * the last point says. */
Test(profile, no_step_is_endless_or_below_nothing)
{
    struct profile *sharp =
        profile_of(FRONT "\"gemm\": {\"form\": \"roofline\", \"base_us\": 20000, "
                         "\"token_us\": 1000, \"power\": 64}}");
    struct profile *nothing = profile_of(
        FRONT "\"gemm\": {\"form\": \"roofline\", \"base_us\": 0, \"token_us\": 0, \"power\": 3}}");
    struct profile *falling = profile_of(
        FRONT "\"gemm\": {\"form\": \"points\", \"points\": [[1, 20], [11, 30], [21, 20]]}}");
    cr_assert_float_eq(step_us(sharp, 0, 0, 2000, 0), 2e6, 1e-3);
    cr_assert_float_eq(step_us(sharp, 0, 0, 1, 0), 20000, 1e-3);
    cr_assert_float_eq(step_us(sharp, 0, 0, 20, 0), 20000 * pow(2, 1.0 / 64), 1e-3);
    cr_assert_float_eq(step_us(nothing, 0, 0, 100, 0), 0, 0);
    cr_assert_float_eq(step_us(falling, 0, 0, 16, 0), 25, 1e-9);
    cr_assert_float_eq(step_us(falling, 0, 0, 100, 0), 20, 1e-9);
    profile_free(sharp);
    profile_free(nothing);
    profile_free(falling);
}

/* What profile_json writes is read as the same profile. */
Test(profile, there_and_back)
{
    size_t count;
    const char *const *names = profile_builtin_names(&count);
    for (size_t i = 0; i < count; i++) {
        struct profile *profile = the_profile(names[i]);
        json_t *json = profile_json(profile);
        char *text = json_dumps(json, 0);
        struct profile *again = profile_of(text);
        json_t *json_again = profile_json(again);
        cr_assert(json_equal(json, json_again), "%s", text);
        for (int32_t n = 1; n < 900; n += 11)
            cr_assert_eq(step_us(profile, n, 1000 * n, 3 * n, 17.5 * n),
                         step_us(again, n, 1000 * n, 3 * n, 17.5 * n));
        profile_free(profile);
        profile_free(again);
        json_decref(json);
        json_decref(json_again);
        free(text);
    }
}

/* The example of docs/workloads.md. */
Test(profile, the_example_of_the_guide)
{
    static char page[1 << 17];
    FILE *file = fopen(SOURCE_DIR "/docs/workloads.md", "r");
    cr_assert_not_null(file);
    size_t length = fread(page, 1, sizeof page - 1, file);
    fclose(file);
    cr_assert_lt(length, sizeof page - 1);
    char *marker = strstr(page, "\"espalier_profile\": 1,\n");
    cr_assert_not_null(marker);
    while (*marker != '{')
        marker--;
    char *end = strstr(marker, "\n```");
    cr_assert_not_null(end);
    *end = '\0';
    struct profile *profile = profile_of(marker);
    cr_assert_str_eq(profile_name(profile), "my-engine");
    cr_assert_float_eq(step_us(profile, 16, 1000, 0, 0), 3000 + 9400 + 70 + 320, 1e-9);
    profile_free(profile);
}

static void check_error(const char *text, const char *first, const char *second)
{
    char *path = file_of(text);
    struct profile *profile = NULL;
    struct error err = {0};
    enum status status = profile_find(path, &profile, &err);
    cr_assert(status != ST_OK && !profile, "it is taken: %s", text);
    cr_assert(strstr(err.text, path) && strstr(err.text, first) && strstr(err.text, second),
              "%s: %s", text, err.text);
    free_file(path);
}

#define GEMM "\"gemm\": {\"form\": \"linear\", \"base_us\": 1, \"token_us\": 1}}"

Test(profile, what_is_wrong_is_said)
{
    check_error("", "line 1", "");
    check_error("{\n\"name\": ]\n}", "line 2", "");
    check_error("[1]", "'espalier_profile' is missing", "");
    check_error("{\"espalier_profile\": 2}", "'espalier_profile' is not 1", "");
    check_error("{\"espalier_profile\": 1, " GEMM, "'name' is missing", "1 to 63");
    check_error("{\"espalier_profile\": 1, \"name\": \"x\", " GEMM, "'kv_tokens' is missing",
                "whole number from 16");
    check_error(FRONT "\"noise\": 3, " GEMM, "'noise' is 3", "0 to 2");
    check_error(FRONT "\"noise\": \"3\", " GEMM, "'noise' is not a number", "0 to 2");
    check_error(FRONT "\"max_rows\": 2.5, " GEMM, "'max_rows' is 2.5", "whole");
    check_error(FRONT "\"depth\": 3, " GEMM, "'depth' is 3", "1 to 2");
    check_error(FRONT "\"fixed\": 3, " GEMM, "'fixed' is no key", "fixed_us");
    check_error(FRONT "\"shared_prefix\": \"all\", " GEMM, "'shared_prefix' is \"all\"",
                "\"siblings\", \"blocks\"");
    check_error(FRONT "\"shared_prefix\": 1, " GEMM, "'shared_prefix' is not a string", "\"none\"");
    check_error(FRONT "\"name\": \"twice\", " GEMM, "duplicate", "name");
    check_error(FRONT "\"noise\": 0}", "'gemm' is missing", "form");
    check_error(FRONT "\"gemm\": 5}", "'gemm' is not an object", "form");
    check_error(FRONT "\"gemm\": {}}", "'form' is missing", "\"roofline\"");
    check_error(FRONT "\"gemm\": {\"form\": \"cubic\"}}", "'form' is \"cubic\"", "\"tiles\"");
    check_error(FRONT "\"gemm\": {\"form\": \"linear\", \"base_us\": 1}}", "'token_us' is missing",
                "\"linear\"");
    check_error(FRONT
                "\"gemm\": {\"form\": \"linear\", \"base_us\": 1, \"token_us\": 1, \"tile\": 8}}",
                "'tile' is no key", "form, base_us, token_us");
    check_error(FRONT "\"gemm\": {\"form\": \"points\"}}", "'points' is no list", "1 to 64");
    check_error(FRONT "\"gemm\": {\"form\": \"points\", \"points\": []}}", "'points' is no list",
                "");
    check_error(FRONT "\"gemm\": {\"form\": \"points\", \"points\": [[1, 2], [3]]}}",
                "'points'[1] is not a pair", "");
    check_error(FRONT "\"gemm\": {\"form\": \"points\", \"points\": [[1, 2], [1, 3]]}}",
                "'points'[1] is at 1 tokens", "");
    check_error(FRONT "\"gemm\": {\"form\": \"points\", \"points\": [[-1, 2]]}}",
                "'points'[0] is [-1, 2]", "above 0");
    check_error(FRONT "\"gemm\": {\"form\": \"tiles\", \"points\": [[1, 2]]}}", "'tile' is missing",
                "\"tiles\"");
}

Test(profile, neither_name_nor_file)
{
    struct profile *profile;
    struct error err = {0};
    cr_assert_eq(profile_find("study-h300", &profile, &err), ST_NOT_FOUND);
    cr_assert(strstr(err.text, "'study-h300'") && strstr(err.text, "h100-qwen3-32b-fp8-noshare"),
              "%s", err.text);
    cr_assert_eq(profile_find("/tmp", &profile, &err), ST_IO, "%s", err.text);
}
