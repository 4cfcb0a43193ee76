#include "quant/checkpoint/format_plan.h"
#include "base/base.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

/* What is multiplied as one matrix. */
static const struct {
    enum tensor_role roles[3];
    int count;
} products[] = {
    {{TENSOR_EMBEDDING}, 1},
    {{TENSOR_HEAD}, 1},
    {{TENSOR_Q, TENSOR_K, TENSOR_V}, 3},
    {{TENSOR_O}, 1},
    {{TENSOR_GATE, TENSOR_UP}, 2},
    {{TENSOR_DOWN}, 1},
};

const char *written_name(enum tensor_role role, int32_t layer, char name[TENSOR_NAME_ROOM])
{
    snprintf(name, TENSOR_NAME_ROOM, tensor_role_hf_name(role), layer);
    return name;
}

static bool fits(enum tensor_role role, int32_t layer, const char *pattern)
{
    char name[TENSOR_NAME_ROOM];
    return fnmatch(pattern, written_name(role, layer, name), 0) == 0;
}

static enum file_type *slot(const struct format_plan *plan, enum tensor_role role, int32_t layer)
{
    return &plan->types[(int64_t)layer * TENSOR_ROLES + role];
}

/* Roles up to the final norm come once, in layer 0. */
static bool has(const struct checkpoint *source, enum tensor_role role, int32_t layer)
{
    bool once = role <= TENSOR_FINAL_NORM;
    return !(once && layer) && checkpoint_tensor(source, role, layer);
}

static void plan_layer(const struct checkpoint *source, enum file_type format, int32_t layer,
                       struct format_plan *plan)
{
    for (enum tensor_role role = 0; role < TENSOR_ROLES; role++) {
        enum file_type type = FILE_TYPES;
        if (has(source, role, layer))
            type = !tensor_role_is_matrix(role)                      ? FILE_F32
                   : role == TENSOR_EMBEDDING || role == TENSOR_HEAD ? FILE_W8
                                                                     : format;
        *slot(plan, role, layer) = type;
    }
}

/* How many matrices the pattern fits. */
static int64_t keep(const struct checkpoint *source, const char *pattern, struct format_plan *plan)
{
    int64_t found = 0;
    for (int32_t layer = 0; layer < plan->layers; layer++)
        for (size_t p = 0; p < COUNT_OF(products); p++) {
            int64_t here = 0;
            for (int i = 0; i < products[p].count; i++)
                here += has(source, products[p].roles[i], layer) &&
                        fits(products[p].roles[i], layer, pattern);
            for (int i = 0; here && i < products[p].count; i++)
                *slot(plan, products[p].roles[i], layer) = FILE_W8;
            found += here;
        }
    return found;
}

enum status format_plan_make(const struct checkpoint *source, enum file_type format,
                             const char *const *patterns, size_t count, struct format_plan *out,
                             struct error *err)
{
    out->layers = checkpoint_config(source)->layers;
    out->types = must_alloc((size_t)out->layers * TENSOR_ROLES * sizeof *out->types);
    for (int32_t layer = 0; layer < out->layers; layer++)
        plan_layer(source, format, layer, out);
    for (size_t i = 0; i < count; i++)
        if (!keep(source, patterns[i], out)) {
            char name[TENSOR_NAME_ROOM];
            return fail(err, ST_USAGE, "--keep %s fits no matrix; their names are like %s",
                        patterns[i], written_name(TENSOR_DOWN, 0, name));
        }
    return ST_OK;
}

void format_plan_release(struct format_plan *plan)
{
    free(plan->types);
    *plan = (struct format_plan){0};
}

enum file_type format_plan_type(const struct format_plan *plan, enum tensor_role role,
                                int32_t layer)
{
    return *slot(plan, role, layer);
}

const enum file_type *format_plan_types(const struct format_plan *plan, int32_t layer)
{
    return slot(plan, 0, layer);
}
