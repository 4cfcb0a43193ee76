#include "quant/checkpoint/layout.h"
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* of the data in the file */

static const enum file_type order[] = {FILE_F32, FILE_BF16, FILE_I8, FILE_U8};

struct part *layout_parts(const struct layout *layout, enum tensor_role role, int32_t layer)
{
    return &layout->parts[((int64_t)layer * TENSOR_ROLES + role) * PARTS_PER_TENSOR];
}

static size_t element_bytes(enum file_type type)
{
    return type == FILE_F32 ? 4 : type == FILE_BF16 ? 2 : 1;
}

static void set_part(struct part *part, const char *name, const char *suffix, enum file_type type,
                     int64_t rows, int64_t cols)
{
    snprintf(part->name, sizeof part->name, "%s%s", name, suffix);
    part->type = type;
    part->dims[0] = rows;
    part->dims[1] = cols;
    part->bytes = (size_t)(rows * (cols ? cols : 1)) * element_bytes(type);
}

static void set_parts(struct part *parts, const char *name, enum file_type type, int64_t rows,
                      int64_t cols)
{
    if (type == FILE_VSQ4Z) {
        set_part(&parts[0], name, ".codes", FILE_U8, rows, vsq4z_code_bytes(cols));
        set_part(&parts[1], name, ".scales", FILE_U8, rows, vsq4z_scale_bytes(cols));
        set_part(&parts[2], name, ".zeros", FILE_U8, rows, vsq4z_zero_bytes(cols));
        set_part(&parts[3], name, ".row_scale", FILE_F32, rows, 0);
    } else if (type == FILE_W8) {
        set_part(&parts[0], name, ".int8", FILE_I8, rows, cols);
        set_part(&parts[1], name, ".scale", FILE_BF16, rows, w8_groups(cols));
    } else {
        set_part(&parts[0], name, "", FILE_F32, cols, 0);
    }
}

static int64_t part_count(const struct layout *layout)
{
    return (int64_t)layout->layers * TENSOR_ROLES * PARTS_PER_TENSOR;
}

static void place_parts(struct layout *layout)
{
    for (size_t o = 0; o < COUNT_OF(order); o++)
        for (int64_t i = 0; i < part_count(layout); i++) {
            struct part *part = &layout->parts[i];
            if (!part->bytes || part->type != order[o]) continue;
            part->offset = layout->data_bytes;
            layout->data_bytes += part->bytes;
        }
}

void layout_make(const struct checkpoint *source, const struct format_plan *plan,
                 struct layout *out)
{
    char name[TENSOR_NAME_ROOM];
    *out = (struct layout){.layers = plan->layers};
    out->parts = must_alloc((size_t)part_count(out) * sizeof *out->parts);
    for (int32_t layer = 0; layer < plan->layers; layer++)
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++) {
            enum file_type type = format_plan_type(plan, role, layer);
            if (type == FILE_TYPES) continue;
            const struct checkpoint_tensor *tensor = checkpoint_tensor(source, role, layer);
            set_parts(layout_parts(out, role, layer), written_name(role, layer, name), type,
                      tensor->rows, tensor->cols);
        }
    place_parts(out);
}

void layout_release(struct layout *layout)
{
    free(layout->parts);
    *layout = (struct layout){0};
}

/* --- the header */

static void put_entry(const struct part *part, struct strbuf *out)
{
    strbuf_format(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", part->name,
                  file_type_name(part->type), (long long)part->dims[0]);
    if (part->dims[1]) strbuf_format(out, ",%lld", (long long)part->dims[1]);
    strbuf_format(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)part->offset,
                  (unsigned long long)(part->offset + part->bytes));
}

void layout_header(const struct layout *layout, struct strbuf *out)
{
    uint64_t length = 0;
    strbuf_append(out, &length, sizeof length);
    strbuf_text(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t o = 0; o < COUNT_OF(order); o++)
        for (int64_t i = 0; i < part_count(layout); i++)
            if (layout->parts[i].bytes && layout->parts[i].type == order[o])
                put_entry(&layout->parts[i], out);
    strbuf_char(out, '}');
    while (out->length % ALIGNMENT)
        strbuf_char(out, ' ');
    length = out->length - sizeof length;
    memcpy(out->data, &length, sizeof length);
}
