/* Recipes on the smallest synthetic model: what a text changes, the bookkeeping of the two streams,
 * and the same codes on any number of threads. */
#include "base/base.h"
#include "base/rng.h"
#include "quant/checkpoint/calibrate.h"
#include "quant/checkpoint/format_plan.h"
#include "quant/checkpoint/recipe.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOWS = 2, TOKENS = WINDOWS * CALIBRATION_WINDOW };

static struct checkpoint *source;
static struct thread_pool *pool;
static int32_t tokens[TOKENS];

static void open_model(void)
{
    struct error err;
    struct rng rng = {8};
    cr_assert_eq(checkpoint_open("synthetic:tiny", &source, &err), ST_OK, "%s", err.text);
    cr_assert_eq(thread_pool_create(2, &pool, &err), ST_OK);
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)rng_below(&rng, (uint32_t)checkpoint_config(source)->vocab);
}

static void close_model(void)
{
    thread_pool_free(pool);
    checkpoint_close(source);
}

TestSuite(recipe, .init = open_model, .fini = close_model);

/* --- codes */

struct coded_layer {
    struct float_layer vectors;
    struct coded_matrix matrices[TENSOR_ROLES];
};

static struct coded_layer *quantize(enum method method, int threads)
{
    struct error err;
    struct format_plan plan;
    struct recipe *recipe;
    struct thread_pool *members;
    struct recipe_options options = {FILE_VSQ4Z, CLIP_SEARCH, method, tokens, WINDOWS};
    int32_t layers = checkpoint_config(source)->layers;
    struct coded_layer *out = must_alloc((size_t)layers * sizeof *out);
    memset(out, 0, (size_t)layers * sizeof *out);
    cr_assert_eq(thread_pool_create(threads, &members, &err), ST_OK);
    cr_assert_eq(format_plan_make(source, FILE_VSQ4Z, NULL, 0, &plan, &err), ST_OK);
    cr_assert_eq(recipe_create(&options, source, members, &recipe, &err), ST_OK);
    for (int32_t i = 0; i < layers; i++)
        cr_assert_eq(recipe_layer(recipe, i, format_plan_types(&plan, i), &out[i].vectors,
                                  out[i].matrices, &err),
                     ST_OK, "%s", err.text);
    recipe_free(recipe);
    format_plan_release(&plan);
    thread_pool_free(members);
    return out;
}

static void release(struct coded_layer *model)
{
    for (int32_t i = 0; i < checkpoint_config(source)->layers; i++) {
        float_layer_release(&model[i].vectors);
        for (int role = 0; role < TENSOR_ROLES; role++)
            coded_matrix_release(&model[i].matrices[role]);
    }
    free(model);
}

static bool equal(const struct coded_matrix *a, const struct coded_matrix *b)
{
    size_t rows = (size_t)a->rows;
    return !memcmp(a->vsq4z.codes, b->vsq4z.codes, rows * (size_t)vsq4z_code_bytes(a->cols)) &&
           !memcmp(a->vsq4z.scales, b->vsq4z.scales, rows * (size_t)vsq4z_scale_bytes(a->cols)) &&
           !memcmp(a->vsq4z.zeros, b->vsq4z.zeros, rows * (size_t)vsq4z_zero_bytes(a->cols)) &&
           !memcmp(a->vsq4z.row_scale, b->vsq4z.row_scale, rows * sizeof(float));
}

/* How many of the model's matrices and vectors are the same bytes. */
static int count_equal(const struct coded_layer *a, const struct coded_layer *b, int *all)
{
    int same = 0;
    *all = 0;
    for (int32_t i = 0; i < checkpoint_config(source)->layers; i++)
        for (int role = 0; role < TENSOR_ROLES; role++) {
            const struct coded_matrix *m = &a[i].matrices[role], *n = &b[i].matrices[role];
            const struct float_matrix *v = &a[i].vectors.tensors[role];
            const struct float_matrix *u = &b[i].vectors.tensors[role];
            if (!m->rows && !v->values) continue;
            ++*all;
            same += m->rows ? equal(m, n)
                            : !memcmp(v->values, u->values, (size_t)v->cols * sizeof(float));
        }
    return same;
}

Test(recipe, same_codes_on_any_number_of_threads)
{
    for (enum method method = METHOD_RTN; method <= METHOD_AWQ_GPTQ; method++) {
        int all;
        struct coded_layer *one = quantize(method, 1), *three = quantize(method, 3);
        int same = count_equal(one, three, &all);
        cr_assert_eq(same, all, "%s: %d of %d", method_name(method), same, all);
        cr_assert_gt(all, 0);
        release(one);
        release(three);
    }
}

