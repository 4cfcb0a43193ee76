#include "quant/checkpoint/recipe.h"
#include "base/base.h"
#include "quant/check.h"
#include "quant/checkpoint/awq.h"
#include "quant/checkpoint/calibrate.h"
#include "quant/checkpoint/code_matrix.h"
#include "quant/checkpoint/retarget.h"

#include <stdlib.h>
#include <string.h>

struct recipe {
    struct recipe_options options;
    const struct checkpoint *source;
    struct thread_pool *pool;
    struct calibration *calibration; /* NULL without a text */
    double *gram;                    /* of the product in work, [widest][widest] */
    double *cross;                   /* gptq: what its inputs or outputs lack, as large */
    bool exact; /* gptq: the exact stream is followed beside the quantized one */
    int32_t next;
};

const char *method_name(enum method method)
{
    static const char *const names[] = {"rtn", "awq", "gptq", "awq+gptq"};
    return names[method];
}

static bool uses(const struct recipe *r, enum method method)
{
    return r->options.method == method || r->options.method == METHOD_AWQ_GPTQ;
}

enum status recipe_create(const struct recipe_options *options, const struct checkpoint *source,
                          struct thread_pool *pool, struct recipe **out, struct error *err)
{
    if (options->method != METHOD_RTN && !options->tokens)
        return fail(err, ST_USAGE, "--method %s needs a text: --calibrate FILE",
                    method_name(options->method));
    struct recipe *r = must_alloc(sizeof *r);
    *r = (struct recipe){.options = *options, .source = source, .pool = pool};
    r->exact = uses(r, METHOD_GPTQ);
    enum status status = ST_OK;
    if (options->tokens) {
        const struct model_config *c = checkpoint_config(source);
        int64_t attended = (int64_t)c->heads * c->head_dim;
        int64_t most = attended > c->intermediate ? attended : c->intermediate;
        if (most < c->hidden) most = c->hidden;
        r->gram = try_alloc((size_t)(most * most), sizeof *r->gram);
        if (r->exact) r->cross = try_alloc((size_t)(most * most), sizeof *r->cross);
        if (!r->gram || (r->exact && !r->cross))
            status = fail(err, ST_NO_MEMORY, "no memory for a Gram matrix of %lld inputs",
                          (long long)most);
        else
            status = calibration_create(source, options->tokens, options->windows, r->exact, pool,
                                        &r->calibration, err);
    }
    if (status) {
        recipe_free(r);
        return status;
    }
    *out = r;
    return ST_OK;
}

void recipe_free(struct recipe *r)
{
    if (!r) return;
    calibration_free(r->calibration);
    free(r->gram);
    free(r->cross);
    free(r);
}

/* --- one product: the matrices that read the same inputs */

struct group {
    enum tensor_role roles[3];
    int count;
    enum tensor_role norm; /* where AWQ's scales go; TENSOR_ROLES: no norm makes the inputs */
};

static const struct group qkv = {{TENSOR_Q, TENSOR_K, TENSOR_V}, 3, TENSOR_ATTN_NORM};
static const struct group output = {{TENSOR_O}, 1, TENSOR_ROLES};
static const struct group gate_up = {{TENSOR_GATE, TENSOR_UP}, 2, TENSOR_FFN_NORM};
static const struct group down = {{TENSOR_DOWN}, 1, TENSOR_ROLES};

/* A layer on its way. */
struct layer_work {
    struct recipe *recipe;
    struct float_layer *layer;
    const enum file_type *types;
    struct coded_matrix *matrices;
    struct error *err;
};

static void energies_of(const struct recipe *r, int64_t cols, float *energies)
{
    double tokens = (double)calibration_tokens(r->calibration);
    for (int64_t k = 0; k < cols; k++)
        energies[k] = (float)(r->gram[k * cols + k] / tokens);
}

static void scale_inputs(const struct layer_work *w, const struct group *group, float *energies)
{
    const struct recipe *r = w->recipe;
    struct float_matrix *norm = &w->layer->tensors[group->norm], *matrices[3];
    int64_t cols = norm->cols;
    float *scales = must_alloc((size_t)cols * sizeof *scales);
    for (int m = 0; m < group->count; m++)
        matrices[m] = &w->layer->tensors[group->roles[m]];
    if (awq_choose((const struct float_matrix *const *)matrices, group->count, energies, r->pool,
                   scales)) {
        awq_fold(norm, matrices, group->count, scales);
        for (int64_t i = 0; i < cols; i++)
            for (int64_t j = 0; j < cols; j++)
                r->gram[i * cols + j] /= (double)scales[i] * (double)scales[j];
        energies_of(r, cols, energies);
    }
    free(scales);
}

static enum status undetermined(const struct layer_work *w, const struct group *group)
{
    return fail(w->err, ST_INVALID,
                "the calibration text does not determine a product of %lld inputs; give more of it",
                (long long)w->layer->tensors[group->roles[0]].cols);
}

/* Quantizes the group's matrices and leaves what they have become in the layer's f32, on which the
 * rest of the layer is calibrated. With a text, r->gram is the group's. */
