/* The file of quantized directories against the reader. */
#include "base/base.h"
#include "model/checkpoint.h"
#include "model/quantized_directory.h"
#include "quant/checkpoint/side_files.h"
#include "quant/checkpoint/weight_file.h"
#include "tests/model/support_files.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- a plan of formats */

static struct checkpoint *tiny(void)
{
    struct checkpoint *source;
    struct error err = {0};
    cr_assert(checkpoint_open("synthetic:tiny", &source, &err) == ST_OK, "%s", err.text);
    return source;
}

static struct format_plan plan_of(const struct checkpoint *source, const char *keep)
{
    struct format_plan plan;
    struct error err = {0};
    cr_assert(format_plan_make(source, FILE_VSQ4Z, &keep, keep != NULL, &plan, &err) == ST_OK, "%s",
              err.text);
    return plan;
}

Test(format_plan, tables_are_w8_and_vectors_f32)
{
    struct checkpoint *source = tiny();
    struct format_plan plan = plan_of(source, NULL);
    cr_expect_eq(format_plan_type(&plan, TENSOR_EMBEDDING, 0), FILE_W8);
    cr_expect_eq(format_plan_type(&plan, TENSOR_FINAL_NORM, 0), FILE_F32);
    cr_expect_eq(format_plan_type(&plan, TENSOR_EMBEDDING, 1), FILE_TYPES);
    cr_expect_eq(format_plan_type(&plan, TENSOR_FFN_NORM, 1), FILE_F32);
    cr_expect_eq(format_plan_type(&plan, TENSOR_DOWN, 1), FILE_VSQ4Z);
    cr_expect_eq(format_plan_type(&plan, TENSOR_Q_NORM, 0), FILE_TYPES);
    format_plan_release(&plan);
    checkpoint_close(source);
}

Test(format_plan, what_is_kept_keeps_its_product)
{
    struct checkpoint *source = tiny();
    struct format_plan plan = plan_of(source, "*.1.self_attn.k_proj.weight");
    for (enum tensor_role role = TENSOR_Q; role <= TENSOR_V; role++) {
        cr_expect_eq(format_plan_type(&plan, role, 1), FILE_W8);
        cr_expect_eq(format_plan_type(&plan, role, 0), FILE_VSQ4Z);
    }
    cr_expect_eq(format_plan_type(&plan, TENSOR_O, 1), FILE_VSQ4Z);
    format_plan_release(&plan);
    plan = plan_of(source, "*up_proj*");
    cr_expect_eq(format_plan_type(&plan, TENSOR_GATE, 0), FILE_W8);
    cr_expect_eq(format_plan_type(&plan, TENSOR_GATE, 1), FILE_W8);
    cr_expect_eq(format_plan_type(&plan, TENSOR_DOWN, 1), FILE_VSQ4Z);
    format_plan_release(&plan);
    checkpoint_close(source);
}

Test(format_plan, a_pattern_that_fits_nothing_is_wrong_usage)
{
    struct checkpoint *source = tiny();
    struct format_plan plan;
    struct error err = {0};
    const char *patterns[] = {"*down_proj*", "model.layers.*.norm.weight"};
    expect_refusal(format_plan_make(source, FILE_VSQ4Z, patterns, 2, &plan, &err), &err, ST_USAGE,
                   "--keep model.layers.*.norm.weight fits no matrix");
    format_plan_release(&plan);
    checkpoint_close(source);
}

/* --- a whole directory of random codes */

static uint64_t state = 1;

static uint8_t random_byte(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint8_t)(state >> 56);
}

static void *random_bytes(size_t count)
{
    uint8_t *bytes = must_alloc(count + 1);
    for (size_t i = 0; i < count; i++)
        bytes[i] = random_byte();
    return bytes;
}

static float *random_floats(int64_t count)
{
    float *values = must_alloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)random_byte() / 4096;
    return values;
}

/* What was written of a tensor. */
struct written {
    struct vsq4z_matrix vsq4z;
    struct w8_matrix w8;
    float *values;
};

static void write_tensor(struct weight_file *file, enum tensor_role role, int32_t layer,
                         enum file_type type, int64_t rows, int64_t cols, struct written *out)
{
    struct error err = {0};
    enum status status;
    if (type == FILE_VSQ4Z) { /* synthetic:tiny has no padding */
        struct vsq4z_row row = {.cols = cols,
                                .codes = must_alloc((size_t)cols),
                                .scales = must_alloc((size_t)vsq4z_vectors(cols)),
                                .zeros = must_alloc((size_t)vsq4z_vectors(cols))};
        struct vsq4z_arrays to = {must_alloc((size_t)(rows * vsq4z_code_bytes(cols))),
                                  must_alloc((size_t)(rows * vsq4z_scale_bytes(cols))),
                                  must_alloc((size_t)(rows * vsq4z_zero_bytes(cols))),
                                  must_alloc((size_t)rows * sizeof(float))};
        for (int64_t i = 0; i < rows; i++) {
            row.row_scale = (float)random_byte() / 512;
            for (int64_t k = 0; k < cols; k++)
                row.codes[k] = random_byte() & 15;
            for (int64_t v = 0; v < vsq4z_vectors(cols); v++) {
                row.scales[v] = random_byte() & 15;
                row.zeros[v] = (uint8_t)(7 + (random_byte() & 1));
            }
            vsq4z_store_row(&row, i, &to);
        }
        free(row.codes);
        free(row.scales);
        free(row.zeros);
        out->vsq4z = (struct vsq4z_matrix){rows, cols, to.codes, to.scales, to.zeros, to.row_scale};
        status = weight_file_vsq4z(file, role, layer, &out->vsq4z, &err);
        weight_file_record(file, role, layer, json_pack("{s:s}", "format", "VSQ4z"));
    } else if (type == FILE_W8) { /* in two pieces */
        int8_t *values = random_bytes((size_t)(rows * cols));
        uint16_t *scales = must_alloc((size_t)(rows * w8_groups(cols)) * sizeof *scales);
        for (int64_t i = 0; i < rows * cols; i++)
            if (values[i] == -128) values[i] = 0;
        for (int64_t i = 0; i < rows * w8_groups(cols); i++)
            scales[i] = (uint16_t)(0x3c00 + random_byte());
        out->w8 = (struct w8_matrix){rows, cols, values, scales};
        struct w8_matrix first = {rows / 3, cols, values, scales};
        struct w8_matrix rest = {rows - rows / 3, cols, values + rows / 3 * cols,
                                 scales + rows / 3 * w8_groups(cols)};
        status = weight_file_w8(file, role, layer, &first, &err);
        if (!status) status = weight_file_w8(file, role, layer, &rest, &err);
        weight_file_record(file, role, layer, json_pack("{s:s}", "format", "W8"));
    } else {
        out->values = random_floats(cols);
        status = weight_file_vector(file, role, layer, out->values, &err);
    }
    cr_assert(status == ST_OK, "%s", err.text);
}

