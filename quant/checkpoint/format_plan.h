/* Which tensor is written in which format: norms and biases f32, the embedding, the head and what
 * --keep names W8, the other matrices as --format says. Parts of a fused product (q, k and v; gate
 * and up) have one format, so keeping one keeps all. */
#ifndef QUANT_CHECKPOINT_FORMAT_PLAN_H
#define QUANT_CHECKPOINT_FORMAT_PLAN_H

#include "model/checkpoint.h"

struct format_plan {
    enum file_type *types; /* [layers][TENSOR_ROLES]; FILE_TYPES where there is no such tensor */
    int32_t layers;
};

/* `keep`: globs on Hugging Face's names (*, ?, [...]). ST_USAGE for one that fits no matrix. */
enum status format_plan_make(const struct checkpoint *source, enum file_type format,
                             const char *const *keep, size_t keep_count, struct format_plan *out,
                             struct error *err);
void format_plan_release(struct format_plan *plan);

enum file_type format_plan_type(const struct format_plan *plan, enum tensor_role role,
                                int32_t layer);

/* Of all roles of a layer: [TENSOR_ROLES]. */
const enum file_type *format_plan_types(const struct format_plan *plan, int32_t layer);

/* The name of a tensor as it is written. */
#define TENSOR_NAME_ROOM 128
const char *written_name(enum tensor_role role, int32_t layer, char name[TENSOR_NAME_ROOM]);

#endif