/* Every method is one: no two give the same matrices (vectors change with awq alone). */
Test(recipe, methods_differ)
{
    int32_t layers = checkpoint_config(source)->layers;
    struct coded_layer *made[4];
    for (enum method method = METHOD_RTN; method <= METHOD_AWQ_GPTQ; method++)
        made[method] = quantize(method, 2);
    for (int a = 0; a < 4; a++)
        for (int b = a + 1; b < 4; b++) {
            int all, same = count_equal(made[a], made[b], &all);
            cr_assert_leq(same, all - 7 * layers, "%s and %s: %d of %d are equal",
                          method_name((enum method)a), method_name((enum method)b), same, all);
        }
    for (int a = 0; a < 4; a++)
        release(made[a]);
}

Test(recipe, method_without_a_text)
{
    struct error err;
    struct recipe *recipe;
    struct recipe_options options = {.clip = CLIP_SEARCH, .method = METHOD_GPTQ};
    cr_assert_eq(recipe_create(&options, source, pool, &recipe, &err), ST_USAGE);
    cr_assert(strstr(err.text, "--calibrate"), "%s", err.text);
}

/* --- the streams */

static double largest(const double *values, int64_t count)
{
    double most = 0;
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs(values[i]));
    return most;
}

/* A layer with `changed` times its weights of gate; the largest gap at o and at down. */
static void pass_layer(struct calibration *c, int32_t index, float changed, double gaps[2])
{
    struct error err;
    struct float_layer layer, exact;
    const struct model_config *m = checkpoint_config(source);
    int64_t wide = m->intermediate > m->hidden ? m->intermediate : m->hidden;
    double *gram = must_alloc((size_t)(wide * wide) * sizeof *gram);
    double *cross = must_alloc((size_t)(wide * wide) * sizeof *cross);
    cr_assert_eq(float_layer_load(source, index, pool, &layer, &err), ST_OK);
    cr_assert_eq(float_layer_load(source, index, pool, &exact, &err), ST_OK);
    struct float_matrix *gate = &layer.tensors[TENSOR_GATE];
    for (int64_t i = 0; i < gate->rows * gate->cols; i++)
        gate->values[i] *= changed;
    calibration_norm_gram(c, layer.tensors[TENSOR_ATTN_NORM].values, gram, cross);
    cr_assert_gt(gram[0], 0);
    cr_assert_eq(calibration_attend(c, &layer, &err), ST_OK);
    cr_assert_eq(calibration_exact_attention(c, &exact, &err), ST_OK);
    cr_assert_eq(calibration_gap_grams(c, &layer, TENSOR_O, gram, cross, &err), ST_OK);
    gaps[0] = largest(cross, m->hidden * layer.tensors[TENSOR_O].cols);
    cr_assert_eq(calibration_add(c, &layer, TENSOR_O, &err), ST_OK);
    cr_assert_eq(calibration_gate_up(c, &layer, &err), ST_OK);
    cr_assert_eq(calibration_exact_ffn(c, &exact, &err), ST_OK);
    cr_assert_eq(calibration_gap_grams(c, &layer, TENSOR_DOWN, gram, cross, &err), ST_OK);
    gaps[1] = largest(cross, m->hidden * layer.tensors[TENSOR_DOWN].cols);
    cr_assert_eq(calibration_add(c, &layer, TENSOR_DOWN, &err), ST_OK);
    float_layer_release(&layer);
    float_layer_release(&exact);
    free(gram);
    free(cross);
}

/* Weights as they were: both streams are the same bits, layer after layer. Then a change shows
 * where it is made, and behind it. */
Test(recipe, streams_part_where_weights_do)
{
    struct error err;
    struct calibration *c;
    double gaps[2];
    int32_t layers = checkpoint_config(source)->layers;
    cr_assert_geq(layers, 2);
    cr_assert_eq(calibration_create(source, tokens, WINDOWS, true, pool, &c, &err), ST_OK);
    for (int32_t i = 0; i < layers - 1; i++) {
        pass_layer(c, i, 1, gaps);
        cr_assert_eq(gaps[0], 0, "layer %d", i);
        cr_assert_eq(gaps[1], 0, "layer %d", i);
    }
    pass_layer(c, layers - 1, 1.5f, gaps);
    cr_assert_eq(gaps[0], 0);
    cr_assert_gt(gaps[1], 0);
    calibration_free(c);
}