static enum status quantize(const struct layer_work *w, const struct group *group)
{
    const struct recipe *r = w->recipe;
    int64_t cols = w->layer->tensors[group->roles[0]].cols;
    float *energies = NULL;
    struct gptq_factor factor = {0};
    enum status status = ST_OK;
    bool coded = w->types[group->roles[0]] == FILE_VSQ4Z;
    if (r->calibration && coded) {
        energies = must_alloc((size_t)cols * sizeof *energies);
        energies_of(r, cols, energies);
        if (uses(r, METHOD_AWQ) && group->norm != TENSOR_ROLES) scale_inputs(w, group, energies);
        if (uses(r, METHOD_GPTQ) && !gptq_factor_make(r->gram, cols, 0.01, r->pool, &factor))
            status = undetermined(w, group);
    }
    for (int m = 0; !status && m < group->count; m++) {
        enum tensor_role role = group->roles[m];
        enum file_type type = w->types[role];
        struct coding coding = {.type = type,
                                .clip = type == r->options.format ? r->options.clip : CLIP_MAX,
                                .importance = energies,
                                .factor = factor.u ? &factor : NULL};
        status =
            code_matrix(&w->layer->tensors[role], &coding, r->pool, &w->matrices[role], w->err);
    }
    gptq_factor_free(&factor);
    free(energies);
    return status;
}

/* --- a layer */

static enum status without_text(const struct layer_work *w)
{
    enum status status;
    if ((status = quantize(w, &qkv)) || (status = quantize(w, &output)) ||
        (status = quantize(w, &gate_up)))
        return status;
    return quantize(w, &down);
}

/* What a model computes on a text may overflow. */
static enum status check_energies(const struct layer_work *w, const struct group *group)
{
    const struct recipe *r = w->recipe;
    int64_t cols = w->layer->tensors[group->roles[0]].cols;
    float *energies = must_alloc((size_t)cols * sizeof *energies);
    energies_of(r, cols, energies);
    enum status status = quant_check_importance(energies, cols, w->err);
    free(energies);
    return status ? fail_prefix(w->err, "layer %d on the calibration text", r->next - 1) : ST_OK;
}

/* Before q, k, v or gate, up: gram is theirs. */
static enum status see_stream(const struct layer_work *w, const struct group *group)
{
    struct recipe *r = w->recipe;
    const float *norm = w->layer->tensors[group->norm].values;
    calibration_norm_gram(r->calibration, norm, r->gram, r->cross);
    enum status status = check_energies(w, group);
    if (status || !r->exact || w->types[group->roles[0]] != FILE_VSQ4Z) return status;
    struct float_matrix *matrices[3];
    for (int m = 0; m < group->count; m++)
        matrices[m] = &w->layer->tensors[group->roles[m]];
    if (!retarget_by_inputs(matrices, group->count, r->gram, r->cross, r->pool))
        return undetermined(w, group);
    return ST_OK;
}

/* Before o or down; `exact`: the layer as it was. */
static enum status see_intermediate(const struct layer_work *w, const struct group *group,
                                    const struct float_layer *exact)
{
    struct recipe *r = w->recipe;
    enum tensor_role role = group->roles[0];
    struct float_matrix *matrix = &w->layer->tensors[role];
    if (!r->exact) {
        calibration_wide_diagonal(r->calibration, matrix->cols, r->gram);
        return check_energies(w, group);
    }
    enum status status = role == TENSOR_O
                             ? calibration_exact_attention(r->calibration, exact, w->err)
                             : calibration_exact_ffn(r->calibration, exact, w->err);
    if (!status)
        status = calibration_gap_grams(r->calibration, w->layer, role, r->gram, r->cross, w->err);
    if (!status) status = check_energies(w, group);
    if (status || w->types[role] != FILE_VSQ4Z) return status;
    return retarget_by_outputs(matrix, r->gram, r->cross, r->pool) ? ST_OK : undetermined(w, group);
}

static enum status with_text(const struct layer_work *w, const struct float_layer *exact)
{
    struct calibration *c = w->recipe->calibration;
    enum status status;
    if ((status = see_stream(w, &qkv)) || (status = quantize(w, &qkv)) ||
        (status = calibration_attend(c, w->layer, w->err)) ||
        (status = see_intermediate(w, &output, exact)) || (status = quantize(w, &output)) ||
        (status = calibration_add(c, w->layer, TENSOR_O, w->err)) ||
        (status = see_stream(w, &gate_up)) || (status = quantize(w, &gate_up)) ||
        (status = calibration_gate_up(c, w->layer, w->err)) ||
        (status = see_intermediate(w, &down, exact)) || (status = quantize(w, &down)))
        return status;
    return calibration_add(c, w->layer, TENSOR_DOWN, w->err);
}

enum status recipe_layer(struct recipe *r, int32_t layer, const enum file_type *types,
                         struct float_layer *vectors, struct coded_matrix *matrices,
                         struct error *err)
{
    invariant(layer == r->next, "layer %d of a recipe, %d is next", layer, r->next);
    r->next++;
    enum status status = float_layer_load(r->source, layer, r->pool, vectors, err);
    if (status) return status;
    struct layer_work work = {r, vectors, types, matrices, err};
    struct float_layer exact = {0};
    if (r->exact) status = float_layer_load(r->source, layer, r->pool, &exact, err);
    if (!status) status = r->calibration ? with_text(&work, &exact) : without_text(&work);
    float_layer_release(&exact);
    for (enum tensor_role role = 0; role < TENSOR_ROLES; role++)
        if (matrices[role].rows) {
            free(vectors->tensors[role].values);
            vectors->tensors[role] = (struct float_matrix){0};
        }
    return status;
}
