/* Where every byte of model.safetensors goes, known before the first is written: shapes follow from
 * the plan. Parts lie by type (F32, BF16, I8, U8), so that scales are aligned and nothing is
 * between two parts; within a type in the order of layers. */
#ifndef QUANT_CHECKPOINT_LAYOUT_H
#define QUANT_CHECKPOINT_LAYOUT_H

#include "base/strbuf.h"
#include "quant/checkpoint/format_plan.h"

#define PART_NAME_ROOM (TENSOR_NAME_ROOM + 16)

struct part {
    char name[PART_NAME_ROOM];
    enum file_type type; /* FILE_F32, FILE_BF16, FILE_I8 or FILE_U8 */
    int64_t dims[2];     /* a second of 0: a vector */
    size_t bytes;
    uint64_t offset; /* in the data */
};

enum { PARTS_PER_TENSOR = 4 };

struct layout {
    struct part *parts; /* [layers][TENSOR_ROLES][PARTS_PER_TENSOR]; bytes 0 where there is none */
    int32_t layers;
    uint64_t data_bytes;
};

void layout_make(const struct checkpoint *source, const struct format_plan *plan,
                 struct layout *out);
void layout_release(struct layout *layout);

/* The parts of one tensor: the only one of a vector; codes, scales, zeros, row_scale; int8, scale.
 */
struct part *layout_parts(const struct layout *layout, enum tensor_role role, int32_t layer);

/* Length, JSON and padding: what stands before the data, a multiple of 64 bytes. */
void layout_header(const struct layout *layout, struct strbuf *out);

#endif