static void expect_read(const struct checkpoint_tensor *found, const struct written *written)
{
    int64_t rows = found->rows, cols = found->cols;
    if (found->type == FILE_VSQ4Z) {
        const struct vsq4z_matrix *a = &found->vsq4z, *b = &written->vsq4z;
        cr_expect(!memcmp(a->codes, b->codes, (size_t)(rows * vsq4z_code_bytes(cols))));
        cr_expect(!memcmp(a->scales, b->scales, (size_t)(rows * vsq4z_scale_bytes(cols))));
        cr_expect(!memcmp(a->zeros, b->zeros, (size_t)(rows * vsq4z_zero_bytes(cols))));
        cr_expect(!memcmp(a->row_scale, b->row_scale, (size_t)rows * sizeof(float)));
    } else if (found->type == FILE_W8) {
        cr_expect(!memcmp(found->w8.values, written->w8.values, (size_t)(rows * cols)));
        cr_expect(!memcmp(found->w8.scales, written->w8.scales,
                          (size_t)(rows * w8_groups(cols)) * sizeof(uint16_t)));
    } else {
        cr_expect(!memcmp(found->data, written->values, (size_t)cols * sizeof(float)));
    }
}

static void free_written(struct written *w)
{
    const void *parts[] = {w->vsq4z.codes, w->vsq4z.scales, w->vsq4z.zeros, w->vsq4z.row_scale,
                           w->w8.values,   w->w8.scales,    w->values};
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        free((void *)parts[i]);
}

/* Each tensor of the source once, through `visit`. */
#define FOR_TENSORS(source, role, layer, tensor)                                                  \
    for (int32_t layer = 0; layer < checkpoint_config(source)->layers; layer++)                   \
        for (enum tensor_role role = 0; role < TENSOR_ROLES; role++)                              \
            for (const struct checkpoint_tensor *tensor =                                         \
                     layer && role <= TENSOR_FINAL_NORM ? NULL                                    \
                                                        : checkpoint_tensor(source, role, layer); \
                 tensor; tensor = NULL)

Test(weight_file, what_is_written_is_read)
{
    struct checkpoint *source = tiny(), *back;
    struct format_plan plan = plan_of(source, "*.1.mlp.down_proj*");
    struct error err = {0};
    struct partial partial;
    struct weight_file *file;
    struct written *written = must_alloc((size_t)plan.layers * TENSOR_ROLES * sizeof *written);
    char *parent = make_directory(), target[600];
    json_t *record, *head = json_pack("{s:{}, s:{}}", "source", "options");
    snprintf(target, sizeof target, "%s/out", parent);
    cr_assert(partial_begin(target, false, &partial, &err) == ST_OK, "%s", err.text);
    cr_assert(side_files_write("synthetic:tiny", source, &partial, &err) == ST_OK, "%s", err.text);
    cr_assert(weight_file_create(&partial, source, &plan, &file, &err) == ST_OK, "%s", err.text);
    FOR_TENSORS(source, role, layer, tensor)
    write_tensor(file, role, layer, format_plan_type(&plan, role, layer), tensor->rows,
                 tensor->cols, &written[layer * TENSOR_ROLES + (int32_t)role]);
    cr_assert(weight_file_finish(file, head, &record, &err) == ST_OK, "%s", err.text);
    weight_file_close(file);
    cr_assert(partial_commit(&partial, &err) == ST_OK, "%s", err.text);
    cr_assert(checkpoint_open(target, &back, &err) == ST_OK, "%s", err.text);
    FOR_TENSORS(source, role, layer, tensor)
    {
        const struct checkpoint_tensor *found = checkpoint_tensor(back, role, layer);
        cr_assert_eq(found->type, format_plan_type(&plan, role, layer));
        expect_read(found, &written[layer * TENSOR_ROLES + (int32_t)role]);
        free_written(&written[layer * TENSOR_ROLES + (int32_t)role]);
    }
    cr_expect_eq(checkpoint_config(back)->layers, checkpoint_config(source)->layers);
    checkpoint_close(back);
    checkpoint_close(source);
    json_decref(record);
    json_decref(head);
    free(written);
    format_plan_release(&plan);
    remove_directory(must_strdup(target));
    remove_directory(parent);
}
